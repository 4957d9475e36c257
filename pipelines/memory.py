"""Ways to run a large model in little memory."""

import torch

from utils.arguments import positive_int

OFFLOADS = ("none", "model", "sequential", "group")


def add_memory_arguments(group) -> None:
    add = group.add_argument
    add(
        "--offload",
        choices=OFFLOADS,
        default="none",
        help="what waits in main memory until it is needed: model by model, or layer by layer (sequential, group)",
    )
    add(
        "--forward_chunking",
        type=positive_int,
        metavar="ROWS",
        help="rows that feed-forward layers take at once (default: all)",
    )
    add("--vae_slicing", action="store_true", help="decode image by image, for autoencoders that can")
    add("--vae_tiling", action="store_true", help="decode part by part, for autoencoders that can")


def check_offload(offload: str, device: torch.device) -> None:
    """Raises ValueError where there is no accelerator to offload from."""
    if offload != "none" and device.type == "cpu":
        raise ValueError(
            f"--offload {offload} is for an accelerator: on the CPU there is nothing to move, so remove it."
        )


def save_memory(pipe, forward_chunking: int | None = None, vae_slicing: bool = False, vae_tiling: bool = False) -> None:
    """Switch on the ways to save memory; arguments as the flags.

    Raises:
        ValueError: The autoencoder has no slicing or tiling.
    """
    if forward_chunking:
        pipe.unet.enable_forward_chunking(forward_chunking)
    for name, wanted in (("slicing", vae_slicing), ("tiling", vae_tiling)):
        if not wanted:
            continue
        try:
            getattr(pipe.vae, f"enable_{name}")()
        except NotImplementedError as error:
            raise ValueError(
                f"--vae_{name}: {type(pipe.vae).__name__} has none; take a smaller --decode_chunk_size in its place."
            ) from error


def place(pipe, offload: str, device: torch.device) -> None:
    """Onto the device, now or part by part while it runs."""
    if offload == "none":
        pipe.to(device)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(onload_device=device, offload_type="leaf_level")
