#!/usr/bin/env bash
# Joint adapter of video and optical flow on the small image-to-video base, on clips with exact flow, in four parts: the first trains a larger one.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -d data/clips ] || python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
[ -d data/many_clips ] || python -m utils.scenes.write_clips --output_dir data/many_clips --num_samples 6000 --seed 100000 --num_frames 16 \
  --num_tracks 8 --num_objects 1 2 3

run() {
  python train_models/train_flow_video.py --temporal --random_flip --cache_latents --clip_frames 16 --use_ema --mixed_precision bf16 \
    --no-gradient_checkpointing --checkpointing_steps 150 --checkpoints_total_limit 1 "$@"
}
further() {
  run --train_data_dir data/many_clips --max_train_samples 3000 --output_dir outputs/flow_video --init_adapter outputs/flow_video_1 --rank 16 \
    --save_dtype float8_e4m3fn --one_way_share 0.85 --lr_warmup_steps 30 --ema_decay 0.997 --seed 7 --resume_from_checkpoint latest "$@"
}

run --train_data_dir data/clips --output_dir outputs/flow_video_1 --rank 32 --no-seen_video --held_out_clips 8 --validation_steps 500 \
  --learning_rate 8e-4 --lr_scheduler cosine --lr_warmup_steps 100 --train_batch_size 8 --max_train_steps 1200 --ema_decay 0.998 \
  --sigma_mean 1.3 --sigma_std 1.3 --seed 0

further --train_batch_size 4 --max_train_steps 600 --learning_rate 4.5e-4 --lr_scheduler constant_with_warmup --flow_alone_share 0.4 \
  --sigma_mean 1.3 --sigma_std 1.4
further --train_batch_size 4 --max_train_steps 1800 --learning_rate 3.5e-4 --lr_scheduler constant_with_warmup --flow_alone_share 0.6 \
  --sigma_mean 1.8 --sigma_std 1.5
further --train_batch_size 4 --max_train_steps 3900 --learning_rate 9.6e-4 --lr_scheduler linear --flow_alone_share 0.6 \
  --sigma_mean 1.8 --sigma_std 1.5
