"""Videos longer than the model's, in segments that carry on from one another.

overlap: the last frames of a segment are the first of the next. There their latents are known: while the noise level is
    at least `release_sigma`, they replace the estimate of the clean latents at every step, so that the noisy ones are
    the known ones with the segment's own noise at the step's level (the replacement of RePaint, arXiv 2201.09865,
    without its repeats), and the new frames carry the motion on. Below that level all frames are sampled together: held
    to the end, the shared ones would stand apart from the new ones. The pixels of the shared frames fade from the
    earlier sample to the later one.
restart: the last frame alone is the image that the next segment begins with, and nothing else is handed on.
"""

from dataclasses import dataclass, replace

import torch

from pipelines.pipeline_stable_video_diffusion import Images, StableVideoDiffusionEDMPipeline
from pipelines.video_inputs import VideoInputs
from utils.commands.settings import check
from utils.diffusion.sampling import VideoSampling

WAYS = ("overlap", "restart")
RELEASE_SIGMA = 1.0  # latents have a deviation near 1: their outlines are settled, details are not


@dataclass(frozen=True)
class LongVideo:
    """Videos of several segments.

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
    release_sigma: float = RELEASE_SIGMA,
    **options,
) -> LongVideo:
    """Videos of N = total_frames frames; one segment of them is an ordinary video.

    Args:
        pipe: Where to sample.
        image: As in a call of the pipeline.
        total_frames: N.
        way: "overlap" or "restart".
        overlap_frames: Frames that two segments share; by default a quarter of a segment. One in a restart.
        num_frames: Frames of a segment; by default the model's.
        release_sigma: Noise level below which shared frames are free; 0 holds them to the end.
        options: Fields of `VideoSampling` and arguments of `pipe.prepare`, of each segment. A generator goes on from
            segment to segment.

    Raises:
        ValueError: The frames do not fit together, or an argument is out of its range.
    """
    num_frames = pipe.unet.config.num_frames if num_frames is None else num_frames
    overlap = count_overlap(way, overlap_frames, num_frames)
    starts = segment_starts(total_frames, num_frames, overlap)
    check("release_sigma", release_sigma, low=0)
    sampling, options = VideoSampling.take(options)
    first, known, video = pipe.check_pixels(image), None, None
    for _ in starts:
        inputs = pipe.prepare(first, sampling, num_frames=num_frames, **options)
        latents = pipe.denoise(inputs if known is None else hold(inputs, known, release_sigma))
        pixels = pipe.decode(latents, inputs.decode_chunk_size).clamp(-1, 1).cpu()
        video = pixels if video is None else join(video, pixels, overlap, fade=way == "overlap")
        first = pixels[:, -overlap]
        known = latents[:, -overlap:] if way == "overlap" else None
    pipe.maybe_free_model_hooks()
    return LongVideo(video[:, :total_frames], starts)


def count_overlap(way: str, overlap_frames: int | None, num_frames: int) -> int:
    """Frames that two segments share."""
    if way not in WAYS:
        raise ValueError(f"Long videos have no method {way!r}: pass {' or '.join(WAYS)}.")
    if way == "restart":
        if overlap_frames not in (None, 1):
            raise ValueError(
                f"overlap_frames {overlap_frames} is not allowed: a restart hands on one frame, pass overlap for more."
            )
        return 1
    overlap = max(1, num_frames // 4) if overlap_frames is None else overlap_frames
    if not 1 <= overlap < num_frames:
        raise ValueError(
            f"overlap_frames {overlap} is not allowed: pass 1 to {num_frames - 1}, one less than a segment."
        )
    return overlap


def segment_starts(total_frames: int, num_frames: int, overlap: int) -> tuple[int, ...]:
    """First new frame of each segment of a video."""
    if total_frames < num_frames:
        raise ValueError(f"total_frames {total_frames} is less than a segment of {num_frames}: pass num_frames alone.")
    return (0, *range(num_frames, total_frames, num_frames - overlap))


def hold(inputs: VideoInputs, known: torch.Tensor, release_sigma: float = 0.0) -> VideoInputs:
    """Inputs of a segment whose first latents (B, K, C, h, w) are known.

    The estimates of the clean latents have them while the noise level is at least `release_sigma`.
    """
    count, noise = known.shape[1], inputs.video.latents
    latents = torch.cat([known + noise[:, :count], noise[:, count:]], dim=1)

    def held(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.cat([known, x_0[:, count:]], dim=1) if sigma >= release_sigma else x_0

    def adjust(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x_0 = held(x_0, sigma)
        return x_0 if inputs.adjust is None else held(inputs.adjust(x_0, sigma), sigma)

    return replace(inputs, sides=(replace(inputs.video, latents=latents), *inputs.sides[1:]), adjust=adjust)


def join(video: torch.Tensor, pixels: torch.Tensor, overlap: int, fade: bool) -> torch.Tensor:
    """A video (B, F, 3, H, W) with a segment appended, whose first `overlap` frames are the video's last ones.

    fade: Whether the shared frames fade from the video's to the segment's; otherwise the video's stay.
    """
    shared = video[:, -overlap:]
    if fade:
        weight = torch.arange(1, overlap + 1).div(overlap + 1)[:, None, None, None]
        shared = torch.lerp(shared, pixels[:, :overlap], weight)
    return torch.cat([video[:, :-overlap], shared, pixels[:, overlap:]], dim=1)
