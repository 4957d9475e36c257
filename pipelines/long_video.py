"""Videos longer than the model's, in segments that carry on from one another.

overlap: the last frames of a segment are the first of the next. There their latents are known: while the noise level is at least
    `release_sigma`, they replace the estimate of the clean latents at every step, so that the noisy ones are the known ones with the
    segment's own noise at the step's level (the replacement of RePaint, arXiv 2201.09865, without its repeats), and the new frames
    carry the motion on. Below that level all frames are drawn together: held to the end, the shared ones would stand apart from
    the new ones. The pixels fade from the earlier drawing of the shared frames to the later one.
restart: the last frame alone is the picture that the next segment begins with, and nothing else is handed on.
"""

from dataclasses import dataclass, replace

import torch

from pipelines.adjustments import Adjustment, adjust_frames
from pipelines.pipeline_stable_video_diffusion import (
    Generators,
    Images,
    StableVideoDiffusionEDMPipeline,
    VideoInputs,
)
from utils.diffusion.sampling import VideoSampling

WAYS = ("overlap", "restart")
RELEASE_SIGMA = 1.0  # latents have a deviation near 1: their outlines are settled, details are not


@dataclass(frozen=True)
class LongVideo:
    """
    Attributes:
        pixels: (B, N, 3, H, W) in [-1, 1], float32, on the CPU.
        starts: First new frame of each segment; the first one's is 0.
    """

    pixels: torch.Tensor
    starts: tuple[int, ...]


@torch.no_grad()
def sample_long_video(
    pipe: StableVideoDiffusionEDMPipeline,
    image: Images,
    total_frames: int,
    way: str = "overlap",
    overlap_frames: int | None = None,
    num_frames: int | None = None,
    decode_chunk_size: int | None = None,
    temporal_smoothing: float = 0.0,
    motion_scale: float = 1.0,
    release_sigma: float = RELEASE_SIGMA,
    generator: Generators = None,
    **sampling,
) -> LongVideo:
    """Videos of N = total_frames frames; one segment of them is an ordinary video.

    Args:
        pipe: Where to sample.
        image: Pictures, as in a call of the pipeline.
        total_frames: N.
        way: "overlap" or "restart".
        overlap_frames: Frames that two segments share; by default a quarter of a segment. One, the picture, in a restart.
        num_frames: Of a segment; by default the model's.
        decode_chunk_size, temporal_smoothing, motion_scale: As in a call of the pipeline.
        release_sigma: Noise level below which shared frames are free; 0 holds them to the end.
        generator: As in a call of the pipeline; it goes on from segment to segment.
        sampling: Fields of `VideoSampling`.

    Raises:
        ValueError: The frames do not fit together, or an argument is out of its range.
    """
    num_frames = pipe.unet.config.num_frames if num_frames is None else num_frames
    overlap = count_overlap(way, overlap_frames, num_frames)
    starts = segment_starts(total_frames, num_frames, overlap)
    adjust = adjust_frames(temporal_smoothing, motion_scale)
    sampling = VideoSampling(**sampling)
    first, known, video = pipe.check_pixels(image), None, None
    for _ in starts:
        inputs = pipe.prepare(first, num_frames, sampling, generator)
        latents = denoise_from(pipe, inputs, known, adjust, release_sigma)
        pixels = pipe.decode(latents, decode_chunk_size).clamp(-1, 1).cpu()
        video = pixels if video is None else join(video, pixels, overlap, fade=way == "overlap")
        first = pixels[:, -overlap]
        known = latents[:, -overlap:] if way == "overlap" else None
    pipe.maybe_free_model_hooks()
    return LongVideo(video[:, :total_frames], starts)


def count_overlap(way: str, overlap_frames: int | None, num_frames: int) -> int:
    """Frames that two segments share."""
    if way not in WAYS:
        raise ValueError(f"A long video is made by {' or '.join(WAYS)}, not by {way!r}.")
    if way == "restart":
        if overlap_frames not in (None, 1):
            raise ValueError(f"overlap_frames={overlap_frames}: a restart hands on one frame, take overlap for more.")
        return 1
    overlap = max(1, num_frames // 4) if overlap_frames is None else overlap_frames
    if not 1 <= overlap < num_frames:
        raise ValueError(f"overlap_frames={overlap} is not between 1 and {num_frames - 1}, one less than a segment.")
    return overlap


def segment_starts(total_frames: int, num_frames: int, overlap: int) -> tuple[int, ...]:
    """First new frame of each segment of a video."""
    if total_frames < num_frames:
        raise ValueError(f"total_frames={total_frames} is less than a segment of {num_frames}: take num_frames alone.")
    return (0, *range(num_frames, total_frames, num_frames - overlap))


def denoise_from(
    pipe: StableVideoDiffusionEDMPipeline,
    inputs: VideoInputs,
    known: torch.Tensor | None,
    adjust: Adjustment | None = None,
    release_sigma: float = 0.0,
) -> torch.Tensor:
    """Clean latents (B, F, C, h, w) of a segment whose first ones, (B, K, C, h, w), may be known."""
    if known is None:
        return pipe.denoise(inputs, adjust)
    count = known.shape[1]
    x_t = torch.cat([known + inputs.x_t[:, :count], inputs.x_t[:, count:]], dim=1)

    def hold(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.cat([known, x_0[:, count:]], dim=1) if sigma >= release_sigma else x_0

    def adjust_held(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x_0 = hold(x_0, sigma)
        return x_0 if adjust is None else hold(adjust(x_0, sigma), sigma)

    return pipe.denoise(replace(inputs, x_t=x_t), adjust_held)


def join(video: torch.Tensor, pixels: torch.Tensor, overlap: int, fade: bool) -> torch.Tensor:
    """A segment appended to a video (B, F, 3, H, W), whose last `overlap` frames are the segment's first; they fade, or the video's stay."""
    shared = video[:, -overlap:]
    if fade:
        weight = torch.arange(1, overlap + 1).div(overlap + 1)[:, None, None, None]
        shared = torch.lerp(shared, pixels[:, :overlap], weight)
    return torch.cat([video[:, :-overlap], shared, pixels[:, overlap:]], dim=1)
