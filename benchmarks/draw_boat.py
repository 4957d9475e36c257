"""Draw a short clip that no base has seen, to fine-tune a small base on: a boat on waves before a sunset.

python -m benchmarks.draw_boat --output_path outputs/boat/boat.mp4
"""

import argparse

import cv2
import numpy as np

from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.video import to_pixels, write_video

SIDE, FINER = 64, 4  # pixels of a frame, and how many times larger it is drawn
FPS = 20
SKY, LOW_SKY, SUN, SEA = (70, 60, 130), (240, 130, 90), (255, 190, 80), (20, 70, 90)
HULL, SAIL, FLAG = (120, 60, 30), (245, 235, 215), (200, 30, 40)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    result.add_argument("--output_path", required=True, help="video to write")
    result.add_argument("--num_frames", type=positive_int, default=40, help="number of frames")
    return result


def main(argv=None) -> None:
    """Writes the clip."""
    args = parse_args(parser(), argv)
    frames = np.stack([draw(number / FPS) for number in range(args.num_frames)])
    write_video(args.output_path, to_pixels(frames), FPS)


def draw(seconds: float) -> np.ndarray:
    """A frame (64, 64, 3), uint8."""
    side = SIDE * FINER
    down = np.linspace(0, 1.4, side).clip(0, 1)[:, None, None]
    frame = np.broadcast_to((1 - down) * SKY + down * np.array(LOW_SKY), (side, side, 3)).astype(np.uint8).copy()
    cv2.circle(frame, (int(side * 0.72), int(side * 0.42)), side // 8, SUN, -1, cv2.LINE_AA)
    draw_waves(frame, seconds, 0.60, (60, 110, 140))
    draw_boat(frame, 0.25 + 0.25 * seconds, 0.62 + 0.02 * np.sin(4 * seconds), 0.25 * np.sin(3 * seconds))
    draw_waves(frame, 1.5 * seconds + 1, 0.70, SEA)
    return cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def draw_waves(frame: np.ndarray, phase: float, height: float, color: tuple[int, int, int]) -> None:
    """Water from `height` down, a share of the side, into the frame."""
    side = len(frame)
    across = np.arange(side + 1)
    crest = side * (height + 0.015 * np.sin(across / side * 25 + 3 * phase))
    outline = np.concatenate([np.stack([across, crest], axis=1), [(side, side), (0, side)]])
    cv2.fillPoly(frame, [outline.astype(np.int32)], color, cv2.LINE_AA)


def draw_boat(frame: np.ndarray, x: float, y: float, angle: float) -> None:
    """The boat into the frame; place in shares of the side, angle in radians."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def polygon(points, color) -> None:
        placed = (np.array(points) @ turn.T * 0.32 + (x, y)) * len(frame)
        cv2.fillPoly(frame, [placed.round().astype(np.int32)], color, cv2.LINE_AA)

    polygon([(-0.55, 0), (0.55, 0), (0.35, 0.3), (-0.35, 0.3)], HULL)
    polygon([(-0.03, 0), (0.03, 0), (0.03, -1.25), (-0.03, -1.25)], HULL)
    polygon([(0.06, -0.08), (0.5, -0.08), (0.06, -1.0)], SAIL)
    polygon([(-0.06, -0.08), (-0.4, -0.08), (-0.06, -0.8)], SAIL)
    polygon([(0.03, -1.25), (0.3, -1.17), (0.03, -1.08)], FLAG)


if __name__ == "__main__":
    run_script(main)
