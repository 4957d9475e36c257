"""What trainings share: the loop, checkpoints, logs, losses, validations and the recipe of Stable Video Diffusion."""
