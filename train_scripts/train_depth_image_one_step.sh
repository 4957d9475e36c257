#!/usr/bin/env bash
# Depth of an image in one deterministic step, from the adapter of train_depth_image.sh and the data of train_tiny_sd.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python train_models/train_depth_image.py --objective one_step --init_adapter weights/depth_image/depth.safetensors --y_layers all \
  --train_data_dir data/scenes --resolution 64 --output_dir outputs/one_step --rank 16 --post aligned --train_batch_size 8 \
  --max_train_steps 270 --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 20 --channels_last --seed 0

mkdir -p weights/depth_image/one_step
cp --no-clobber outputs/one_step/depth.safetensors weights/depth_image/one_step/
