#!/usr/bin/env bash
# The small base fine-tuned on one clip of your own, to sample frames between two of its frames: its decoder, then the UNet.
# bash train_scripts/fine_tune_clip.sh clip.mp4 outputs/mine [every n-th frame]
set -euo pipefail
usage="usage: bash train_scripts/fine_tune_clip.sh CLIP OUTPUT_DIR [every n-th frame]"
clip="$(realpath "${1:?$usage}")"
mkdir -p "${2:?$usage}"
out="$(realpath "$2")"
stride="${3:-1}"
cd "$(dirname "$0")/.."

if [ -d "$out/clip" ] && ! cmp -s "$clip" "$out/clip/$(basename "$clip")"; then
  echo "error: $out has the training of another clip; choose another folder." >&2
  exit 1
fi
mkdir -p "$out/clip"
cp "$clip" "$out/clip/"
python -m utils.data.prepare_dataset --video_dir "$out/clip" --output_dir "$out/frames" --frame_stride "$stride" --height 64 --width 64
python -m utils.data.annotate_flow --train_data_dir "$out/frames" --output_dir "$out/flow"
frames="$(find "$out/frames" -name '*.png' | wc -l)"
if [ "$frames" -lt 8 ]; then
  echo "error: $clip has $frames frames at a stride of $stride; 8 are needed: choose a longer clip or a smaller stride." >&2
  rm -r "$out/clip" "$out/flow" "$out/frames" "$out/frames.jsonl"
  exit 1
fi

python train_models/train_tiny_svd.py --stage vae --init_from weights/tiny_svd/vae --decoder_only --train_data_dir "$out/frames" --flow_dir "$out/flow" \
  --num_frames 5 --train_batch_size 2 --max_train_steps 300 --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 10 --mixed_precision bf16 \
  --checkpointing_steps 100 --checkpoints_total_limit 1 --resume_from_checkpoint latest --seed 0 --output_dir "$out/decoder"

python train_models/train_svd_trans.py --init_from weights/svd_trans --trainable all --train_data_dir "$out/frames" --random_reverse --train_batch_size 4 \
  --max_train_steps 160 --learning_rate 5e-4 --lr_scheduler cosine --lr_warmup_steps 10 --cache_latents --clip_frames "$frames" --mixed_precision bf16 \
  --no-gradient_checkpointing --checkpointing_steps 40 --checkpoints_total_limit 1 --resume_from_checkpoint latest --seed 0 --output_dir "$out/between"

mkdir -p "$out/base"
cp -r weights/tiny_svd/. "$out/base/"
cp -r "$out/decoder/vae" "$out/base/"
echo "Sample with: python run_models/run_svd_trans.py --model_dir $out/base --adapter $out/between --first … --last … --output_dir …"
