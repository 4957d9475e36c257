"""The condition of Stable Video Diffusion: the image by its CLIP embedding and its latents, and three numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from utils.latents import encode_mode

BUCKET = 1  # column of the time ids


@dataclass(frozen=True)
class Condition:
    """Inputs of the network besides the noisy latents.

    Attributes:
        image_embeddings: CLIP embedding of the clean conditioning image, (B, L, D).
        image_latents: Latents of the conditioning image for each frame, (B, F, C, h, w): mode of the posterior, **not**
            scaled, of the image with noise added in pixels.
        time_ids: (B, 3): frames per second - 1, motion bucket id, noise augmentation strength.
    """

    image_embeddings: torch.Tensor
    image_latents: torch.Tensor
    time_ids: torch.Tensor

    def drop(self, dropped: torch.Tensor, motion_bucket_id: float | None = None) -> "Condition":
        """The condition without its image in the samples where `dropped`, bool (B,), is true: embeddings and latents 0.

        Args:
            motion_bucket_id: Motion bucket of these samples; by default it stays, as the other numbers do.
        """
        kept = ~dropped.to(self.image_latents.device)
        ids = self.time_ids
        if motion_bucket_id is not None:
            ids = ids.clone()
            ids[~kept, BUCKET] = motion_bucket_id
        embeddings, latents = (
            self.image_embeddings * kept[:, None, None],
            self.image_latents * kept[:, None, None, None, None],
        )
        return replace(self, image_embeddings=embeddings, image_latents=latents, time_ids=ids)

    def with_frames(self, x_0: torch.Tensor, scaling_factor: float, where: torch.Tensor | None = None) -> "Condition":
        """The condition with all frames of a video as the conditioning images, without noise.

        Samples without an image (`drop`) stay without.

        Args:
            x_0: Clean latents (B, F, C, h, w) of the video, which are scaled.
            scaling_factor: Of the autoencoder; Stable Video Diffusion scales what is denoised, but not what conditions.
            where: bool (B,), the samples whose condition changes; by default all.
        """
        known = self.image_latents.flatten(1).any(dim=1)
        where = known if where is None else where.to(known.device) & known
        frames = (x_0 / scaling_factor).to(self.image_latents.dtype)
        latents = torch.where(where[:, None, None, None, None], frames, self.image_latents)
        return replace(self, image_latents=latents)

    def repeat(self, times: int) -> "Condition":
        """The same condition for several sides, whose samples follow one another."""
        return self.join([self] * times)

    @classmethod
    def join(cls, conditions: Sequence["Condition"]) -> "Condition":
        """Conditions of several batches as one, in their order."""
        return cls(*(torch.cat(values) for values in zip(*(one._tensors for one in conditions), strict=True)))

    def take(self, rows: Sequence[int]) -> "Condition":
        """The condition of some samples, in this order."""
        return type(self)(*(value[list(rows)] for value in self._tensors))

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def with_unconditional(self, motion_bucket_id: float | None = None) -> "Condition":
        """The condition of 2 B samples for guidance, as in diffusers: first the unconditional (`drop`), then these.

        Args:
            motion_bucket_id: Motion bucket of the unconditional samples; by default that of these.
        """
        everything = torch.ones(len(self.time_ids), dtype=torch.bool)
        return self.join([self.drop(everything, motion_bucket_id), self])


class ConditionEncoder:
    """Makes conditions from images, exactly as `StableVideoDiffusionPipeline` does.

    Args:
        vae: Encodes the image; bring a float16 one that has `force_upcast` to float32 first.
        image_encoder: CLIP's vision model with projection.
        feature_extractor: Holds the mean and deviation of CLIP's pixels.
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
        image_frames: torch.Tensor | None = None,
    ) -> Condition:
        """Args:
        image: Conditioning images (B, 3, H, W) in [-1, 1], first frames of the videos.
        num_frames: F.
        fps, motion_bucket_id, noise_aug_strength: One for all samples, or (B,). `fps` is the true rate; the 1 that the
            model subtracts is subtracted here.
        noise: Standard normal noise (B, 3, H, W) added to the image, by default drawn; not the noise of the diffusion.
        image_frames: Images (B, F, 3, H, W) that condition the frames in place of the one image, all with the same
            noise.
        """
        noise = torch.randn_like(image) if noise is None else noise
        ids = time_ids(len(image), fps, motion_bucket_id, noise_aug_strength).to(image.device)
        images = image[:, None] if image_frames is None else image_frames
        noisy = images + (ids[:, 2, None, None, None].to(image.dtype) * noise)[:, None]
        latents = self.encode_latents(noisy.flatten(0, 1)).unflatten(0, images.shape[:2])
        latents = latents.repeat(1, num_frames, 1, 1, 1) if image_frames is None else latents
        embeddings = self.embed(image)
        return Condition(embeddings, latents, ids.to(embeddings.dtype))

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """CLIP embedding (B, 1, D) of images (B, 3, H, W) in [-1, 1]."""
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

        side = self.image_encoder.config.image_size
        pixels = (_resize_with_antialiasing(image.float(), (side, side)) + 1) / 2
        pixels = (pixels - self.mean.to(pixels.device)) / self.std.to(pixels.device)
        return self.image_encoder(pixels.to(self.image_encoder.dtype)).image_embeds[:, None]

    def encode_latents(self, image: torch.Tensor) -> torch.Tensor:
        """Mode of the latents (B, C, h, w) of images (B, 3, H, W), not scaled."""
        return encode_mode(self.vae, image)


def time_ids(count: int, fps, motion_bucket_id, noise_aug_strength) -> torch.Tensor:
    """(count, 3), float32: fps - 1, motion bucket id, noise augmentation strength; each once or for each sample."""
    columns = [torch.as_tensor(value, dtype=torch.float32) for value in (fps, motion_bucket_id, noise_aug_strength)]
    names = ("fps", "motion_bucket_id", "noise_aug_strength")
    for name, column in zip(names, columns, strict=True):
        if column.numel() not in (1, count):
            raise ValueError(
                f"{name}: {column.numel()} values do not go with a batch of {count}: pass one, or one for each image."
            )
    columns[0] = columns[0] - 1
    return torch.stack([column.cpu().flatten().expand(count) for column in columns], dim=1)


def draw_noise_aug_strengths(count: int, mean: float = -3.0, std: float = 0.5) -> torch.Tensor:
    """Noise augmentation strengths (count,) of a training: ln(strength) ~ N(mean, std²) (SVD paper, appendix D)."""
    return (mean + std * torch.randn(count)).exp()
