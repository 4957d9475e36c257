"""Paths of points plotted over frames."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from utils.video import contact_sheet, to_frames

WANTED, OBTAINED = (40, 220, 60), (255, 60, 40)  # green, red
FOUND = "obtained, found in the video by optical flow"
LEGEND_HEIGHT = 28  # pixels
SMALLEST_SIDE = 256  # frames are enlarged to about it, so that lines hide little


def draw_paths(
    frame: np.ndarray, wanted: torch.Tensor, obtained: torch.Tensor | None = None, scale: int = 1
) -> np.ndarray:
    """A copy of a frame uint8 (H, W, 3), `scale` times as large, with paths of points (K, N, 2) in its pixels.

    Wanted paths are green, obtained ones red; a ring marks where a point is, a dot where it started.
    """
    canvas = np.ascontiguousarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))
    thickness = max(1, min(canvas.shape[:2]) // 256)
    for tracks, color in ((wanted, WANTED), (obtained, OBTAINED)):
        if tracks is None:
            continue
        places = ((tracks.detach().cpu().numpy() + 0.5) * scale - 0.5).round().astype(np.int32)
        for path in np.ascontiguousarray(places.transpose(1, 0, 2)):
            cv2.polylines(canvas, [path.reshape(-1, 1, 2)], False, color, thickness, cv2.LINE_AA)
            cv2.circle(canvas, path[0].tolist(), 2 * thickness, color, -1, cv2.LINE_AA)
            cv2.circle(canvas, path[-1].tolist(), 4 * thickness, color, thickness, cv2.LINE_AA)
    return canvas


def track_sheet(
    video: torch.Tensor | np.ndarray, wanted: torch.Tensor, obtained: torch.Tensor | None = None
) -> Image.Image:
    """The first frame with whole paths (F, N, 2), then each frame with the paths up to it, and a legend of colours.

    The video is what `to_frames` takes.
    """
    frames = to_frames(video)
    first = path_frames(frames[:1], wanted[None], None if obtained is None else obtained[None])
    sheet = contact_sheet(np.concatenate([first, growing_paths(frames, wanted, obtained)]))
    legend = draw_legend(sheet.width, {"wanted": WANTED} | ({} if obtained is None else {FOUND: OBTAINED}))
    whole = Image.new("RGB", (sheet.width, sheet.height + legend.height))
    whole.paste(sheet, (0, 0))
    whole.paste(legend, (0, sheet.height))
    return whole


def growing_paths(
    video: torch.Tensor | np.ndarray, wanted: torch.Tensor, obtained: torch.Tensor | None = None
) -> np.ndarray:
    """Each frame with the paths (F, N, 2) up to it, uint8 (F, H, W, 3), enlarged where it is small."""
    ends = range(1, len(wanted) + 1)
    parts = [None if paths is None else [paths[:end] for end in ends] for paths in (wanted, obtained)]
    return path_frames(to_frames(video), *parts)


def path_frames(
    frames: np.ndarray, wanted: Sequence[torch.Tensor], obtained: Sequence[torch.Tensor] | None
) -> np.ndarray:
    """Frames uint8 (F, H, W, 3), each with paths (K, N, 2) of its own, enlarged where they are small."""
    scale = max(1, round(SMALLEST_SIDE / min(frames.shape[1:3])))
    obtained = [None] * len(frames) if obtained is None else obtained
    return np.stack([draw_paths(*parts, scale) for parts in zip(frames, wanted, obtained, strict=True)])


def draw_legend(width: int, names: dict[str, tuple[int, int, int]]) -> Image.Image:
    """A white strip with a ring and a line of each colour in front of its name."""
    legend = Image.new("RGB", (width, LEGEND_HEIGHT), "white")
    draw, font, left, middle = ImageDraw.Draw(legend), ImageFont.load_default(14), 8, LEGEND_HEIGHT // 2
    for name, color in names.items():
        draw.line([left, middle, left + 20, middle], fill=color, width=2)
        draw.ellipse([left + 16, middle - 4, left + 24, middle + 4], outline=color, width=2)
        draw.text((left + 32, middle), name, fill="black", font=font, anchor="lm")
        left += 32 + round(draw.textlength(name, font=font)) + 24
    return legend
