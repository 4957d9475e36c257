"""A LoRA that estimates a condition from its image in one step, trained end to end (arXiv 2409.11355)."""

from pathlib import Path

import torch

from utils.data.cache import encode_pair
from utils.diffusion.one_step import estimate_latents
from utils.latents import LatentScale
from utils.weights.lora import add_lora, begin_lora, save_lora
from utils.weights.model_kinds import describe, read_estimator
from utils.weights.rounding import save_dtype


def estimation_loss(unet, batch: dict, vae, text: torch.Tensor, scale: LatentScale) -> torch.Tensor:
    """Mean absolute error of the condition's pixels, decoded from the estimate of one step.

    The gradient passes through the decoder. There is no alignment in scale and shift, as a condition has a fixed range.

    Args:
        text: Embedding of the empty prompt, (1, N, D).
    """
    condition = {name: value for name, value in batch.items() if name.startswith("conditioning")}
    x_0, _ = encode_pair({name: value for name, value in batch.items() if name not in condition}, vae)
    estimate = estimate_latents(unet, x_0.float(), text.to(x_0.device).expand(len(x_0), -1, -1)).float()
    decoded = decode(vae, scale.denormalize(estimate)).float()
    return (decoded - target_pixels(condition, vae)).abs().mean()


@torch.no_grad()
def target_pixels(condition: dict, vae) -> torch.Tensor:
    """The condition's pixels (B, 3, H, W); of cached latents, which have none, those that the decoder makes of them."""
    if "conditioning_pixel_values" in condition:
        return condition["conditioning_pixel_values"]
    return decode(vae, encode_pair(condition, vae)[1].float()).float()


def decode(vae, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) of latents after the autoencoder's scaling factor."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return vae.decode(latents / vae.config.scaling_factor + shift).sample


def begin_estimator(args) -> LatentScale | None:
    """The latent scale of `--init_adapter`; raises ValueError where that does not estimate the condition."""
    if args.init_adapter is None:
        return None
    if args.lora_alpha is not None:
        raise ValueError(
            f"--lora_alpha {args.lora_alpha:g} needs a new LoRA: --init_adapter has a scale of its own; remove one."
        )
    training = read_estimator(args.init_adapter)
    if training is None:
        raise ValueError(
            f"--init_adapter {args.init_adapter} is {describe(args.init_adapter)}; a LoRA of train_depth_image.py "
            "--objective one_step is needed."
        )
    if training["condition"] != args.condition:
        raise ValueError(
            f"--condition is {args.condition}, but {args.init_adapter} estimates {training['condition']}: pass that."
        )
    return LatentScale.read(training.get("latent_scale", {}))


def start_estimator(unet, args) -> list[torch.nn.Parameter]:
    """A LoRA to train: new, or with the values of `--init_adapter`; its parameters."""
    parameters = add_lora(unet, args.rank, args.lora_alpha, args.lora_targets)
    if args.init_adapter:
        begin_lora(unet, args.init_adapter)
    return parameters


def save_estimator(unet, folder: Path, args, parameters: list, training: dict, scale: LatentScale) -> Path:
    """Write the LoRA with what says how it was trained, and return the file.

    Args:
        parameters: Of `start_estimator`.
        training: The flags, without those that are of other objectives alone.
    """
    about, dtype = {**training, "latent_scale": vars(scale)}, save_dtype(args, parameters)
    return save_lora(unet, folder, "default", args.pretrained_model_name_or_path, about, dtype)
