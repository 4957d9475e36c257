"""Time the loaders of clips and the flow backends.

python -m benchmarks.bench_loaders --output_dir outputs/bench_loaders

Brings one video into every form that the loaders read, prints the seconds for one clip of each as a table, and writes
results.json. Loaders are timed with random stretches, in this process and without data workers; backends on the first
clip, after one that is not counted.
"""

import argparse
import json
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

import unimatch
from benchmarks.protocol import check_file, make_run, write_results
from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.data import annotate_flow, prepare_dataset
from utils.data.flow_folder import attach_flow
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset
from utils.flow import flow_estimator
from utils.processes import process_state
from utils.scenes import write_clips
from utils.video import write_video

SEED = 2_000_000
CAPTION = "a texture that moves"


def main(argv: list[str] | None = None) -> None:
    args = parse_args(parser(), argv)
    place = Path(args.output_dir) / "results.json"
    check(args, place)
    command = make_run("bench_loaders", argv, str(process_state().device))
    with tempfile.TemporaryDirectory() as folder:
        results = dict([*loader_rows(Path(folder), args), *backend_rows(Path(folder), args)])
    write_results(place, "bench_loaders", [command], vars(args), results)
    print(make_table(results, args))


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--output_dir", required=True, help="folder of results.json")
    add("--video", help="video to time with (default: one of 64 frames, 640x360, is made)")
    add("--num_frames", type=positive_int, default=14, help="frames of a clip")
    add("--height", type=positive_int, default=320, help="pixels of the clips that are timed")
    add("--width", type=positive_int, default=512, help="pixels of the clips that are timed")
    add("--repeats", type=positive_int, default=5, help="clips that are timed, whose median counts")
    add("--checkpoint", help="weights of UniMatch (default: random ones of its smallest configuration)")
    return result


def check(args: argparse.Namespace, place: Path) -> None:
    """Raises one sentence about what would fail after a long time."""
    if place.exists():
        raise FileExistsError(f"{place} exists; choose another --output_dir or remove it.")
    for path in (args.video, args.checkpoint):
        if path:
            check_file(path, "file", "name another")


def loader_rows(folder: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Seconds per clip of each loader."""
    video = Path(args.video) if args.video else make_video(folder / "made.mp4")
    options = ClipOptions(args.num_frames, args.height, args.width)
    for name, dataset in make_datasets(video, folder, options).items():
        random.seed(SEED)
        yield f"loader: {name}", median_seconds(lambda d=dataset: d[0], args.repeats)


def backend_rows(folder: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Seconds for the flow of a clip with each backend that this machine has."""
    options = ClipOptions(args.num_frames, args.height, args.width, center_crop=True, first_frames=True)
    pixels = VideoDataset(read_video_records(args.video or folder / "made.mp4"), options)[0]["pixel_values"]
    for name, estimate in make_backends(folder, args.checkpoint).items():
        yield f"backend: {name}", median_seconds(lambda e=estimate: e(pixels), args.repeats)


def make_video(path: Path) -> Path:
    """64 frames of a texture under a moving window."""
    generator = torch.Generator().manual_seed(SEED)
    texture = sum(
        functional.interpolate(
            torch.randn(1, 3, 480 // scale, 860 // scale, generator=generator), (480, 860), mode="bicubic"
        )
        for scale in (4, 16, 60)
    )
    frames = torch.cat([texture[..., k : k + 360, 3 * k : 3 * k + 640] for k in range(64)])
    write_video(path, (frames / 3).clamp(-1, 1), fps=24)
    return path


def make_datasets(video: Path, folder: Path, options: ClipOptions) -> dict[str, VideoDataset]:
    """One clip in every form."""
    panda, webvid = folder / "panda" / "00000", folder / "webvid"
    for place in (panda, webvid / "videos" / "0"):
        place.mkdir(parents=True)
    data = video.read_bytes()
    (panda / "0.mp4").write_bytes(data)
    (panda / "0.txt").write_text(CAPTION)
    (webvid / "videos" / "0" / "1.mp4").write_bytes(data)
    (webvid / "rows.csv").write_text(f"videoid,contentUrl,duration,page_dir,name\n1,,,0,{CAPTION}\n")
    (folder / "list.json").write_text(json.dumps([{"video_path": "panda/00000/0.mp4", "text": CAPTION}]))
    with tarfile.open(folder / "0.tar", "w") as tar:
        for file in panda.iterdir():
            tar.add(file, file.name)
    prepare_dataset.main(["--video_dir", str(panda), "--output_dir", str(folder / "frames")])
    annotate_flow.main(["--train_data_dir", str(panda), "--output_dir", str(folder / "flow"), "--preset", "ultrafast"])
    size = ["--num_samples", "1", "--num_frames", str(options.num_frames), "--resolution", "64", "--seed", str(SEED)]
    write_clips.main(["--output_dir", str(folder / "scenes"), *size])
    annotated = attach_flow(read_video_records(panda), folder / "flow")
    plain = {
        "Panda-70M": panda,
        "WebVid": webvid,
        "JSON list": folder / "list.json",
        "webdataset shard": folder / "0.tar",
        "frame folder": folder / "frames",
    }
    scenes = read_video_records(folder / "scenes")
    return {
        **{name: VideoDataset(read_video_records(path), options) for name, path in plain.items()},
        "Panda-70M at 7 fps": VideoDataset(annotated, replace(options, fps=7.0)),
        "Panda-70M with flow": VideoDataset(annotated, options, ("flow",)),
        "procedural 64x64 with flow and tracks": VideoDataset(scenes, options, ("flow", "tracks")),
    }


def make_backends(folder: Path, checkpoint: str | None) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """An estimator for each backend."""
    device = process_state().device
    backends = {f"dis {preset}": flow_estimator("dis", preset=preset) for preset in ("ultrafast", "fast", "medium")}
    name = f"unimatch {Path(checkpoint).name}" if checkpoint else "unimatch scale1, random weights"
    if checkpoint is None:
        torch.manual_seed(SEED)
        checkpoint = folder / "unimatch.safetensors"
        save_file(unimatch.UniMatch(num_scales=1, upsample_factor=8, reg_refine=False).state_dict(), checkpoint)
    backends[name] = flow_estimator("unimatch", checkpoint=checkpoint, device=device)
    return backends


def median_seconds(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Medians of the time on the clock and of the processor's time, which other programs disturb less."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        work()
        seconds.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    clock, processor = (statistics.median(values) for values in zip(*seconds, strict=True))
    return {"seconds": clock, "processor_seconds": processor}


def make_table(results: dict[str, dict], args: argparse.Namespace) -> str:
    size = f"{args.num_frames} frames of {args.width}x{args.height}"
    lines = [f"| {size} | seconds per clip | processor seconds |", "|---|---:|---:|"]
    lines += [f"| {name} | {row['seconds']:.3f} | {row['processor_seconds']:.3f} |" for name, row in results.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
