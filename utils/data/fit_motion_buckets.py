"""Fit the map from motion scores to bucket ids to a data set of clips, and write its constants beside the weights.

python -m utils.data.fit_motion_buckets --train_data_dir data/clips --output_path weights/tiny_svd
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm

from utils.arguments import filled, parse_args, positive_float, positive_int, run_script
from utils.data.clip_frames import ClipFrames
from utils.data.video_arguments import clips_parser
from utils.data.video_records import VideoRecord, read_video_records, unique_clips
from utils.files import check_writable
from utils.flow import flow_estimator
from utils.flow.estimate import FlowEstimator
from utils.flow.options import add_backend_arguments, backend_options
from utils.images import resize_shorter
from utils.messages.words import count
from utils.motion_helper import MotionBuckets, buckets_file, check_percentiles, motion_scores
from utils.video import to_pixels

SHOWN = (0, 5, 25, 50, 75, 95, 100)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(make_parser(), argv)
    check(args)
    options = backend_options(args.backend, args.checkpoint)
    path = buckets_file(args.output_path)
    if path.exists() and not args.overwrite:
        raise FileExistsError(f"{path} exists; pass --overwrite to replace it.")
    records = unique_clips(read_video_records(args.train_data_dir, args.frame_folder_fps))[: args.max_train_samples]
    scores = torch.tensor(list(read_scores(records, flow_estimator(args.backend, **options), args)))
    if len(scores) < 2:
        raise ValueError(f"{args.train_data_dir} has {count(len(scores), 'usable clip')}; a map needs at least 2.")
    settings = {name: getattr(args, name) for name in ("short_side", "time_step", "backend")}
    buckets = MotionBuckets.fit(scores, tuple(args.percentiles), data=Path(args.train_data_dir).name, **settings)
    buckets.save(path)
    report(scores, buckets)
    print(f"{len(scores)} of {count(len(records), 'clip')}: {path}")


def make_parser() -> argparse.ArgumentParser:
    parser = clips_parser(__doc__)
    add = parser.add_argument
    add("--output_path", type=filled, required=True, help="folder of the weights, or a file that ends in .json")
    add("--overwrite", action="store_true", help="replace the file that is there")
    add("--max_train_samples", type=positive_int, help="number of clips to use, the first ones (default: all)")
    add("--max_frames", type=positive_int, default=32, help="frames of each clip that are used, from its first on")
    add_backend_arguments(parser)
    add("--short_side", type=positive_int, default=128, help="pixels of the shorter side at which flow is estimated")
    add("--time_step", type=positive_float, default=0.125, help="seconds between the matched frames")
    add(
        "--percentiles",
        type=float,
        nargs=2,
        default=(5.0, 95.0),
        help="percentiles of the scores that become buckets 0 and 255",
    )
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise a ValueError for flags that would fail after all clips were read."""
    check_percentiles(args.percentiles)
    check_writable(buckets_file(args.output_path), "--output_path")
    if args.max_frames < 2:
        raise ValueError(f"--max_frames {args.max_frames}: motion needs 2 frames.")


def read_scores(records: list[VideoRecord], estimate: FlowEstimator, args: argparse.Namespace) -> Iterator[float]:
    """Score of each usable clip."""
    for record in tqdm(records, desc="motion"):
        try:
            clip, fps = read_small(record, args.max_frames, args.short_side)
        except (ValueError, FileNotFoundError) as error:
            if not args.skip_bad_clips:
                raise
            tqdm.write(f"left out: {error}")
            continue
        yield motion_scores(estimate, clip[None], fps, args.short_side, args.time_step).item()


def read_small(record: VideoRecord, max_frames: int, short_side: int) -> tuple[torch.Tensor, float]:
    """The first frames of a clip, (F, 3, H, W) in [-1, 1], its shorter side `short_side`, and its rate.

    Raises:
        FileNotFoundError, ValueError: The clip is missing, damaged, or of one frame.
    """
    frames = ClipFrames(record)
    if len(frames) < 2:
        raise ValueError(f"{frames.name} has {count(len(frames), 'frame')}; motion needs 2.")
    wanted = range(min(len(frames), max_frames))
    images = [resize_shorter(to_pixels(frame[None]), short_side) for frame in frames.read(wanted)]
    return torch.cat(images), frames.fps


def report(scores: torch.Tensor, buckets: MotionBuckets) -> None:
    """Print percentiles of the scores with their ids."""
    values = scores.quantile(torch.tensor(SHOWN) / 100)
    print("percentile " + "".join(f"{percent:>8}" for percent in SHOWN))
    print("score, px  " + "".join(f"{value:8.3f}" for value in values.tolist()))
    print("bucket     " + "".join(f"{bucket:>8}" for bucket in buckets.ids(values).tolist()))


if __name__ == "__main__":
    run_script(main)
