#!/usr/bin/env bash
# ControlNet with which the small image-to-video base follows a segmentation, on clips with exact labels.
# CONTROL=depth trains one for depth.
set -euo pipefail
cd "$(dirname "$0")/.."
control=${CONTROL:-segmentation}

if [[ ! -d data/control_clips ]]; then
  python -m utils.scenes.write_clips --output_dir data/control_clips --num_samples 2000 --num_frames 16 --controls depth segmentation
fi

python train_models/train_svd_controlnet.py --control "$control" --train_data_dir data/control_clips --output_dir "outputs/svd_controlnet/$control" \
  --cache_latents --clip_frames 16 --frame_strides 1 2 --random_reverse --random_flip --held_out_clips 4 --validation_steps 1000 \
  --learning_rate 5e-4 --lr_scheduler cosine --lr_warmup_steps 100 --train_batch_size 8 --max_train_steps 2000 --use_ema --ema_decay 0.998 \
  --mixed_precision bf16 --no-gradient_checkpointing --checkpointing_steps 250 --checkpoints_total_limit 1 \
  --sigma_mean 1.5 --sigma_std 1.4 --seed 0
