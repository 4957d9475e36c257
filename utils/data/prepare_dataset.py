"""Turn videos into a folder of numbered frames for each, as trainers of Stable Video Diffusion expect.

    python -m utils.data.prepare_dataset --video_dir videos --output_dir frames --max_frames 64

frames/<video>/00000.png     and nothing but such folders in `frames`
frames.jsonl                 beside it, a line per video: video_folder, text, fps, num_frames, source, settings

The second file brings captions and rates to our own loaders, which find it when they are given either of the two. A
video's folder appears when it is complete, and what is there is kept, so an interrupted run continues when it is
started again.
"""

import argparse
import os
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from utils import arguments
from utils.arguments import filled, parse_args, positive_int, run_script
from utils.data.clip_frames import ClipFrames
from utils.data.clip_geometry import ClipGeometry
from utils.data.journal import Journal, append_row, check_same, say_finished
from utils.data.video_arguments import add_rate_arguments, add_reading_arguments
from utils.data.video_records import VideoRecord, find_lists, read_video_records, unique_clips
from utils.files import check_name, check_not_read, is_folder, remove_leftovers, replacing
from utils.formats.folders import is_leftover
from utils.images import resize_shorter
from utils.messages.words import count
from utils.video import to_frames, to_pixels
from utils.workers import map_in_order

SETTINGS = ("fps", "frame_stride", "max_frames", "resolution", "height", "width")
ROW_KEYS = ("video_folder", "text", "fps", "num_frames", "source", "settings")

Job = tuple[VideoRecord, Path]


def main(argv: list[str] | None = None) -> None:
    args = parse_args(make_parser(), argv)
    check_sizes(args)
    args.folder = Path(os.path.abspath(args.output_dir))
    args.journal = args.folder.with_name(f"{args.folder.name}.jsonl")
    jobs = list_jobs(args)
    todo = find_todo(jobs, args)
    skipped = 0
    errors = map_in_order(partial(prepare, args), todo, args.num_workers)
    for error in tqdm(errors, total=len(todo), desc="prepare"):
        if error and not args.skip_bad_clips:
            raise ValueError(error)
        if error:
            skipped += 1
            tqdm.write(f"left out: {error}")
    kept = len(jobs) - len(todo)
    print(f"{count(len(todo) - skipped, 'video')} {say_finished('prepared', kept, skipped)}: {args.output_dir}")


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    add = parser.add_argument
    add(
        "--video_dir",
        type=filled,
        required=True,
        help="videos at any depth, or clips in any other form of docs/video_data.md",
    )
    output = "folder that gets a folder for each video; new, or begun with the same settings"
    add("--output_dir", type=filled, required=True, help=output)
    add(
        "--max_frames",
        type=positive_int,
        help="number of frames to take from each video, the first ones (default: all)",
    )
    add("--min_frames", type=positive_int, default=1, help="videos with fewer frames count as bad")
    add_rate_arguments(parser)
    add("--resolution", type=positive_int, help="pixels to resize the shorter side to (default: keep the size)")
    size = "pixels, with --width: resize frames to cover it and crop the centre (default: off)"
    add("--height", type=positive_int, help=size)
    add("--width", type=positive_int, help="pixels, see --height (default: off)")
    add_reading_arguments(parser)
    add("--num_workers", type=positive_int, default=1, help="processes that share the work")
    return parser


def check_sizes(args: argparse.Namespace) -> None:
    """Raise a ValueError where the flags for size and length do not fit together."""
    if (args.height is None) != (args.width is None):
        given, missing = ("height", "width") if args.height else ("width", "height")
        raise ValueError(f"--{given} {getattr(args, given)} has no --{missing} beside it: pass both or neither.")
    if args.max_frames and args.max_frames < args.min_frames:
        raise ValueError(
            f"--min_frames {args.min_frames} is more than --max_frames {args.max_frames}: all videos would be bad."
        )
    if args.height and args.resolution:
        raise ValueError(
            f"--resolution {args.resolution} keeps the shape and --height, --width crop; pass one of them."
        )


def list_jobs(args: argparse.Namespace) -> list[Job]:
    """Each video with its folder; one that is listed several times, as with several captions, once.

    Raises:
        ValueError: Two videos would share a folder, a name would be too long, or something would lie on what is read.
    """
    records = unique_clips(read_video_records(args.video_dir, args.frame_folder_fps))
    jobs = [(record, args.folder / record.key.replace("/", "_")) for record in records]
    place, times = Counter(place for _, place in jobs).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} videos of {args.video_dir} would share {place}; give them different names.")
    for place in [args.journal, *(place for _, place in jobs if not args.skip_bad_clips)]:
        check_name(place)
    read = [*find_lists(args.video_dir), *(file for record, _ in jobs for file in record.files)]
    check_not_read([args.journal, *(place for _, place in jobs)], read)
    return jobs


def find_todo(jobs: list[Job], args: argparse.Namespace) -> list[Job]:
    """What is not finished yet; leftovers of an interruption are removed.

    Raises:
        ValueError: Earlier videos were prepared with other settings.
        FileExistsError: A folder or list is in the way that is not from an earlier run.
    """
    if os.path.lexists(args.folder) and not is_folder(args.folder):
        raise FileExistsError(f"--output_dir {args.folder} is a file; choose another.")
    journal = Journal(args.journal, ROW_KEYS)
    for row in journal.rows[:1]:
        check_same(args.folder, row.get("settings", {}), settings_of(args))
    # The line is written before the folder appears, so a line without one was interrupted there.
    journal.keep(lambda row: (args.folder.parent / row["video_folder"]).is_dir())
    finished = {args.folder.parent / row["video_folder"] for row in journal.rows}
    todo = [(record, place) for record, place in jobs if place not in finished]
    foreign = [place for _, place in todo if os.path.lexists(place)]
    if foreign:
        raise FileExistsError(
            f"{count(len(foreign), 'folder')} in the way, not in {args.journal.name}, the first {foreign[0]}; "
            "choose another --output_dir or remove them."
        )
    if not finished and args.folder.is_dir() and not all(map(is_leftover, os.listdir(args.folder))):
        raise FileExistsError(f"{args.folder} has content, and none from an earlier run; choose another --output_dir.")
    for _, place in todo:
        remove_leftovers(place)
    return todo


def settings_of(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in SETTINGS}


def prepare(args: argparse.Namespace, job: Job) -> str | None:
    """Write the folder of one video; returns what is wrong with it, if something is."""
    record, place = job
    try:
        frames = ClipFrames(record, args.fps)
        num_frames = min(-(-len(frames) // args.frame_stride), args.max_frames or len(frames))
        if num_frames < args.min_frames:
            raise ValueError(f"{frames.name} gives {count(num_frames, 'frame')}; --min_frames is {args.min_frames}.")
        row = {
            "video_folder": f"{args.folder.name}/{place.name}",
            "text": record.read_caption(),
            "fps": frames.fps / args.frame_stride,
            "num_frames": num_frames,
            "source": frames.name,
            "settings": settings_of(args),
        }
        with replacing(place) as temporary:
            write_frames(temporary, frames, num_frames, args)
            append_row(args.journal, row)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


def write_frames(folder: Path, frames: ClipFrames, num_frames: int, args: argparse.Namespace) -> None:
    """Write `num_frames` frames as 00000.png, 00001.png, ..."""
    folder.mkdir()
    wanted = list(islice(range(0, len(frames), args.frame_stride), num_frames))
    for number, frame in enumerate(frames.read(wanted)):
        pixels = resize_shorter(to_pixels(frame[None]), args.resolution)
        if args.height:
            pixels = ClipGeometry(args.height, args.width).apply(pixels)
        Image.fromarray(to_frames(pixels)[0]).save(folder / f"{number:05d}.png", compress_level=1)


if __name__ == "__main__":
    run_script(main)
