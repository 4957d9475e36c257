#!/usr/bin/env bash
# Joint depth on the small base, from the data of train_tiny_sd.sh; joint edges: train_scripts/train_depth_image.sh edge
set -euo pipefail
cd "$(dirname "$0")/.."
condition=${1:-depth}

python train_models/train_depth_image.py --condition "$condition" --train_data_dir data/scenes --resolution 64 --cache_latents \
  --output_dir "outputs/$condition" --rank 16 --post aligned --snr_gamma 0 --train_batch_size 16 --max_train_steps 2400 \
  --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 50 --use_ema --ema_decay 0.995 \
  --validation_prompts "a red cube and a blue sphere on a gray floor, white wall" --validation_steps 1200 \
  --mixed_precision bf16 --channels_last --seed 0

mkdir -p weights/depth_image
cp --no-clobber "outputs/$condition/$condition.safetensors" weights/depth_image/
