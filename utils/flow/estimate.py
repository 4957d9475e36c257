"""Optical flow of a video by one of several backends."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch.nn import functional

import unimatch
from utils.flow.warp import resize_flow
from utils.scenes.motion import Clip
from utils.scenes.video import clip_flow

FlowEstimator = Callable[[torch.Tensor], torch.Tensor]

DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
DIS_SHORTER, DIS_LONGER = 8, 12  # pixels that OpenCV asks of the two sides
SHORTER_SIDE = 128  # pixels that smaller frames are enlarged to for their flow: DIS loses small things in small frames


def estimate_flow(video: torch.Tensor, backend: str = "dis", **options) -> torch.Tensor:
    """Flow between neighbouring frames: float32 (F - 1, 2, H, W) in pixels, x then y, on the video's device.

    For many videos make the estimator once with `flow_estimator`, which takes the same arguments.

    Args:
        video: (F, 3, H, W) in [-1, 1], at least 2 frames.
        backend: "dis" (OpenCV, without weights), "unimatch", "raft" (needs torchvision) or "exact" (procedural world).
        options: `inference_size=(H, W)` for any: estimate at that size and scale the vectors back. For "dis" `preset`
            ("ultrafast", "fast", "medium"); for "unimatch" and "raft" `checkpoint` (a file; raft downloads its own
            without it) and `device`, for "unimatch" also the `dtype` of the weights; for "exact" the `clip` that was
            rendered.

    Raises:
        ValueError: Unknown backend, or the video has another shape or range.
        ImportError: The backend's package is missing.
    """
    return flow_estimator(backend, **options)(video)


def flow_estimator(backend: str = "dis", inference_size: tuple[int, int] | None = None, **options) -> FlowEstimator:
    """A function from a video to its flow; see `estimate_flow`."""
    if backend not in BACKENDS:
        raise ValueError(f"There is no flow backend {backend!r}; choose one of {', '.join(BACKENDS)}.")
    known = list(signature(BACKENDS[backend]).parameters)
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"The {backend} backend has no option {unknown[0]!r}; it takes {', '.join(known)}.")
    if inference_size and min(inference_size) < 1:
        raise ValueError(f"inference_size={tuple(inference_size)} is a height and a width in pixels, both positive.")
    estimator = BACKENDS[backend](**options)

    @torch.no_grad()
    def estimate(video: torch.Tensor) -> torch.Tensor:
        check_video(video)
        resized = video.float()
        if inference_size:
            resized = functional.interpolate(resized, inference_size, mode="bilinear", antialias=True)
        flow = estimator(resized).to(video.device)
        return resize_flow(flow, tuple(video.shape[-2:]))

    return estimate


def enlarged_size(video: torch.Tensor, shorter_side: int = SHORTER_SIDE) -> tuple[int, int]:
    """Height and width at which DIS finds small things: those of a video (..., H, W), or larger ones.

    Args:
        shorter_side: Pixels that it has at least.
    """
    scale = max(1.0, shorter_side / min(video.shape[-2:]))
    H, W = video.shape[-2:]
    return round(scale * H), round(scale * W)


def both_flows_estimator(
    backend: str = "dis", inference_size: tuple[int, int] | None = None, **options
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A function from a video to its flow and to the flow back, (F - 1, 2, H, W) from frame t + 1 to frame t.

    Both are as `flow_estimator` gives them for the video and for the one that runs backwards; unimatch finds them at
    once. Raises a ValueError for "exact", which knows the way forward alone.
    """
    if backend == "exact":
        raise ValueError("The exact backend has no flow back; utils.scenes.render_clip gives it.")
    if backend == "unimatch":
        estimate_both = flow_estimator(backend, inference_size, both_ways=True, **options)
        return lambda video: estimate_both(video).chunk(2)
    estimate = flow_estimator(backend, inference_size, **options)
    return lambda video: (estimate(video), estimate(video.flip(0)).flip(0))


def check_video(video: torch.Tensor) -> None:
    """Raise a ValueError unless the video is (F, 3, H, W), floating, in [-1, 1], with at least 2 frames."""
    if video.ndim != 4 or video.shape[1] != 3 or len(video) < 2 or not video.is_floating_point():
        raise ValueError(
            f"Flow needs a video (F, 3, H, W) of floats with at least 2 frames, not {tuple(video.shape)} {video.dtype}."
        )
    low, high = video.aminmax()
    if low < -1.01 or high > 1.01:
        raise ValueError(f"Flow needs pixels in [-1, 1]; the video's are in [{low:.3g}, {high:.3g}].")


def dis_estimator(preset: str = "medium") -> FlowEstimator:
    """Dense inverse search (Kroeger et al., ECCV 2016) of OpenCV, on gray frames, on the CPU."""
    if preset not in DIS_PRESETS:
        raise ValueError(f"DIS has the presets {', '.join(DIS_PRESETS)}, not {preset!r}.")
    dis = cv2.DISOpticalFlow_create(DIS_PRESETS[preset])

    def estimate(video: torch.Tensor) -> torch.Tensor:
        shorter, longer = sorted(video.shape[-2:])
        if shorter < DIS_SHORTER or longer < DIS_LONGER:
            raise ValueError(
                f"DIS needs frames of at least {DIS_SHORTER}x{DIS_LONGER} pixels, not {shorter}x{longer}; "
                "give a larger inference_size."
            )
        frames = video.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        flows = [dis.calc(first, second, None) for first, second in pairwise(grays)]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous()

    return estimate


def unimatch_estimator(
    checkpoint: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    both_ways: bool = False,
) -> FlowEstimator:
    """UniMatch (Xu et al., TPAMI 2023) with a published checkpoint, which says what configuration it is of.

    With `both_ways` the flow is (2 (F - 1), 2, H, W): after that of all frames the flow back.
    """
    if checkpoint is None:
        raise ValueError(
            "The unimatch backend needs a checkpoint: a released .pth file, or its weights as .safetensors."
        )
    model = unimatch.load_unimatch(checkpoint, device=device, dtype=dtype)
    return partial(match_frames_both_ways if both_ways else match_frames, model)


def match_frames(model: unimatch.UniMatch, video: torch.Tensor) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) between neighbours of a video (F, 3, H, W) in [-1, 1]."""
    pixels = (video + 1) * 127.5
    return torch.cat([unimatch.estimate_flow(model, *pair) for pair in pairwise(pixels[:, None])])


def match_frames_both_ways(model: unimatch.UniMatch, video: torch.Tensor) -> torch.Tensor:
    """Flow (2 (F - 1), 2, H, W): what `match_frames` gives, then the flow back."""
    pixels = (video + 1) * 127.5
    flows = [unimatch.estimate_both_flows(model, *pair) for pair in pairwise(pixels[:, None])]
    return torch.cat([flow for way in zip(*flows, strict=True) for flow in way])


def raft_estimator(checkpoint: str | None = None, device: str | torch.device = "cpu") -> FlowEstimator:
    """RAFT large (Teed and Deng, ECCV 2020) of torchvision."""
    try:
        from torchvision.models.optical_flow import raft_large
    except ImportError as error:
        raise ImportError("The raft backend needs torchvision; install it, or choose dis.") from error
    model = raft_large(weights=None if checkpoint else "DEFAULT")
    if checkpoint:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    model = model.eval().to(device)

    def estimate(video: torch.Tensor) -> torch.Tensor:
        H, W = video.shape[-2:]
        padding = [max(-(-side // 8) * 8, 128) - side for side in (W, H)]
        padded = functional.pad(video.to(device), (0, padding[0], 0, padding[1]), mode="replicate")
        flows = [model(first, second)[-1] for first, second in pairwise(padded[:, None])]
        return torch.cat(flows)[..., :H, :W].float()

    return estimate


def exact_estimator(clip: Clip | None = None) -> FlowEstimator:
    """The truth about a clip of the procedural world."""
    if clip is None:
        raise ValueError("The exact backend needs the clip that was rendered; pass clip=.")

    def estimate(video: torch.Tensor) -> torch.Tensor:
        F, _, H, W = video.shape
        if clip.num_frames != F or H != W:
            raise ValueError(f"The clip has {clip.num_frames} square frames; the video is {tuple(video.shape)}.")
        return torch.from_numpy(clip_flow(clip, H)[0])

    return estimate


BACKENDS: dict[str, Callable[..., FlowEstimator]] = {
    "dis": dis_estimator,
    "unimatch": unimatch_estimator,
    "raft": raft_estimator,
    "exact": exact_estimator,
}
