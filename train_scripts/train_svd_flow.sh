#!/usr/bin/env bash
# LoRA, on every linear layer and convolution, with which the small image-to-video base samples the optical flow that follows an image, on clips with exact flow.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -d data/clips ]]; then
  python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
fi

python train_models/train_svd_flow.py --train_data_dir data/clips --output_dir outputs/svd_flow --rank 16 --lora_targets . --random_flip \
  --cache_latents --clip_frames 16 --held_out_clips 8 --validation_steps 500 \
  --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 100 --train_batch_size 8 --max_train_steps 1200 \
  --use_ema --ema_decay 0.998 --mixed_precision bf16 --no-gradient_checkpointing --checkpointing_steps 250 --checkpoints_total_limit 1 \
  --sigma_mean 1.3 --sigma_std 1.3 --seed 0
