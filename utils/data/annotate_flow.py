"""Make the optical flow of a data set of clips with any flow backend.

    python -m utils.data.annotate_flow --train_data_dir clips --output_dir clips_flow --backward

Clips are read in every form of docs/video_data.md. Flow is kept as fp16 arrays, forward and with --backward back, in
the layout of `utils.data.flow_folder`, with the tool, its settings and checksums beside. Work is split with
--shard_index and --num_shards; what is finished is kept, so an interrupted run continues when it is started again.
"""

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from utils.arguments import filled, parse_args, positive_int, run_script
from utils.data.clip_frames import ClipFrames, list_frames
from utils.data.flow_folder import MANIFEST, read_finished, read_manifest
from utils.data.journal import Journal, append_row, check_same, say_finished
from utils.data.video_arguments import add_rate_arguments, clips_parser
from utils.data.video_records import VideoRecord, read_video_records, unique_clips
from utils.files import check_name, check_not_read, is_file, is_folder, remove_leftovers, replacing
from utils.flow import both_flows_estimator, flow_estimator
from utils.flow.estimate import DIS_PRESETS
from utils.flow.options import add_backend_arguments, backend_options
from utils.formats.folders import walk_files
from utils.images import resize_shorter
from utils.messages.words import count
from utils.video import to_pixels

TOOL = "utils.data.annotate_flow"
ROW_KEYS = ("key", "made_at", "shape", "source", "source_sha256", "sha256")
PairEstimator = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

FP16_MAX = float(np.finfo(np.float16).max)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(make_parser(), argv)
    if not 0 <= args.shard_index < args.num_shards:
        raise ValueError(
            f"--shard_index {args.shard_index} is not in 0 to {args.num_shards - 1}, of {args.num_shards} shards."
        )
    options = backend_options(args.backend, args.checkpoint, args.preset)
    folder = Path(args.output_dir)
    records = list_clips(args)[args.shard_index :: args.num_shards]
    estimate = make_estimator(args, options)
    manifest = make_manifest(args, options)
    check_folder(folder, manifest)
    check_places(records, folder, args)
    finished = read_finished(folder)
    todo = [record for record in records if not is_finished(folder, finished.get(record.key), record, args.verify)]
    skipped = annotate(todo, folder, manifest, estimate, args)
    kept = len(records) - len(todo)
    print(f"{count(len(todo) - skipped, 'clip')} {say_finished('annotated', kept, skipped)}: {folder}")


def make_parser() -> argparse.ArgumentParser:
    parser = clips_parser(__doc__)
    add = parser.add_argument
    add(
        "--output_dir",
        type=filled,
        required=True,
        help="folder of the annotations; new, or begun with the same settings",
    )
    add_backend_arguments(parser)
    add("--preset", choices=DIS_PRESETS, help="quality of --backend dis (default: medium)")
    size = "pixels of the images that flow is estimated at (default: the size that is kept)"
    add("--inference_size", type=positive_int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=size)
    add(
        "--resolution",
        type=positive_int,
        help="pixels of the shorter side of the flow that is kept (default: that of the clip)",
    )
    add_rate_arguments(parser)
    add(
        "--max_frames",
        type=positive_int,
        help="number of frames to annotate in each clip, the first ones (default: all)",
    )
    add("--backward", action="store_true", help="write the backward flow, too")
    add("--shard_index", type=int, default=0, help="number of this shard, from 0")
    add("--num_shards", type=positive_int, default=1, help="number of runs that share the clips")
    add("--verify", action="store_true", help="compare checksums of finished clips, and make those anew that differ")
    return parser


def list_clips(args: argparse.Namespace) -> list[VideoRecord]:
    """The clips of the data set; those that are listed several times, as with several captions, once.

    Raises:
        ValueError: Two clips would share a file.
    """
    records = unique_clips(read_video_records(args.train_data_dir, args.frame_folder_fps))
    key, times = Counter(record.key for record in records).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} clips of {args.train_data_dir} are called {key}; give them different names.")
    return records


def make_estimator(args: argparse.Namespace, options: dict) -> PairEstimator:
    """From two frames to their flow, and with --backward also to the flow back."""
    size = tuple(args.inference_size) if args.inference_size else None
    if args.backward:
        return both_flows_estimator(args.backend, size, **options)
    estimate = flow_estimator(args.backend, size, **options)
    return lambda pair: (estimate(pair),)


def check_folder(folder: Path, manifest: dict) -> None:
    """Look whether the annotations may go there.

    Raises:
        FileExistsError: The folder is a file, or holds something else.
        ValueError: It was begun with other settings.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another --output_dir.")
    if (folder / MANIFEST).is_file():
        check_same(folder, read_manifest(folder), manifest)
    # Shards that start together may each find what another one is still writing.
    elif folder.is_dir() and walk_files(folder) and not (folder / MANIFEST).is_file():
        raise FileExistsError(f"{folder} has content and no {MANIFEST}; choose another --output_dir.")


def check_places(records: list[VideoRecord], folder: Path, args: argparse.Namespace) -> None:
    """Raise a ValueError where an array would get too long a name, unless bad clips are skipped, or lie on an input."""
    paths = [path for record in records for path in array_paths(record, folder, args).values()]
    if not args.skip_bad_clips:
        for path in paths:
            check_name(path)
    check_not_read([*paths, folder / MANIFEST], (file for record in records for file in record.files))


def array_paths(record: VideoRecord, folder: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Where the arrays of a clip lie."""
    names = ("flow", "backward_flow") if args.backward else ("flow",)
    return {name: folder / name / f"{record.key}.npy" for name in names}


def begin(folder: Path, manifest: dict) -> None:
    """Write the manifest as the first clip is finished, or compare with that of a shard which was faster."""
    if (folder / MANIFEST).is_file():
        check_same(folder, read_manifest(folder), manifest)
        return
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def make_manifest(args: argparse.Namespace, options: dict) -> dict:
    """Everything that decides the numbers."""
    names = ("backend", "resolution", "fps", "frame_stride", "max_frames", "backward")
    return {
        "tool": TOOL,
        **{name: getattr(args, name) for name in names},
        "inference_size": args.inference_size,
        **kept_options(options),
        "version": f"opencv {cv2.__version__}" if args.backend == "dis" else f"torch {torch.__version__}",
        "dtype": "float16",
        "unit": "pixels, x then y",
    }


def kept_options(options: dict) -> dict:
    """The backend's options as the manifest has them: weights by their content, and no device."""
    if "checkpoint" not in options:
        return options
    checkpoint = options["checkpoint"]
    return {"checkpoint_sha256": sha256(Path(checkpoint)) if checkpoint else None}


def is_finished(folder: Path, row: dict | None, record: VideoRecord, verify: bool) -> bool:
    """Whether the files of a clip are there; with `verify`, whether they and the clip still are what they were."""
    if row is None:
        return False
    files = {folder / name / f"{row['key']}.npy": checksum for name, checksum in row["sha256"].items()}
    if not all(map(is_file, files)):
        return False
    if not verify:
        return True
    return sha256_of_clip(record) == row["source_sha256"] and all(sha256(path) == sum_ for path, sum_ in files.items())


def annotate(
    records: list[VideoRecord], folder: Path, manifest: dict, estimate: PairEstimator, args: argparse.Namespace
) -> int:
    """Write the flow of clips; returns how many bad ones were left out."""
    journal = Journal(folder / f"files-{args.shard_index:05d}-of-{args.num_shards:05d}.jsonl", ROW_KEYS)
    skipped = 0
    for record in tqdm(records, desc="flow"):
        try:
            row = annotate_clip(record, folder, manifest, estimate, args)
        except (ValueError, FileNotFoundError) as error:
            if not args.skip_bad_clips:
                raise
            skipped += 1
            tqdm.write(f"left out: {error}")
        else:
            append_row(journal.path, row)
    return skipped


def annotate_clip(
    record: VideoRecord, folder: Path, manifest: dict, estimate: PairEstimator, args: argparse.Namespace
) -> dict:
    """Write the arrays of one clip, before the first one the manifest, and return its line."""
    frames = ClipFrames(record, args.fps)
    rows = min(len(frames), args.max_frames or len(frames)) - args.frame_stride
    if rows < 1:
        limit = f", --max_frames is {args.max_frames}" if args.max_frames else ""
        raise ValueError(
            f"{frames.name} has {count(len(frames), 'frame')}{limit}; "
            f"flow at --frame_stride {args.frame_stride} needs more."
        )
    paths = array_paths(record, folder, args)
    for path in paths.values():
        remove_leftovers(path)
    with ExitStack() as stack:
        temporary = {name: stack.enter_context(replacing(path)) for name, path in paths.items()}
        shape = write_flow(temporary, rows, frame_pairs(frames, rows, args), estimate)
        checksums = {name: sha256(path) for name, path in temporary.items()}
        begin(folder, manifest)
    return {
        "key": record.key,
        "made_at": time.time(),
        "shape": shape,
        "source": str(record.video),
        "source_sha256": sha256_of_clip(record),
        "sha256": checksums,
    }


def frame_pairs(frames: ClipFrames, rows: int, args: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Pixels (2, 3, H, W) of frame t and t + frame_stride, for `rows` t; frames between the two are kept in memory."""
    window = []
    for frame in frames.read(range(rows + args.frame_stride)):
        window.append(resize_shorter(to_pixels(frame[None]), args.resolution))
        if len(window) > args.frame_stride:
            yield torch.cat([window.pop(0), window[-1]])


def write_flow(
    paths: dict[str, Path], rows: int, pairs: Iterator[torch.Tensor], estimate: PairEstimator
) -> tuple[int, ...]:
    """Write (rows, 2, H, W) into each path, in the order in which the estimator gives the flows; returns the shape.

    Raises:
        ValueError: A vector is longer than fp16 holds, or not a number.
    """
    arrays = {}
    for row, pair in enumerate(pairs):
        for (name, path), [flow] in zip(paths.items(), estimate(pair), strict=True):
            if not flow.abs().max() <= FP16_MAX:
                raise ValueError(f"The flow of frame {row} is not finite; use --backend dis, or other weights.")
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(path, "w+", np.float16, (rows, *flow.shape))
            arrays[name][row] = flow.cpu().numpy()
    for array in arrays.values():
        array.flush()
    return arrays["flow"].shape


def sha256(*paths: Path) -> str:
    """sha256 of the content of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def sha256_of_clip(record: VideoRecord) -> str:
    """sha256 of the bytes of a video, or of all frames of a folder in their order."""
    if not isinstance(record.video, Path):
        return hashlib.sha256(record.video.read_bytes()).hexdigest()
    return sha256(*list_frames(record.video)) if is_folder(record.video) else sha256(record.video)


if __name__ == "__main__":
    run_script(main)
