#!/usr/bin/env bash
# The small base from nothing: data, autoencoder (wide, then narrow), then text encoder and UNet; two processes of one
# CPU thread each.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

python -m utils.scenes.write_dataset --output_dir data/scenes --num_samples 20000 --seed 0 --num_workers 2

python train_models/train_tiny_sd.py --stage vae --train_data_dir data/scenes --output_dir outputs/tiny_vae_wide \
  --latent_channels 8 --train_batch_size 12 --max_train_steps 3200 --learning_rate 1.5e-3 --lr_scheduler cosine --lr_warmup_steps 50 \
  --mixed_precision bf16 --channels_last --checkpointing_steps 400 --checkpoints_total_limit 1 --seed 0

torchrun --nproc_per_node 2 train_models/train_tiny_sd.py --stage vae --train_data_dir data/scenes \
  --init_from outputs/tiny_vae_wide/vae --kl_weight 1e-7 --output_dir outputs/tiny_vae --train_batch_size 12 --max_train_steps 900 \
  --learning_rate 5e-4 --lr_scheduler cosine --lr_warmup_steps 50 --mixed_precision bf16 --channels_last --seed 0

torchrun --nproc_per_node 2 train_models/train_tiny_sd.py --stage unet --train_data_dir data/scenes \
  --vae outputs/tiny_vae/vae --output_dir outputs/tiny_sd --cache_latents --train_batch_size 16 --max_train_steps 17500 --snr_gamma 0 \
  --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 100 --use_ema --ema_decay 0.999 \
  --checkpointing_steps 500 --checkpoints_total_limit 2 --validation_steps 2000 --mixed_precision bf16 --channels_last --seed 0

mkdir -p weights/tiny_sd
cp --recursive --no-clobber outputs/tiny_sd/{model_index.json,scheduler,text_encoder,tokenizer,unet,vae} weights/tiny_sd/
