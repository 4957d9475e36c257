"""The flags that describe a data set of clips."""

import argparse
from collections.abc import Sequence

from utils.arguments import make_parser, positive_int
from utils.data.flow_folder import attach_flow
from utils.data.rows import check_rate
from utils.data.video_records import FRAME_FOLDER_FPS, read_video_records
from utils.data.videos import ClipOptions, VideoDataset

ALWAYS_CHECKED = 256  # clips: wrong flags show in the first ones, and opening all of a large data set takes long
SIZES = {  # of a sample: default and help
    "num_frames": (14, "frames of a sample"),
    "height": (320, "height of the frames, which are resized to cover it and then cropped"),
    "width": (512, "width of the frames"),
}


def clip_rate(text: str) -> float:
    """An argparse type for the frame rates of clips."""
    value = float(text)
    try:
        check_rate("the rate", value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def add_video_data_arguments(parser: argparse.ArgumentParser, **defaults) -> None:
    """Add the flags that `read_video_dataset` reads; `defaults` replace their defaults."""
    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--train_data_dir", "--dataset_dir", required=True, help="clips, in any form of docs/video_data.md")
    for name, (default, text) in SIZES.items():
        own = defaults.get(name, default) is None
        add(f"--{name}", type=positive_int, default=default, help=text + own * " (default: the base's own)")
    add_rate_arguments(group)
    add("--center_crop", action="store_true", help="crop the centre (default: a random part)")
    add("--random_flip", action="store_true", help="mirror half of the samples")
    add("--first_frames", action="store_true", help="begin with the first frame (default: a random one)")
    add("--flow_dir", help="annotations of python -m utils.data.annotate_flow (default: none)")
    add("--max_train_samples", type=positive_int, help="number of clips to use, the first ones (default: all)")
    add(
        "--check_clips",
        action="store_true",
        help=f"look at all clips and captions before the training begins, not at the first {ALWAYS_CHECKED} alone",
    )
    add_reading_arguments(group)
    parser.set_defaults(**defaults)


def clips_parser(description: str) -> argparse.ArgumentParser:
    """A parser of a command that goes through clips: --train_data_dir and the flags of `add_reading_arguments`."""
    parser = make_parser(description)
    parser.add_argument("--train_data_dir", required=True, help="clips, in any form of docs/video_data.md")
    add_reading_arguments(parser)
    return parser


def add_rate_arguments(container: argparse._ActionsContainer) -> None:
    """Add --fps and --frame_stride, which say what counts as the next frame."""
    add = container.add_argument
    add("--fps", type=clip_rate, help="frames per second to take, before --frame_stride (default: the clip's own)")
    add("--frame_stride", type=positive_int, default=1, help="take every n-th frame")


def add_reading_arguments(container: argparse._ActionsContainer) -> None:
    """Add the flags of all that reads clips: the rate of folders of frames, and what becomes of bad clips."""
    add = container.add_argument
    add(
        "--frame_folder_fps",
        type=clip_rate,
        default=FRAME_FOLDER_FPS,
        help="frames per second of folders of frames that come without a rate",
    )
    add("--skip_bad_clips", action="store_true", help="pass over damaged and too short clips, and count them")


def read_video_dataset(args: argparse.Namespace, extras: Sequence[str] = (), **others) -> VideoDataset:
    """The data set that the flags of `add_video_data_arguments` describe.

    Args:
        args: Parsed flags.
        extras: What of "flow", "backward_flow" and "tracks" belongs to a sample.
        others: Fields of `ClipOptions` that have no flag, or another value than their flag's.
    """
    records = read_video_records(args.train_data_dir, args.frame_folder_fps)[: args.max_train_samples]
    if args.flow_dir:
        records = attach_flow(records, args.flow_dir)
    names = ("num_frames", "height", "width", "frame_stride", "fps", "center_crop", "random_flip", "first_frames")
    options = ClipOptions(**{**{name: getattr(args, name) for name in names}, **others})
    dataset = VideoDataset(records, options, extras, args.skip_bad_clips)
    if args.check_clips:
        dataset.check()
    elif not args.skip_bad_clips:
        dataset.check(ALWAYS_CHECKED)
    return dataset
