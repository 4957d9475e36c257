#!/usr/bin/env bash
# The judges of the evaluation: scenes of their own, and what the base's autoencoder makes of them.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m utils.scenes.write_dataset --output_dir data/judge_scenes --num_samples 12500 --seed 1000000 --num_workers 2

python train_models/train_judges.py --judges attributes --train_data_dir data/judge_scenes --vae outputs/tiny_vae/vae \
  --output_dir outputs/judges --max_train_steps 3500 --use_ema --ema_decay 0.995 --mixed_precision bf16 \
  --checkpointing_steps 500 --checkpoints_total_limit 1

python train_models/train_judges.py --judges depth --train_data_dir data/judge_scenes --vae outputs/tiny_vae/vae \
  --output_dir outputs/judges --max_train_samples 5000 --max_train_steps 1800 --use_ema --ema_decay 0.995 --mixed_precision bf16 \
  --checkpointing_steps 300 --checkpoints_total_limit 1

python -m utils.scenes.write_clips --output_dir data/judge_clips --num_samples 600 --seed 1000000 --first_frames 8 --num_workers 2

python train_models/train_judges.py --judges video --clips_dir data/judge_clips --output_dir outputs/judges \
  --num_validation_samples 100 --max_train_steps 1200 --train_batch_size 8 --lr_warmup_steps 40 --use_ema --ema_decay 0.99 --mixed_precision no

mkdir -p weights/judges
cp --no-clobber outputs/judges/{depth.safetensors,attributes.safetensors,video.safetensors,README.md} weights/judges/
