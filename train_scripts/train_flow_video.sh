#!/usr/bin/env bash
# Joint adapter of video and optical flow on the small image-to-video base, on clips with exact flow: pairs, then the flow alone, which
# costs less than half and needs most steps, then pairs again.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ! -d data/clips ]]; then
  python -m utils.scenes.write_clips --output_dir data/clips --num_samples 2000 --num_frames 16 --num_tracks 8
fi

train() {
  python train_models/train_flow_video.py --train_data_dir data/clips --temporal --sigma_mean 1.3 --sigma_std 1.3 \
    --random_flip --cache_latents --clip_frames 16 --held_out_clips 8 --validation_steps 500 \
    --lr_scheduler cosine --train_batch_size 8 --use_ema --mixed_precision bf16 --no-gradient_checkpointing \
    --checkpointing_steps 250 --checkpoints_total_limit 1 --resume_from_checkpoint latest "$@"
}

train --seed 0 --output_dir outputs/flow_video_1 --rank 32 --learning_rate 8e-4 --lr_warmup_steps 100 --max_train_steps 1200 --ema_decay 0.998
train --seed 1 --output_dir outputs/flow_video_2 --rank 24 --learning_rate 8e-4 --lr_warmup_steps 50 --max_train_steps 1800 --ema_decay 0.998 \
  --init_adapter outputs/flow_video_1 --flow_alone_share 1
train --seed 2 --output_dir outputs/flow_video --rank 24 --learning_rate 3e-4 --lr_warmup_steps 20 --max_train_steps 300 --ema_decay 0.99 \
  --init_adapter outputs/flow_video_2
