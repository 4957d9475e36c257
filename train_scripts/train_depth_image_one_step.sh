#!/usr/bin/env bash
# Depth of an image in one deterministic step, on the data of train_tiny_sd.sh; two processes of one CPU thread each.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

torchrun --nproc_per_node 2 train_models/train_depth_image.py --objective one_step --pretrained_model_name_or_path weights/tiny_sd \
  --train_data_dir data/scenes --resolution 64 --random_flip --output_dir outputs/one_step --rank 2 \
  --lora_targets '^(?!.*(attn2|time_emb))' --save_dtype float8_e4m3fn --train_batch_size 8 \
  --max_train_steps 4500 --learning_rate 1e-2 --lr_scheduler linear --lr_warmup_steps 50 --use_ema --ema_decay 0.99 \
  --checkpointing_steps 250 --checkpoints_total_limit 2 --mixed_precision bf16 --channels_last --seed 0

mkdir -p weights/depth_image/one_step
cp --no-clobber outputs/one_step/pytorch_lora_weights.safetensors weights/depth_image/one_step/
