"""An image and its conditions (depth, edges) sampled together by Stable Diffusion with joint attention.

    image, condition ~ p(x, y);    image ~ p(x | y);    condition ~ p(y | x);    and what lies between

They differ in the noise level at which each side starts and in what of it is kept (`pipelines/image_sides.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from pipelines.image_adapters import ImageAdapters, check_sampled
from pipelines.image_inputs import JointInputs, child_generator
from pipelines.image_sides import ImageSide, start_side
from pipelines.inputs import latent_mask
from pipelines.request import TENSORS, Known, Request, check_adapters, check_options, gather_known, make_request
from pipelines.rows import Joint, Rows, default_direction, lay_out_rows, paired, run_constant
from pipelines.sides import Estimates, denoise, first_iteration
from utils.diffusion.guidance import CONDITIONAL, SEPARATE, UNCONDITIONAL, Guidance
from utils.diffusion.pairs import with_trigger
from utils.diffusion.sampling import ImageSampling
from utils.latents import LatentScale


@dataclass
class JointOutput(BaseOutput):
    """Images and their conditions, one of each for each sample.

    Attributes:
        images: B PIL images; with output_type "np" an array (B, H, W, 3) in [0, 1], with "pt" a tensor (B, 3, H, W)
            in [0, 1], with "latent" the VAE's latents (B, C, h, w), which a later call takes as `image`.
        conditions: The same for each condition, by the adapter's name.
        values: Each condition as float32 (B, H, W) in [-1, 1], the mean of its three channels: for depth normalised
            disparity, nearest 1. Empty with "latent".
        nsfw_content_detected: From the safety checker, where there is one.
    """

    images: list | np.ndarray | torch.Tensor
    conditions: dict
    values: dict
    nsfw_content_detected: list | None = None


class StableDiffusionJointPipeline(ImageAdapters, StableDiffusionPipeline):
    """Stable Diffusion that samples an image together with its conditions.

    pipe = StableDiffusionJointPipeline.from_pretrained(folder)
    pipe.load_adapter_pair("weights/depth_image/depth.safetensors")
    out = pipe("a red cube and a blue sphere")     # out.images, out.conditions["depth"], out.values["depth"]
    """

    _callback_tensor_inputs: ClassVar = list(TENSORS)

    def __init__(
        self,
        vae,
        text_encoder,
        tokenizer,
        unet,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker: bool = True,
    ):
        # A folder without a safety checker is an ordinary one here, nothing to warn of.
        requires_safety_checker = requires_safety_checker and safety_checker is not None
        models = (vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder)
        super().__init__(*models, requires_safety_checker)
        self.adapter_pairs = {}

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image=None,
        condition=None,
        strength: float | None = None,
        condition_strength=None,
        mask_image=None,
        condition_mask=None,
        height: int | None = None,
        width: int | None = None,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        adapters: str | list[str] | dict[str, float] | None = None,
        direction: str | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        condition_latents=None,
        output_type: str = "pil",
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        **sampling,
    ) -> JointOutput:
        """Sample images with their conditions.

        Args:
            prompt: May be left out where a side is known. Conditions get it with their trigger word in front.
            image, condition: What is known of a side: images, or floats in [-1, 1] (`pipelines.inputs.image_batch`),
                or latents of an earlier call. With several conditions a dict by adapter name, as all `condition_*`.
            strength, condition_strength: Share of the noise at which a known side starts. 0, the default: it is given,
                and comes back as it is. Between: coarse control. 1: it is sampled anew.
            mask_image, condition_mask: White (1) where a known side is sampled anew, black (0) where its pixels are
                kept.
            adapters: Names of those to use, with their weights if it is a dict; by default all.
            direction: "both", "x_reads_y" or "y_reads_x", x the image; by default a given side does not read the other
                (unless the adapter was never trained so).
            latents, condition_latents: Noise of variance 1, (B, C, h, w), in place of a draw.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: Called as `callback(pipe, step, t, tensors)`, steps from 0; returns a dict of
                tensors to replace, of `latents` and `condition_latents` (a dict by name).
            sampling: Fields of `ImageSampling`: num_inference_steps, guidance_scale, …; a call without any text has
                no guidance by it.

        Raises:
            ValueError: What was passed cannot be sampled; in one sentence, before any network runs.
        """
        tensors = callback_on_step_end_tensor_inputs or ["latents"]
        sampling = ImageSampling(**sampling)
        check_options(direction, output_type, tensors)
        weights = check_adapters(adapters, self.known_adapters())
        check_sampled(self.adapter_pairs, weights)
        values = (condition, condition_strength, condition_mask, condition_latents)
        known = gather_known(list(weights), (image, strength, mask_image, latents), *values)
        request = make_request(
            self, prompt, negative_prompt, known, weights, height, width, num_images_per_prompt, generator
        )
        self._interrupt = False
        inputs = self.prepare(request, sampling, Joint(self.directions(request, direction), weights))
        sides = self.denoise(inputs, callback_on_step_end, tensors)
        output = self.decode(sides, request, output_type)
        self.maybe_free_model_hooks()
        return output

    def directions(self, request: Request, direction: str | None) -> dict[str, str | None]:
        """Who reads whom, for each condition; where nothing was asked for, a given side does not read the other."""
        given = {name: known.strength == 0 for name, known in request.known.items()}
        return {
            name: direction
            or (default_direction(given[None], given[name]) if self.adapter_pairs[name].one_way else "both")
            for name in request.weights
        }

    def prepare(self, request: Request, sampling: ImageSampling, joint: Joint) -> JointInputs:
        """Sides at their first noise level, text embeddings and guidance."""
        self.scheduler.set_timesteps(sampling.num_inference_steps, device=self._execution_device)
        generators = [
            request.generators,
            *(child_generator(request.generators, n) for n in range(1, len(request.known))),
        ]
        sides = tuple(
            self.prepare_side(name, known, request, generator, sampling.eta)
            for (name, known), generator in zip(request.known.items(), generators, strict=True)
        )
        by_text = request.has_text and sampling.guidance_scale > 1
        guidance = Guidance(sampling.guidance_scale if by_text else None, sampling.condition_guidance_scale)
        texts = tuple(self.embed(name, request, by_text) for name in request.known)
        return JointInputs(sides, texts, guidance, joint)

    def prepare_side(self, name: str | None, known: Known, request: Request, generator, eta: float) -> ImageSide:
        scale = LatentScale() if name is None else self.adapter_pairs[name].latent_scale
        device, dtype, factor = self._execution_device, self.unet.dtype, self.vae_scale_factor
        shape = (request.batch, self.unet.config.in_channels, request.height // factor, request.width // factor)
        noise = known.noise
        if noise is None:
            noise = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        clean = None if known.images is None else scale.normalize(self.encode(known))
        mask = None if known.mask is None else latent_mask(known.mask, factor).to(device, dtype)
        noise = noise.to(device, dtype)
        return start_side(name, scale, self.scheduler, noise, known.strength, clean, mask, generator, eta)

    def encode(self, known: Known) -> torch.Tensor:
        """Latents of the VAE, the mode of its posterior."""
        if known.latent:
            return known.images.to(self._execution_device, self.unet.dtype)
        pixels = known.images.to(self._execution_device, self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor
        return latents.to(self.unet.dtype)

    def embed(self, name: str | None, request: Request, with_unconditional: bool) -> dict[str, torch.Tensor]:
        """Text embeddings (B, N, C) of a side by prediction; those of a condition begin with its trigger word."""
        trigger = "" if name is None else self.adapter_pairs[name].trigger
        prompts, negatives = (
            [with_trigger(trigger, prompt) for prompt in texts] for texts in (request.prompts, request.negative_prompts)
        )
        device, copies = self._execution_device, request.copies
        text, free = self.encode_prompt(prompts, device, copies, with_unconditional, negatives)
        return {CONDITIONAL: text, SEPARATE: text, UNCONDITIONAL: free}

    def denoise(self, inputs: JointInputs, callback=None, callback_tensors=()) -> list[ImageSide]:
        """The sides after all steps; one that is given and reads no other is run once."""
        sides, joint = inputs.sides, inputs.joint
        rows = lay_out_rows(sides, len(sides[0].latents), inputs.guidance.terms, joint)
        steps = range(first_iteration(sides), len(self.scheduler.timesteps))
        self._num_timesteps = len(steps)
        with paired(self.unet, rows, sides, joint):

            def run(part: Rows) -> None:
                self.predict(sides, part, inputs.text_of(part), 0)

            if len(steps) > 1:
                rows = run_constant(self.unet, sides, rows, joint, run)
            text = inputs.text_of(rows)

            def estimate(sides: list[ImageSide], i: int) -> Estimates:
                terms = rows.split(self.predict(sides, rows, text, i))
                return {number: inputs.guidance.estimate(sides[number], parts, i) for number, parts in terms.items()}

            def call_back(sides: list[ImageSide], i: int) -> list[ImageSide]:
                return self.call_back(callback, callback_tensors, i, i - steps.start, sides)

            going = takewhile(lambda i: not self.interrupt, self.progress_bar(steps))
            return denoise(sides, going, estimate, None if callback is None else call_back)

    def predict(self, sides: Sequence[ImageSide], rows: Rows, text: torch.Tensor, i: int) -> torch.Tensor:
        """The network's predictions (rows, C, h, w), each side at its own noise level."""
        latents = rows.cat([side.model_input(i) for side in sides])  # (rows, C, h, w)
        timesteps = rows.cat([side.level(i) for side in sides])  # (rows,)
        return self.unet(latents, timesteps, encoder_hidden_states=text, return_dict=False)[0]

    def call_back(self, callback, names, i: int, step: int, sides: list[ImageSide]) -> list[ImageSide]:
        tensors = {"latents": sides[0].latents, "condition_latents": {s.name: s.latents for s in sides[1:]}}
        changed = callback(self, step, self.scheduler.timesteps[i], {name: tensors[name] for name in names}) or {}
        latents = {None: changed.get("latents", sides[0].latents), **changed.get("condition_latents", {})}
        return [side.at(latents.get(side.name, side.latents)) for side in sides]

    def decode(self, sides: list[ImageSide], request: Request, output_type: str) -> JointOutput:
        """Images of the sides; what was given, and what a mask kept, is the very pixels that were passed."""
        if output_type == "latent":
            results = {side.name: side.result() for side in sides}
            return JointOutput(images=results.pop(None), conditions=results, values={})
        pixels = {side.name: self.decode_side(side, request.known[side.name]) for side in sides}
        image, nsfw = self.run_safety_checker(pixels.pop(None), self._execution_device, self.unet.dtype)
        shown = None if nsfw is None else [not flag for flag in nsfw]
        return JointOutput(
            images=self.image_processor.postprocess(image, output_type, shown),
            conditions={name: self.image_processor.postprocess(p, output_type) for name, p in pixels.items()},
            values={name: p.mean(dim=1).clamp(-1, 1).cpu().numpy() for name, p in pixels.items()},
            nsfw_content_detected=nsfw,
        )

    def decode_side(self, side: ImageSide, known: Known) -> torch.Tensor:
        """Pixels, float32 (B, 3, H, W) in [-1, 1]."""
        kept = None if known.latent or known.images is None else known.images.to(self._execution_device)
        if side.given and kept is not None:
            return kept
        latents = side.result().to(self.vae.dtype) / self.vae.config.scaling_factor
        pixels = self.vae.decode(latents, return_dict=False)[0].float()
        if known.mask is not None and kept is not None:
            mask = known.mask.to(pixels)
            pixels = torch.where(mask.bool(), pixels, kept)
        return pixels
