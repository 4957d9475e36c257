"""The frames between edited keyframes: sampled between two of them, guided by the source's flow, seams blended."""

from dataclasses import replace

import torch
from torch.nn import functional

from pipelines.pipeline_stable_video_diffusion_trans import StableVideoDiffusionTransPipeline, TransInputs
from pipelines.trans_keyframes import place_keyframes
from pipelines.video_sides import start_video_side
from utils.commands.settings import check
from utils.diffusion.sampling import VideoSampling

SEAM_PARTS = 8  # of the shorter side: colours are brought together over a patch of that share


class StableVideoDiffusionLedTransPipeline(StableVideoDiffusionTransPipeline):
    """`StableVideoDiffusionTransPipeline` that may start from frames that are nearly right."""

    @torch.no_grad()
    def prepare(
        self,
        image,
        sampling: VideoSampling | None = None,
        last=None,
        *,
        lead: torch.Tensor | None = None,
        lead_strength: float = 1.0,
        **options,
    ) -> TransInputs:
        """As of `StableVideoDiffusionTransPipeline`.

        Args:
            lead: Frames (B, F, 3, H, W) in [-1, 1] that the video is to be like; none leave it free.
            lead_strength: Share of the steps that are taken from them on: 1 ignores them.
        """
        check("lead_strength", lead_strength, above=0, high=1)
        inputs = super().prepare(image, sampling, last, **options)
        if lead is None:
            return inputs
        video, clean = inputs.video, self.encode_frames(lead)
        led = start_video_side(None, video.sigmas, video.latents, lead_strength, clean, video.solver)
        return replace(inputs, sides=(led,))


def fill_between(sample, first: torch.Tensor, last: torch.Tensor, start: int, end: int, most: int) -> torch.Tensor:
    """Frames from number `start`, which is `first`, to number `end`, which is `last`, (3, H, W) each.

    Args:
        sample: From first, last and the numbers of F frames to these frames (F, 3, H, W), F at most `most`.
        most: Where there are more, the middle one of as many as that is sampled before the others.
    """
    if end - start == 1:
        return torch.stack([first, last])
    if end - start < most:
        return sample(first, last, list(range(start, end + 1)))
    numbers = [start + place for place in place_keyframes(most, end - start + 1)]
    half = most // 2
    middle = sample(first, last, numbers)[half]
    before = fill_between(sample, first, middle, start, numbers[half], most)
    return torch.cat([before, fill_between(sample, middle, last, numbers[half], end, most)[1:]])


def blend_seams(frames: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Frames (F, 3, H, W) whose colours go over into those of the first one and the last one.

    The autoencoder shifts colours a little, and the given ends are not from it: what it did to them, smoothed, is taken
    back in the frames between, each by how near it is.

    Args:
        frames: With the given ends.
        decoded: The ends through the autoencoder, (2, 3, H, W).
    """
    shift = smooth(frames[[0, -1]] - decoded)
    time = torch.linspace(0, 1, len(frames)).view(-1, 1, 1, 1).to(frames)
    blended = (frames + torch.lerp(shift[:1], shift[1:], time)).clamp(-1, 1)
    return torch.cat([frames[:1], blended[1:-1], frames[-1:]])


def smooth(images: torch.Tensor) -> torch.Tensor:
    """Means over a patch around each pixel."""
    reach = max(1, min(images.shape[-2:]) // SEAM_PARTS // 2)
    return functional.avg_pool2d(images, 2 * reach + 1, 1, reach, count_include_pad=False)
