#!/usr/bin/env bash
# Fine-tuning of the small image-to-video base: its temporal layers on clips in which only the camera pans, and a LoRA on videos of one's own
# (VIDEOS, a folder), of which the last frames are held out.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m utils.scenes.write_clips --output_dir data/pans --num_samples 300 --camera pan --num_frames 16 --num_tracks 2

python train_models/train_svd.py --trainable temporal --train_data_dir data/pans --output_dir outputs/svd_pans --cache_latents \
  --clip_frames 16 --frame_strides 1 2 --random_reverse --learning_rate 1e-4 --lr_scheduler constant_with_warmup --lr_warmup_steps 20 \
  --train_batch_size 8 --max_train_steps 400 --use_ema --ema_decay 0.99 --mixed_precision bf16 --no-gradient_checkpointing \
  --checkpointing_steps 100 --checkpoints_total_limit 1 --sigma_mean 0.5 --sigma_std 1.4 --seed 0

if [[ -n "${VIDEOS:-}" ]]; then
  python -m utils.data.prepare_dataset --video_dir "$VIDEOS" --output_dir data/videos --height 64 --width 64 --min_frames 24
  python train_models/train_svd.py --trainable lora --lora_targets all --train_data_dir data/videos --output_dir outputs/svd_videos \
    --held_out_frames 8 --learning_rate 2e-3 --train_batch_size 2 --max_train_steps 300 --validation_steps 100 \
    --mixed_precision bf16 --no-gradient_checkpointing --checkpointing_steps 100 --sigma_mean 0.5 --sigma_std 1.4 --seed 0
fi
