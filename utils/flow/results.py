"""Sampled flow as files: one .flo for each step, and images of it."""

from pathlib import Path

import numpy as np
import torch

from utils.files import replacing
from utils.flow.files import write_flo
from utils.flow.images import color_flow
from utils.video import contact_sheet, write_video


def write_flow_results(folder: str | Path, flow: torch.Tensor, image: torch.Tensor, fps: float) -> list[Path]:
    """Write `flow_000.flo` and so on, `flow.png` (first frame and all flows in Middlebury's colours) and `flow.mp4`.

    `.flo` files of a longer video in the folder are removed, lest they be taken for parts of this one.

    Args:
        flow: (F - 1, 2, H, W), pixels.
        image: First frame (3, H, W) in [-1, 1].
        fps: Frame rate of the video.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = flow.detach().float().cpu().numpy()
    paths = [folder / f"flow_{k:03d}.flo" for k in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        write_flo(path, array)
    for stale in set(folder.glob("flow_[0-9][0-9][0-9].flo")) - set(paths):
        stale.unlink()
    colors = color_video(arrays)
    frame = image.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    with replacing(folder / "flow.png") as temporary:
        contact_sheet(np.concatenate([frame[None], colors])).save(temporary, format="PNG")
    write_video(folder / "flow.mp4", colors, fps)
    return [*paths, folder / "flow.png", folder / "flow.mp4"]


def color_video(flow: np.ndarray) -> np.ndarray:
    """Flow (F - 1, 2, H, W) in Middlebury's colours, uint8 (F - 1, H, W, 3), all on the scale of the longest vector."""
    longest = float(np.nanmax(np.hypot(flow[:, 0], flow[:, 1])))
    return np.stack([color_flow(one, longest) for one in flow])
