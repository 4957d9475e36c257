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

mkdir -p weights/judges
cp --no-clobber outputs/judges/{depth.safetensors,attributes.safetensors,README.md} weights/judges/
