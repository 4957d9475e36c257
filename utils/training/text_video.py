"""What a training on a text to video base has besides `utils.training.svd`, which reads its clips and runs it.

The clips come with `Captions` of `utils.data.extras`; noise and condition are not those of Stable Video Diffusion.
"""

import argparse

import torch

from utils.arguments import refuse_flags
from utils.latents import ENCODED_TOGETHER

SVD_FLAGS = ("sigma_mean", "sigma_std", "noise_aug_mean", "noise_aug_std", "motion_buckets", "fixed_motion_bucket")


def take_text_base(args: argparse.Namespace, parser: argparse.ArgumentParser, num_frames: int, reason: str) -> None:
    """Without scores of motion, which such a base does not know, and with a number of frames, which it does not say.

    Raises:
        ValueError: A flag is given that only Stable Video Diffusion reads, or gradient checkpointing is not off.
    """
    refuse_flags(args, parser, SVD_FLAGS, reason)
    if args.gradient_checkpointing:
        raise ValueError("Text to video UNets have no gradient checkpointing: pass --no-gradient_checkpointing.")
    args.num_frames = args.num_frames or num_frames
    args.fixed_motion_bucket = True


def drop_captions(captions: list[str], dropped: float) -> list[str]:
    """The captions, some of them, a share of `dropped`, empty."""
    return [
        "" if draw < dropped else caption for caption, draw in zip(captions, torch.rand(len(captions)), strict=True)
    ]


def text_sample_options(sample: dict, args: argparse.Namespace) -> dict:
    """Arguments of a pipeline's call for a sample that is held out."""
    return {
        "prompt": sample["caption"],
        "num_inference_steps": args.num_inference_steps,
        "num_frames": len(sample["pixel_values"]),
        "decode_chunk_size": ENCODED_TOGETHER,
        "generator": torch.Generator().manual_seed(args.seed),
    }
