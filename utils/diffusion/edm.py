"""The diffusion of Stable Video Diffusion: EDM (Karras et al., NeurIPS 2022) with a network that predicts v. Training and sampling share it.

With clean latents x_0 of deviation 1, noise n ~ N(0, 1) and a noise level sigma (SVD paper, arXiv 2311.15127, appendix D):

    x_t = x_0 + sigma n
    D(x_t; sigma) = c_skip x_t + c_out F(c_in x_t; c_noise)                 the estimate of x_0
    c_skip = 1 / (sigma² + 1)         c_out = -sigma / √(sigma² + 1)
    c_in = 1 / √(sigma² + 1)          c_noise = ln(sigma) / 4

The loss of D, weighed by (1 + sigma²) / sigma², is the plain squared error of F against v = (n - sigma x_0) / √(1 + sigma²), which is
how it is computed here: no large factor meets a small difference.

A side that is given has sigma = 0: its latents enter as they are, under the embedding of the smallest noise level.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

ENCODED_TOGETHER = 8  # pictures by an autoencoder, for its memory
BUCKET = 1  # column of the time ids


@dataclass(frozen=True)
class EDM:
    """Noise levels and preconditioning.

    Attributes:
        sigma_mean, sigma_std: ln(sigma) ~ N(sigma_mean, sigma_std²) in training; (1.0, 1.6) for the released SVD at 576x1024, (0.7, 1.6) at
            320x576, (1.0, 1.2) for interpolation between first and last frame.
        sigma_min: Level whose embedding a given side has.
    """

    sigma_mean: float = 0.7
    sigma_std: float = 1.6
    sigma_min: float = 0.002

    def draw_sigmas(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Levels (count,), one for each sample, float32 on the CPU."""
        return (self.sigma_mean + self.sigma_std * torch.randn(count, generator=generator)).exp()

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """x_t (B, ...) from x_0 and noise of that shape and sigma (B,)."""
        return x_0 + _like(sigma, x_0) * noise

    def scale_input(self, x_t: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """c_in x_t: what the network sees."""
        return x_t / (_like(sigma, x_t).square() + 1).sqrt()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """c_noise (B,): the network's timestep."""
        return sigma.clamp(min=self.sigma_min).log() / 4

    def velocity(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """v, which the network is to predict."""
        sigma = _like(sigma, x_0)
        return (noise - sigma * x_0) / (sigma.square() + 1).sqrt()

    def denoised(self, x_t: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """D: the estimate of x_0 that the prediction v of x_t means."""
        sigma = _like(sigma, x_t)
        return x_t / (sigma.square() + 1) - v * sigma / (sigma.square() + 1).sqrt()

    def loss_weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """(1 + sigma²) / sigma², which turns the squared error of x_0 into that of v."""
        return (1 + sigma.square()) / sigma.square()


@dataclass(frozen=True)
class Condition:
    """What the network is told beside the noisy latents.

    Attributes:
        image_embeddings: CLIP's embedding of the clean image, (B, L, D).
        image_latents: Its latents in every frame (B, F, C, h, w): mode of the posterior, noise added in pixels before, **not** scaled.
        time_ids: (B, 3): frames per second - 1, motion bucket id, strength of that noise.
    """

    image_embeddings: torch.Tensor
    image_latents: torch.Tensor
    time_ids: torch.Tensor

    def drop(self, dropped: torch.Tensor, motion_bucket_id: float | None = None) -> "Condition":
        """Zero embedding and latents of the samples where dropped (B,) is true, and that bucket in place of theirs; the other ids stay."""
        kept = ~dropped.to(self.image_latents.device)
        ids = self.time_ids
        if motion_bucket_id is not None:
            ids = ids.clone()
            ids[~kept, BUCKET] = motion_bucket_id
        return Condition(
            self.image_embeddings * kept[:, None, None], self.image_latents * kept[:, None, None, None, None], ids
        )

    def repeat(self, times: int) -> "Condition":
        """The same for each of several sides, whose rows follow one another."""
        return Condition.join([self] * times)

    @classmethod
    def join(cls, conditions: Sequence["Condition"]) -> "Condition":
        """The samples of one after those of another."""
        return cls(*(torch.cat(values) for values in zip(*(one._tensors for one in conditions), strict=True)))

    def take(self, rows: Sequence[int]) -> "Condition":
        """Those of some samples, in this order."""
        return Condition(*(value[list(rows)] for value in self._tensors))

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return self.image_embeddings, self.image_latents, self.time_ids

    def with_unconditional(self, motion_bucket_id: float | None = None) -> "Condition":
        """Twice the samples for guidance: first without the image (`drop`), then with it, as the pipeline of diffusers orders them."""
        everything = torch.ones(len(self.time_ids), dtype=torch.bool)
        return Condition.join([self.drop(everything, motion_bucket_id), self])


class Denoiser:
    """A video UNet as a denoiser: `loss` trains it, `denoise` samples with it."""

    def __init__(self, unet: nn.Module, edm: EDM | None = None):
        self.unet = unet
        self.edm = edm or EDM()

    def predict(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """v for latents x_t (B, F, C, h, w) at sigma (B,), in the type of x_t; the network gets that of the embeddings.

        Latents are to be float32 where the network is float16: the square of sigma would overflow.
        """
        inputs = torch.cat([self.edm.scale_input(x_t, sigma), condition.image_latents.to(x_t.dtype)], dim=2)
        embeddings, timestep = condition.image_embeddings, self.edm.timestep(sigma)
        v = self.unet(inputs.to(embeddings.dtype), timestep, embeddings, condition.time_ids, return_dict=False)[0]
        return v.to(x_t.dtype)

    def denoise(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The estimate of x_0."""
        return self.edm.denoised(x_t, self.predict(x_t, sigma, condition), sigma)

    def loss(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Squared error of v (B,), float32, of scaled clean latents x_0 (B, F, C, h, w)."""
        return self.loss_and_estimate(x_0, noise, sigma, condition)[0]

    def loss_and_estimate(
        self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss (B,), and the estimate of x_0 behind it, for losses that look at the clip."""
        x_t = self.edm.add_noise(x_0, noise, sigma)
        v = self.predict(x_t, sigma, condition).float()
        error = v - self.edm.velocity(x_0.float(), noise.float(), sigma)
        return error.square().flatten(1).mean(dim=1), self.edm.denoised(x_t.float(), v, sigma)


class ConditionEncoder:
    """From images to conditions, exactly as `StableVideoDiffusionPipeline` makes them.

    Args:
        vae: Encodes the image; a float16 one that has `force_upcast` has to be brought to float32 first.
        image_encoder: CLIP's vision model with projection.
        feature_extractor: Holds CLIP's mean and deviation of pixels.
    """

    def __init__(self, vae: nn.Module, image_encoder: nn.Module, feature_extractor):
        self.vae, self.image_encoder = vae, image_encoder
        mean, std = feature_extractor.image_mean, feature_extractor.image_std
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __call__(
        self,
        image: torch.Tensor,
        num_frames: int,
        fps: float | torch.Tensor,
        motion_bucket_id: int | torch.Tensor,
        noise_aug_strength: float | torch.Tensor,
        noise: torch.Tensor | None = None,
        frames: torch.Tensor | None = None,
    ) -> Condition:
        """Args:
        image: First frames (B, 3, H, W) in [-1, 1].
        num_frames: F.
        fps, motion_bucket_id, noise_aug_strength: One for all or (B,); fps as people count it, without the - 1.
        noise: That of the image, drawn from N(0, 1) by default; it may not be the noise of the diffusion.
        frames: Pictures (B, F, 3, H, W) whose latents stand beside each frame in place of the image's, with the same noise on all.
        """
        noise = torch.randn_like(image) if noise is None else noise
        ids = time_ids(len(image), fps, motion_bucket_id, noise_aug_strength).to(image.device)
        told = image[:, None] if frames is None else frames
        noisy = told + (ids[:, 2, None, None, None].to(image.dtype) * noise)[:, None]
        latents = self.encode_latents(noisy.flatten(0, 1)).unflatten(0, told.shape[:2])
        latents = latents.repeat(1, num_frames, 1, 1, 1) if frames is None else latents
        embeddings = self.embed(image)
        return Condition(embeddings, latents, ids.to(embeddings.dtype))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """CLIP's embedding (B, 1, D) of images (B, 3, H, W) in [-1, 1]."""
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

        side = self.image_encoder.config.image_size
        pixels = (_resize_with_antialiasing(image.float(), (side, side)) + 1) / 2
        pixels = (pixels - self.mean.to(pixels.device)) / self.std.to(pixels.device)
        return self.image_encoder(pixels.to(self.image_encoder.dtype)).image_embeds[:, None]

    @torch.no_grad()
    def encode_latents(self, image: torch.Tensor) -> torch.Tensor:
        """Mode of the latents (B, C, h, w) of images (B, 3, H, W), not scaled."""
        parts = image.to(self.vae.dtype).split(ENCODED_TOGETHER)
        return torch.cat([self.vae.encode(part).latent_dist.mode() for part in parts])


def time_ids(count: int, fps, motion_bucket_id, noise_aug_strength) -> torch.Tensor:
    """(count, 3), float32: fps - 1, motion bucket id, strength of the image's noise; each given once or for each sample."""
    columns = [torch.as_tensor(value, dtype=torch.float32) for value in (fps, motion_bucket_id, noise_aug_strength)]
    columns[0] = columns[0] - 1
    return torch.stack([column.cpu().flatten().expand(count) for column in columns], dim=1)


def draw_noise_aug_strengths(count: int, mean: float = -3.0, std: float = 0.5) -> torch.Tensor:
    """Strengths (count,) of the image's noise in training: ln(strength) ~ N(mean, std²) (SVD paper, appendix D)."""
    return (mean + std * torch.randn(count)).exp()


def guidance_over_frames(num_frames: int, minimum: float = 1.0, maximum: float = 3.0) -> torch.Tensor:
    """Guidance scales (1, F, 1, 1, 1), growing linearly from the first frame, which is known, to the last."""
    return torch.linspace(minimum, maximum, num_frames)[None, :, None, None, None]


def guide(predictions: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Classifier-free guidance of predictions (2B, F, C, h, w), ordered as by `Condition.with_unconditional`, to (B, F, C, h, w)."""
    without, given = predictions.chunk(2)
    return without + scale * (given - without)


@dataclass(frozen=True, eq=False)
class Solver:
    """From noise level to noise level along the estimates of the clean latents.

    Attributes:
        order: 1 is Euler's method, that of diffusers' pipeline. 2 is DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), which draws the line
            through this and the last estimate on: with few steps Euler's falls behind where the estimates still grow, and things
            move less than the network would have them move. It costs no evaluation more.
        last: Estimate and level of the step before; None at the first.
    """

    order: int = 1
    last: tuple[torch.Tensor, torch.Tensor] | None = None

    def __post_init__(self):
        if self.order not in (1, 2):
            raise ValueError(f"solver_order={self.order} is unknown: choose 1 (Euler) or 2 (DPM-Solver++).")

    def step(
        self, x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor
    ) -> tuple[torch.Tensor, "Solver"]:
        """Latents at next_sigma (), and the solver for the step after that; sigma is () or (B,), the same for all."""
        level = sigma.flatten()[0]
        towards = x_0
        if self.order == 2 and self.last is not None and next_sigma > 0:
            last_x_0, last_level = self.last
            ahead = torch.log(level / next_sigma) / torch.log(last_level / level) / 2
            towards = x_0 + ahead.to(x_0) * (x_0 - last_x_0)
        return euler_step(x_t, towards, sigma, next_sigma), replace(self, last=(x_0, level))


def euler_step(x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor) -> torch.Tensor:
    """From noise level sigma to next_sigma, both (B,) or scalars, along the direction that x_0 gives (EDM, algorithm 1 without churn)."""
    sigma, next_sigma = _like(sigma, x_t), _like(next_sigma, x_t)
    return x_0 + (x_t - x_0) * (next_sigma / sigma)


def _like(values: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Values (B,) or () with as many dimensions as the reference, on its device and of its type."""
    values = values.to(reference.device, reference.dtype)
    return values.reshape(-1, *[1] * (reference.ndim - 1))
