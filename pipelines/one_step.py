"""Estimation of a condition from its image in one deterministic step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from pipelines.image_inputs import JointInputs
from pipelines.image_sides import ImageSide
from pipelines.pipeline_stable_diffusion_joint import JointOutput, StableDiffusionJointPipeline
from pipelines.request import Request, check_adapters, check_options, gather_known, make_request
from pipelines.rows import Joint
from utils.diffusion.guidance import CONDITIONAL
from utils.diffusion.one_step import estimate_latents, one_step_scheduler
from utils.diffusion.sampling import ImageSampling


@torch.no_grad()
def estimate_condition(
    pipe: StableDiffusionJointPipeline,
    image,
    name: str = "depth",
    output_type: str = "pil",
    height: int | None = None,
    width: int | None = None,
) -> JointOutput:
    """The condition of images by one call of the network, the same in each call.

    A LoRA of `train_depth_image.py --objective one_step` is the most accurate. Joint adapters do it, too: the image is
    given, and the condition goes from the mean of the noise, 0, at the last timestep to its estimate (arXiv
    2409.11355).

    Args:
        image: As the pipeline takes it.
        name: Of the adapter.
        output_type: "pil", "np", "pt" or "latent".
        height, width: Of the pixels, where the image is given as latents.

    Raises:
        ValueError: There is no such adapter, or the image cannot be read.
    """
    if image is None:
        raise ValueError("There is no image: pass one.")
    check_options(None, output_type, [])
    weights = check_adapters(name, pipe.known_adapters())
    known = gather_known([name], (image, None, None, None), *[None] * 4)
    request = make_request(pipe, None, None, known, weights, height, width, 1, None)
    pipe._interrupt = False
    with stepping_once(pipe):
        joint = Joint(pipe.directions(request, None), weights)
        sampling = ImageSampling(num_inference_steps=1, guidance_scale=1.0)
        inputs = pipe.prepare(at_mean(pipe, request, name), sampling, joint)
        sides = by_lora(pipe, inputs) if pipe.adapter_pairs[name].one_step else pipe.denoise(inputs)
        output = pipe.decode(sides, request, output_type)
    pipe.maybe_free_model_hooks()
    return output


def by_lora(pipe: StableDiffusionJointPipeline, inputs: JointInputs) -> list[ImageSide]:
    """The image, and the condition with its estimate."""
    image, condition = inputs.sides
    return [image, condition.at(estimate_latents(pipe.unet, image.clean, inputs.texts[0][CONDITIONAL]))]


def at_mean(pipe: StableDiffusionJointPipeline, request: Request, name: str) -> Request:
    """The request with the mean of the noise in place of a draw."""
    H, W = (size // pipe.vae_scale_factor for size in (request.height, request.width))
    noise = torch.zeros(request.batch, pipe.unet.config.in_channels, H, W)
    return replace(request, known=request.known | {name: replace(request.known[name], noise=noise)})


@contextmanager
def stepping_once(pipe: StableDiffusionJointPipeline) -> Iterator[None]:
    """Within it the pipeline has the scheduler of one step, and shows no progress bar for it."""
    own, bar = pipe.scheduler, getattr(pipe, "_progress_bar_config", {})
    pipe.scheduler = one_step_scheduler(own)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        pipe.scheduler = own
        pipe.set_progress_bar_config(**bar)
