"""Write scenes as an image folder: metadata.jsonl, images, depth as 16-bit PNGs of millimetres."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from utils.arguments import make_parser, parse_args, run_script
from utils.depth import write_depth
from utils.scenes import caption, render, sample_scene
from utils.scenes.writing import add_sample_arguments, write_samples


def write_sample(task: tuple[Path, tuple[int, int]]) -> dict:
    """Render a seed at a size into a folder and return its row of the metadata."""
    folder, (seed, size) = task
    scene = sample_scene(seed)
    rendering = render(scene, size)
    row = {
        "file_name": f"images/{seed:07d}.png",
        "depth_file_name": f"depth/{seed:07d}.png",
        "text": caption(scene),
        "seed": seed,
        "objects": [
            {
                "color": solid.color,
                "shape": solid.shape,
                "size": solid.size,
                "center": center(rendering.labels == index),
            }
            for index, solid in enumerate(scene.objects)
        ],
    }
    Image.fromarray(rendering.image).save(folder / row["file_name"])
    write_depth(folder / row["depth_file_name"], rendering.depth)
    return row


def center(mask: np.ndarray) -> list[float]:
    """Centroid (x, y) of a mask (H, W), as shares of width and height."""
    rows, columns = np.nonzero(mask)
    return [
        round(float(places.mean() + 0.5) / size, 4)
        for places, size in zip((columns, rows), mask.shape[::-1], strict=True)
    ]


def write_dataset(folder: str | Path, seeds: range, size: int, num_workers: int = 1) -> None:
    """Write the scenes of `seeds`; the folder appears when it is complete.

    Raises:
        FileExistsError: The folder exists.
    """
    write_samples(folder, ("images", "depth"), write_sample, [(seed, size) for seed in seeds], num_workers)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add_sample_arguments(result, 1000, "scenes")
    return result


def main(argv=None) -> None:
    args = parse_args(parser(), argv)
    if args.seed < 0:
        raise ValueError(f"--seed {args.seed}: seeds count from 0.")
    write_dataset(args.output_dir, range(args.seed, args.seed + args.num_samples), args.resolution, args.num_workers)


if __name__ == "__main__":
    run_script(main)
