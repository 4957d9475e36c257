#!/usr/bin/env bash
# Frames between a first and a last one: the small image-to-video base conditioned on both, all of it trained, on clips of the procedural world.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -d data/clips ]]; then
  python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
fi

python train_models/train_svd_trans.py --train_data_dir data/clips --output_dir outputs/svd_trans --trainable all --cache_latents --clip_frames 16 \
  --frame_strides 1 2 --random_reverse --random_flip --held_out_clips 4 --validation_steps 500 --optimizer muon --muon_learning_rate 5e-4 --learning_rate 3e-4 \
  --lr_scheduler cosine --lr_warmup_steps 50 --train_batch_size 8 --max_train_steps 1500 --use_ema --ema_decay 0.998 \
  --mixed_precision bf16 --no-gradient_checkpointing --checkpointing_steps 250 --checkpoints_total_limit 1 --seed 0
