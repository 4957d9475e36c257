"""What all trainings on Stable Video Diffusion share: the base, what the network is told, latents of clips."""

from collections.abc import Sequence

import torch
from diffusers import StableVideoDiffusionPipeline

from utils.diffusion.edm import EDM, ENCODED_TOGETHER, Condition, ConditionEncoder, Denoiser, draw_noise_aug_strengths
from utils.flow.code import FlowCode
from utils.motion_helper import MotionBuckets
from utils.pretrained import loading


def add_base_arguments(group) -> None:
    add = group.add_argument
    add(
        "--pretrained_model_name_or_path",
        "--pretrained_model_name",
        default="weights/tiny_svd",
        help="folder or hub name of the base",
    )
    add("--revision", help="of the base on the hub")
    add("--variant", help="of the base's files, such as fp16")


def add_condition_arguments(group) -> None:
    add = group.add_argument
    add("--sigma_mean", type=float, default=0.7, help="of ln(sigma); 1.0 for the released weights at 576x1024")
    add("--sigma_std", type=float, default=1.6)
    add("--conditioning_dropout_prob", type=float, default=0.1, help="share of samples without the image")
    add("--noise_aug_mean", type=float, default=-3.0, help="of ln(strength) of the noise on the image")
    add("--noise_aug_std", type=float, default=0.5)
    add("--motion_buckets", help="map of motion scores, as fit_motion_buckets writes it; default: the base's own")
    add("--fixed_motion_bucket", action="store_true", help="tell 7 fps and bucket 127 for every clip")


def add_flow_arguments(group) -> None:
    add = group.add_argument
    add("--max_flow", type=float, default=16.0, help="pixels that a flow picture holds; what is faster is clipped")
    add("--flow_power", type=float, default=0.5, help="of the flow picture's values; 1 is linear")


def check_condition_arguments(args) -> None:
    """Raises ValueError for a value that is out of its range."""
    if not 0 <= args.conditioning_dropout_prob <= 1:
        raise ValueError(f"--conditioning_dropout_prob {args.conditioning_dropout_prob}: a share lies in 0 to 1.")
    for name in ("sigma_std", "noise_aug_std"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} {getattr(args, name)} is negative.")


def draw_condition(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, frames: torch.Tensor | None = None
) -> Condition:
    """What the network is told of a batch, with noise on the image, and without the image for some samples; frames as of the encoder."""
    return draw_conditions(batch, num_frames, encoder, args, [frames])[0]


def draw_conditions(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, told: Sequence[torch.Tensor | None]
) -> list[Condition]:
    """`draw_condition` for each of several frames, with the same noise on all, and without the image for the same samples."""
    B = len(batch["image"])
    strengths = draw_noise_aug_strengths(B, args.noise_aug_mean, args.noise_aug_std)
    noise = torch.randn_like(batch["image"])
    dropped = torch.rand(B) < args.conditioning_dropout_prob
    known = batch["image"], num_frames, batch["fps"], batch["motion_bucket_id"], strengths, noise
    return [encoder(*known, frames=frames).drop(dropped) for frames in told]


def flow_loss(unet, batch: dict, encoder: ConditionEncoder, edm: EDM, code: FlowCode, args) -> torch.Tensor:
    """||F - v||² of flow from the image, at one noise level a clip: p(flow | image)."""
    y_0 = code.scale.normalize(encode_flow(batch, encoder.vae))
    B, F = y_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args)
    sigma = edm.draw_sigmas(B).to(y_0.device)
    return Denoiser(unet, edm).loss(y_0, torch.randn_like(y_0), sigma, condition).mean()


@torch.no_grad()
def encode_clips(batch, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a draw of the posterior, from pixels or from cached latents."""
    if "latents" in batch:
        return batch["latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["pixel_values"], vae)


@torch.no_grad()
def encode_frames(frames, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a draw of the posterior, of pictures (B, F, 3, H, W) in [-1, 1]."""
    parts = frames.flatten(0, 1).split(ENCODED_TOGETHER)
    latents = torch.cat([vae.encode(part.to(vae.dtype)).latent_dist.sample() for part in parts])
    return latents.float().unflatten(0, frames.shape[:2]) * vae.config.scaling_factor


@torch.no_grad()
def encode_flow(batch, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a draw of the posterior, of the flow's pictures or from cached latents."""
    if "flow_latents" in batch:
        return batch["flow_latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["flow_pixel_values"], vae)


@torch.no_grad()
def decode_flow(y_0: torch.Tensor, vae, code: FlowCode) -> torch.Tensor:
    """Flow (B, F - 1, 2, H, W), pixels, of clean latents (B, F, C, h, w) as they are denoised."""
    latents = code.scale.denormalize(y_0).flatten(0, 1) / vae.config.scaling_factor
    pictures = vae.decode(latents.to(vae.dtype), num_frames=y_0.shape[1]).sample.float()
    return code.to_flow(pictures.unflatten(0, y_0.shape[:2]))


def read_buckets(args) -> MotionBuckets:
    """The map of `--motion_buckets`, or of the base."""
    if args.motion_buckets:
        return MotionBuckets.load(args.motion_buckets)
    try:
        return MotionBuckets.load(args.pretrained_model_name_or_path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} Or pass --motion_buckets, or --fixed_motion_bucket.") from error


def load_pipeline(args) -> StableVideoDiffusionPipeline:
    """The base in float32.

    Raises:
        ValueError: The size of the clips does not fit it.
    """
    name = args.pretrained_model_name_or_path
    with loading(name):
        pipe = StableVideoDiffusionPipeline.from_pretrained(
            name, revision=args.revision, variant=args.variant, dtype=torch.float32
        )
    multiple = pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    if args.height % multiple or args.width % multiple:
        raise ValueError(f"--height {args.height} and --width {args.width} have to be multiples of {multiple}.")
    return pipe
