#!/usr/bin/env bash
# Joint adapter of video and optical flow on the small image-to-video base, on clips with exact flow.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -d data/clips ]]; then
  python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
fi

python train_models/train_flow_video.py --train_data_dir data/clips --output_dir outputs/flow_video --rank 32 --temporal \
  --random_flip --cache_latents --clip_frames 16 --held_out_clips 8 --validation_steps 500 \
  --learning_rate 8e-4 --lr_scheduler cosine --lr_warmup_steps 100 --train_batch_size 8 --max_train_steps 1200 \
  --use_ema --ema_decay 0.998 --mixed_precision bf16 --no-gradient_checkpointing --checkpointing_steps 250 --checkpoints_total_limit 1 \
  --sigma_mean 1.3 --sigma_std 1.3 --seed 0
