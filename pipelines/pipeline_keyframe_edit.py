"""Keyframes of a video edited together with Stable Diffusion, so that they agree.

pipe = StableDiffusionKeyframeEditPipeline.from_pretrained("weights/tiny_sd")
pipe.load_adapter_pair("weights/depth_image/depth.safetensors")       # for structure="depth"
out = pipe(frames, "a blue sphere on a gray floor", "a red sphere on a gray floor", mask="auto")    # out.images

They agree by attention across frames (`patch.set_frames`), by one noise for all, and by what keeps their structure:

depth      a joint adapter estimates the condition of each keyframe, and the new images are sampled from it
inversion  the noise that the source prompt leads back to (DDIM inversion, arXiv 2010.02502) takes the place of a draw
strength   noise is added to the keyframes and taken away with the new prompt (SDEdit, arXiv 2108.01073)
"""

from dataclasses import dataclass, field, replace

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

import patch
from pipelines.edit_masks import difference_map, snap_masks, soften, widen
from pipelines.image_adapters import check_sampled
from pipelines.image_inputs import JointInputs
from pipelines.image_sides import accepted, late_timesteps
from pipelines.inputs import image_batch, mask_batch
from pipelines.outputs import check_output_type
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from pipelines.request import Request, make_request
from pipelines.rows import Joint, lay_out_rows
from utils.commands.settings import Settings, about
from utils.diffusion.sampling import ImageSampling
from utils.latents import encode_mode

STRUCTURES = ("depth", "inversion", "depth+inversion", "strength")
STRENGTHS = {"strength": 0.6, "depth+inversion": 0.8}  # by default; 1 for the others
AUTO = "auto"


@dataclass(frozen=True)
class EditSettings(Settings):
    """How keyframes are edited."""

    structure: str = field(
        default="depth+inversion", metadata=about("what keeps the structure of the keyframes", str, choices=STRUCTURES)
    )
    strength: float | None = field(
        default=None,
        metadata=about(
            "share of the noise at which the keyframes start, above 0, up to 1",
            unset="0.8 with depth+inversion, 0.6 with strength, else 1",
            above=0, high=1,
        ),
    )  # fmt: skip
    edit_steps: int = field(default=30, metadata=about("denoising steps of the keyframes", int, low=1))
    edit_guidance_scale: float = field(
        default=5.0, metadata=about("guidance scale of the prompt in the keyframes; 1 or less: no guidance")
    )
    cross_frame: bool = field(default=True, metadata=about("attention across keyframes", bool))
    token_merging: float = field(
        default=0.0,
        metadata=about(
            "share, 0 to 1, of the tokens of other keyframes that attention merges into those of the middle one, for "
            "memory",
            low=0, high=1,
        ),
    )  # fmt: skip
    mask_threshold: float = field(
        default=0.35,
        metadata=about(
            "share, above 0, up to 1, of the largest difference between the prompts above which --mask auto edits",
            above=0,
            high=1,
        ),
    )

    @property
    def start(self) -> float:
        """Share of the noise at which the keyframes start."""
        return STRENGTHS.get(self.structure, 1.0) if self.strength is None else self.strength

    def keeps(self, what: str) -> bool:
        """Whether "depth" or "inversion" keeps the structure."""
        return what in self.structure.split("+")


@dataclass
class KeyframeOutput(BaseOutput):
    """The edited keyframes of a video.

    Attributes:
        images: K PIL images, or with output_type "np" an array (K, H, W, 3) in [0, 1], with "pt" a tensor.
        mask: (K, 1, H, W), 1 where they were edited, or None.
    """

    images: list
    mask: torch.Tensor | None


class StableDiffusionKeyframeEditPipeline(StableDiffusionJointPipeline):
    """Stable Diffusion that edits several frames of a video at once."""

    @torch.no_grad()
    def __call__(
        self,
        frames,
        prompt: str,
        source_prompt: str = "",
        mask=None,
        negative_prompt: str | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        **settings,
    ) -> KeyframeOutput:
        """Edit K keyframes.

        Args:
            frames: PIL images or floats (K, 3, H, W) in [-1, 1].
            prompt, source_prompt: What the result is to show, and what the frames show.
            mask: Limits the edit: (K, 1, H, W) or (1, 1, H, W), 1 where to edit, or "auto": where the prompts
                differ.
            output_type, settings: "pil", "np" or "pt"; fields of `EditSettings`.

        Raises:
            ValueError: What was passed cannot be edited; before any network runs.
        """
        check_output_type(output_type)
        settings = EditSettings(**settings)
        frames = image_batch(frames, "The keyframes").to(self._execution_device)
        mask = self.check_edit(frames, prompt, source_prompt, mask, settings)
        patch.apply_patch(self)
        self.scheduler = DDIMScheduler.from_config(self.scheduler.config)
        clean = self.encode_pixels(frames)
        found = self.find_mask(frames, clean, prompt, source_prompt, settings) if mask is AUTO else mask
        condition = self.estimate_condition(frames, clean, source_prompt, generator, settings)
        noise = self.start_noise(clean, source_prompt, condition, generator, settings)
        request = self.edit_request(frames, prompt, negative_prompt, condition, found, noise, settings)
        inputs = self.prepare(request, sampling_of(settings), joint_of(condition))
        pixels = self.decode_side(self.denoise_frames(inputs, settings)[0], request.known[None])
        if mask is AUTO:
            pixels = torch.lerp(frames, pixels, soften(found))
        self.maybe_free_model_hooks()
        images = self.image_processor.postprocess(pixels, output_type)
        return KeyframeOutput(images, found)

    def check_edit(self, frames, prompt: str, source_prompt: str, mask, settings: EditSettings):
        """The mask as `read_mask`; raises ValueError before any network runs."""
        check_prompts(prompt, source_prompt, isinstance(mask, str), settings)
        check_sampled(self.adapter_pairs, self.estimators())
        if settings.keeps("depth") and not patch.get_joints(self.unet):
            raise ValueError(
                f"structure={settings.structure!r} needs a joint adapter: call pipe.load_adapter_pair, or choose "
                "inversion."
            )
        return self.read_mask(frames, mask)

    def read_mask(self, frames: torch.Tensor, mask):
        """A mask for each keyframe, or what was passed of "auto" and None."""
        if mask is None or isinstance(mask, str):
            if mask not in (None, AUTO):
                raise ValueError(f"mask {mask!r} is unknown: pass {AUTO!r}, a tensor or None.")
            return AUTO if mask else None
        mask = mask_batch(mask, "The mask")
        if mask.shape[-2:] != frames.shape[-2:] or len(mask) not in (1, len(frames)):
            raise ValueError(
                f"The mask is {tuple(mask.shape)} and the keyframes {tuple(frames.shape)}: pass one of their size, or "
                "one for each."
            )
        return mask.expand(len(frames), -1, -1, -1).to(frames)

    def estimate_condition(self, frames, clean, source_prompt: str, generator, settings: EditSettings) -> dict:
        """The condition (K, 3, H, W) in [-1, 1] of the keyframes by the name of its adapter, if it is to keep them."""
        if not settings.keeps("depth"):
            return {}
        name = self.known_adapters()[0]
        noise = self.shared_noise(clean, generator)  # one for all, so that equal frames stay equal
        options = {"num_inference_steps": settings.edit_steps, "guidance_scale": 1.0, "output_type": "pt"}
        prompts = [source_prompt] * len(frames)
        out = super().__call__(prompts, frames, adapters=name, condition_latents={name: noise}, **options)
        return {name: out.conditions[name].float() * 2 - 1}

    def find_mask(self, frames, clean, prompt: str, source_prompt: str, settings: EditSettings) -> torch.Tensor:
        """Where the predictions for the two prompts differ, (K, 1, H, W) of 0 and 1."""
        K, device = len(frames), self._execution_device
        texts = [self.encode_prompt([text], device, 1, False)[0].expand(K, -1, -1) for text in (source_prompt, prompt)]

        def differ(noise: torch.Tensor, level: float) -> torch.Tensor:
            t = torch.tensor(round(level * (self.scheduler.config.num_train_timesteps - 1)), device=device)
            x_t = self.scheduler.add_noise(clean, noise.expand_as(clean), t[None])
            source, target = (self.unet(x_t, t, encoder_hidden_states=text, return_dict=False)[0] for text in texts)
            return target - source

        change = difference_map(clean, differ, torch.Generator().manual_seed(0))
        return widen(snap_masks(frames, change, settings.mask_threshold))

    def encode_pixels(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents (K, C, h, w) of frames (K, 3, H, W)."""
        return (encode_mode(self.vae, frames) * self.vae.config.scaling_factor).to(self.unet.dtype)

    def start_noise(self, clean, source_prompt: str, condition: dict, generator, settings: EditSettings):
        """Noise (K, C, h, w) that the keyframes start from: one draw for all, or what inversion leads to."""
        if settings.keeps("inversion"):
            return self.invert(clean, source_prompt, condition, settings)
        return self.shared_noise(clean, generator)

    def shared_noise(self, clean: torch.Tensor, generator) -> torch.Tensor:
        """One draw of noise for all samples of latents (K, C, h, w)."""
        noise = randn_tensor(clean[:1].shape, generator, clean.device, clean.dtype)
        return noise.expand_as(clean).contiguous()

    def invert(self, clean: torch.Tensor, source_prompt: str, condition: dict, settings: EditSettings) -> torch.Tensor:
        """The noise from which sampling with the source prompt leads to clean latents (K, C, h, w)."""
        forward = self.scheduler
        inverse = DDIMInverseScheduler(**accepted(DDIMInverseScheduler, **forward.config))
        forward.set_timesteps(settings.edit_steps)
        steps = len(late_timesteps(forward, settings.start))
        request = self.edit_request(None, source_prompt, None, condition, None, clean, replace(settings, strength=1.0))
        self.scheduler = inverse  # whose steps lead from clean latents to noise
        try:
            inputs = self.prepare(request, replace(sampling_of(settings), guidance_scale=1.0), joint_of(condition))
            side = self.denoise_frames(inputs, settings, steps)[0]
        finally:
            self.scheduler = forward
        alpha = forward.alphas_cumprod[inverse.timesteps[steps - 1].cpu()].to(clean)
        return (side.latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    def edit_request(
        self, frames, prompt, negative_prompt, condition: dict, mask, noise, settings: EditSettings
    ) -> Request:
        """What a call of the joint pipeline would ask for."""
        known = {None: (frames, None if frames is None else settings.start, mask, noise)}
        known |= {name: (images, 0.0, None, None) for name, images in condition.items()}
        height, width = (side * self.vae_scale_factor for side in noise.shape[-2:])
        prompts = [prompt] * len(noise)
        negatives = None if negative_prompt is None else [negative_prompt] * len(noise)
        weights = dict.fromkeys(condition, 1.0)
        return make_request(self, prompts, negatives, known, weights, height, width, 1, None)

    def denoise_frames(self, inputs: JointInputs, settings: EditSettings, steps: int | None = None) -> list:
        """The sides after all steps, or the first ones, with attention across the keyframes."""
        self._interrupt = False

        def stop(pipe, step: int, t, tensors: dict) -> dict:
            self._interrupt = step + 1 == steps
            return {}

        rows = lay_out_rows(inputs.sides, len(inputs.sides[0].latents), inputs.guidance.terms, inputs.joint)
        places = [range(i * rows.batch, (i + 1) * rows.batch) for i, (side, _) in enumerate(rows.slots) if side == 0]
        if settings.cross_frame:
            size = len(rows.slots) * rows.batch
            patch.set_frames(self.unet, places, batch_size=size, merge=settings.token_merging)
        try:
            return self.denoise(inputs, stop)
        finally:
            patch.clear_frames(self.unet)


def check_prompts(prompt: str, source_prompt: str, auto_mask: bool, settings: EditSettings) -> None:
    """Raises ValueError where the prompts do not say what is needed of them."""
    if not prompt.strip():
        raise ValueError("The prompt is empty: say what the result is to show.")
    if auto_mask and (not source_prompt.strip() or source_prompt.strip() == prompt.strip()):
        raise ValueError(
            "The mask 'auto' is where the prompts differ: pass a source_prompt that differs from the prompt."
        )


def sampling_of(settings: EditSettings) -> ImageSampling:
    return ImageSampling(num_inference_steps=settings.edit_steps, guidance_scale=settings.edit_guidance_scale)


def joint_of(condition: dict) -> Joint:
    """Images that read their given conditions; no joint attention without any."""
    return Joint(dict.fromkeys(condition, "x_reads_y"), dict.fromkeys(condition, 1.0))
