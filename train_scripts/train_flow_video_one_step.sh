#!/usr/bin/env bash
# Flow of a video in one deterministic step, from the adapter of train_flow_video.sh and its data: first at that adapter's rank, then cut to a smaller one.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -d data/many_clips ] || python -m utils.scenes.write_clips --output_dir data/many_clips --num_samples 6000 --seed 100000 --num_frames 16 \
  --num_tracks 8 --num_objects 1 2 3

run() {
  python train_models/train_svd_flow.py --objective one_step --train_data_dir data/many_clips --max_train_samples 3000 --random_flip --cache_latents \
    --clip_frames 16 --lora_targets '^(?!.*emb)' --train_batch_size 8 --learning_rate 1.4e-3 --lr_warmup_steps 20 --use_ema --mixed_precision bf16 \
    --no-gradient_checkpointing --checkpointing_steps 100 --checkpoints_total_limit 1 --resume_from_checkpoint latest --seed 7 "$@"
}

run --output_dir outputs/flow_one_step_16 --init_adapter weights/flow_video --rank 16 --max_train_steps 1200 --lr_scheduler constant_with_warmup \
  --ema_decay 0.98
run --output_dir outputs/flow_one_step --init_adapter outputs/flow_one_step_16 --rank 6 --max_train_steps 1800 --lr_scheduler linear --ema_decay 0.99 \
  --save_dtype float8_e4m3fn
