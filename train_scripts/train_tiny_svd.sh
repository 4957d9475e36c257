#!/usr/bin/env bash
# A small Stable Video Diffusion from nothing: clips, autoencoder, then image encoder and UNet in five parts, each from the average of the one before.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -d data/clips ] || python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
[ -d data/many_clips ] || python -m utils.scenes.write_clips --output_dir data/many_clips --num_samples 6000 --seed 100000 --num_frames 16 \
  --num_tracks 8 --num_objects 1 2 3

run() {
  python train_models/train_tiny_svd.py --train_data_dir "${CLIPS:-data/clips}" --checkpointing_steps 200 --checkpoints_total_limit 1 \
    --validation_steps 500 --mixed_precision bf16 "$@"
}
unet() {
  run --stage unet --use_ema "$@"
}

run --stage vae --num_frames 5 --train_batch_size 4 --output_dir outputs/tiny_svd_vae --max_train_steps 1200 --learning_rate 1e-3 \
  --lr_scheduler cosine --lr_warmup_steps 50 --seed 0

unet --vae weights/tiny_sd/vae --output_dir outputs/tiny_svd_1 --train_batch_size 8 --max_train_steps 2200 --learning_rate 1e-3 \
  --lr_scheduler constant_with_warmup --lr_warmup_steps 100 --ema_decay 0.999 --seed 0
unet --vae outputs/tiny_svd_vae/vae --init_from outputs/tiny_svd_1 --output_dir outputs/tiny_svd_2 --train_batch_size 16 --max_train_steps 700 \
  --learning_rate 8e-4 --lr_scheduler cosine --lr_warmup_steps 20 --ema_decay 0.999 --seed 1
unet --vae outputs/tiny_svd_vae/vae --init_from outputs/tiny_svd_2 --output_dir outputs/tiny_svd_3 --train_batch_size 16 --max_train_steps 3200 \
  --learning_rate 6e-4 --lr_scheduler constant_with_warmup --lr_warmup_steps 50 --ema_decay 0.9995 --seed 2
unet --vae outputs/tiny_svd_vae/vae --init_from outputs/tiny_svd_3 --output_dir outputs/tiny_svd_4 --train_batch_size 16 --max_train_steps 1850 \
  --learning_rate 8e-4 --lr_scheduler cosine --lr_warmup_steps 50 --ema_decay 0.998 --sigma_mean 1.3 --sigma_std 1.3 --seed 3

run --stage vae --init_from outputs/tiny_svd_vae/vae --decoder_only --num_frames 5 --train_batch_size 8 --output_dir outputs/tiny_svd_decoder_1 \
  --max_train_steps 250 --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 20 --seed 1

CLIPS=data/many_clips
muon=(--random_flip --train_batch_size 16 --optimizer muon --muon_learning_rate 7e-4 --learning_rate 3.5e-4)
unet --vae weights/tiny_sd/vae --init_from outputs/tiny_svd_4 --output_dir outputs/tiny_svd "${muon[@]}" --max_train_steps 1800 \
  --lr_scheduler constant_with_warmup --lr_warmup_steps 100 --ema_decay 0.9995 --sigma_mean 0.6 --sigma_std 1.7 --change_weight 0 --seed 21
unet --vae weights/tiny_sd/vae --init_from outputs/tiny_svd_4 --output_dir outputs/tiny_svd "${muon[@]}" --max_train_steps 3000 \
  --lr_scheduler linear --lr_warmup_steps 1800 --ema_decay 0.998 --sigma_mean 0.4 --sigma_std 1.7 --seed 21 --resume_from_checkpoint latest

run --stage vae --init_from outputs/tiny_svd_decoder_1/vae --decoder_only --num_frames 9 --first_frames --random_flip --train_batch_size 4 \
  --output_dir outputs/tiny_svd_decoder --max_train_steps 300 --learning_rate 5e-4 --lr_scheduler cosine --lr_warmup_steps 20 --use_ema --ema_decay 0.98 --seed 5

mkdir -p weights/tiny_svd
cp --recursive --no-clobber outputs/tiny_svd/{motion_buckets.json,feature_extractor,scheduler,unet} weights/tiny_svd/
cp --recursive --no-clobber outputs/tiny_svd_4/{model_index.json,image_encoder} weights/tiny_svd/  # weights/svd_trans was trained with this encoder
cp --recursive --no-clobber outputs/tiny_svd_decoder/vae weights/tiny_svd/
