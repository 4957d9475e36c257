#!/usr/bin/env bash
# TRIP on the small image-to-video base: the fusion alone, then all, on rendered clips. CLIPS is a list of clips of one's own in its place,
# such as clips.json with {"video_path", "text"} in each entry.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z "${CLIPS:-}" ]]; then
  CLIPS=data/clips
  python -m utils.scenes.write_clips --output_dir "$CLIPS" --num_samples 900 --num_frames 16 --num_tracks 2
fi

python train_models/train_trip.py --train_data_dir "$CLIPS" --output_dir outputs/trip --num_frames 8 --frame_strides 1 2 --cache_latents \
  --clip_frames 16 --fusion_only_steps 200 --max_train_steps 2000 --train_batch_size 8 --learning_rate 2e-5 --fusion_learning_rate 1e-3 \
  --no-gradient_checkpointing --checkpointing_steps 500 --checkpoints_total_limit 1 --held_out_clips 8 --validation_steps 500 \
  --sigma_mean 0.5 --sigma_std 1.4 --seed 0
