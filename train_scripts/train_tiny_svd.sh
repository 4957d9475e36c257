#!/usr/bin/env bash
# A small Stable Video Diffusion from nothing: clips, autoencoder, then image encoder and UNet.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -d data/clips ] || python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8

python train_models/train_tiny_svd.py --stage vae --train_data_dir data/clips --num_frames 5 --output_dir outputs/tiny_svd_vae \
  --train_batch_size 4 --max_train_steps 1200 --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 50 \
  --checkpointing_steps 200 --checkpoints_total_limit 1 --validation_steps 500 --mixed_precision bf16 --seed 0

python train_models/train_tiny_svd.py --stage unet --vae outputs/tiny_svd_vae/vae --train_data_dir data/clips \
  --output_dir outputs/tiny_svd --train_batch_size 8 --max_train_steps 4000 --learning_rate 1e-3 --lr_scheduler cosine \
  --lr_warmup_steps 100 --use_ema --ema_decay 0.999 --checkpointing_steps 200 --checkpoints_total_limit 1 --validation_steps 500 \
  --mixed_precision bf16 --seed 0

mkdir -p weights/tiny_svd
cp --recursive --no-clobber outputs/tiny_svd/{model_index.json,motion_buckets.json,feature_extractor,image_encoder,scheduler,unet,vae} weights/tiny_svd/
