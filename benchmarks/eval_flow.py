"""Measure optical flow: backends on photographs and rendered clips, UniMatch against the published code, flow images.

python -m benchmarks.eval_flow --output_dir outputs/eval_flow --frames frame10.png frame11.png --flow_gt flow10.flo

Prints a table and writes results.md and results.json; photographs.png shows the first frame, the true flow and the
estimate of each backend side by side; clips.png shows procedural clips, a row each: two frames, the true flow, DIS's at
twice the size, the flow image, its reconstruction by the autoencoder, and the flow read back from that.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from benchmarks import flow_tasks, protocol
from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.files import replacing
from utils.flow import color_flow, read_flo
from utils.images import read_image, to_pixels
from utils.latents import side_factor
from utils.pretrained import loading
from utils.video import to_frames

HEAD = ["task", "method", "mean px", "worst px", "outliers", "s / pair"]
SHOWN_CLIPS = 6
ENLARGED = "dis medium at twice the size"


def main(argv: list[str] | None = None) -> None:
    args = parse_args(parser(), argv)
    check(args)
    vae = load_vae(args.vae, args.resolution)
    rows, images = [], {}
    if args.frames:
        rows += photographs(args, images)
    rows += clips(args, vae, images)
    if args.reference_dir:
        rows += flow_tasks.published(Path(args.reference_dir))
    write(Path(args.output_dir), rows, images, protocol.make_run("eval_flow", argv), vars(args))


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add(
        "--frames",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        help="two photographs with known flow, such as Middlebury's (default: none)",
    )
    add("--flow_gt", help=".flo file of the flow between --frames (default: none)")
    add(
        "--reference_dir",
        help="folder of golden.npz, the published UniMatch's flow with seeded weights (default: none)",
    )
    add("--checkpoint", help="weights of UniMatch, as another backend (default: none)")
    add("--vae", default="weights/tiny_sd/vae", help="autoencoder of flow images")
    add("--num_clips", type=positive_int, default=50, help="number of clips")
    add("--num_frames", type=positive_int, default=8, help="frames of a clip")
    add("--resolution", type=positive_int, default=64, help="side of a frame in pixels")
    protocol.add_seed_argument(result, "clips")
    add("--output_dir", required=True, help="new folder of the results")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after a long time."""
    protocol.check_empty(Path(args.output_dir))
    if bool(args.frames) != bool(args.flow_gt):
        raise ValueError("--frames and --flow_gt belong together: give both or neither.")
    protocol.check_count(args, "num_frames", 2)
    for path in [*(args.frames or []), args.flow_gt, args.checkpoint]:
        if path:
            protocol.check_file(path, "file", "name another")
    if args.reference_dir:
        protocol.check_file(Path(args.reference_dir, "golden.npz"), "--reference_dir file", "name its folder")


def load_vae(path: str, resolution: int) -> AutoencoderKL:
    with loading(path):
        vae = AutoencoderKL.from_pretrained(path).eval()
    factor = side_factor(vae.config)
    if resolution % factor:
        raise ValueError(f"--resolution {resolution}: the autoencoder {path} takes multiples of {factor}.")
    return vae


def with_unimatch(estimators: dict[str, dict], checkpoint: str | None) -> dict[str, dict]:
    return estimators | ({"unimatch": {"backend": "unimatch", "checkpoint": checkpoint}} if checkpoint else {})


def photographs(args: argparse.Namespace, images: dict[str, np.ndarray]) -> list[flow_tasks.Row]:
    video, truth = read_photographs(args)
    presets = {f"dis {preset}": {"preset": preset} for preset in ("medium", "fast", "ultrafast")}
    rows, flows = flow_tasks.photographs(video, truth, with_unimatch(presets, args.checkpoint))
    longest = truth[truth.isfinite().all(0).expand_as(truth)].view(2, -1).norm(dim=0).max().item()
    colors = [color_flow(flow, longest) for flow in (truth, *flows)]
    images["photographs"] = np.concatenate([to_frames(video)[0], *colors], axis=1)
    return rows


def read_photographs(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (2, 3, H, W) in [-1, 1] and their flow (2, H, W)."""
    frames = [to_pixels(read_image(path)) for path in args.frames]
    truth = torch.from_numpy(read_flo(args.flow_gt))
    sizes = [f"{values.shape[-1]}x{values.shape[-2]}" for values in (*frames, truth)]
    if len(set(sizes)) > 1:
        raise ValueError(f"--frames and --flow_gt are of {', '.join(sizes)} pixels; all have to be of one size.")
    return torch.stack(frames), truth


def clips(args: argparse.Namespace, vae: AutoencoderKL, images: dict[str, np.ndarray]) -> list[flow_tasks.Row]:
    rendered = flow_tasks.render_clips(
        range(args.first_seed, args.first_seed + args.num_clips), args.num_frames, args.resolution
    )
    double = (2 * args.resolution,) * 2
    estimators = {"dis medium": {}, ENLARGED: {"inference_size": double}}
    rows, estimates = flow_tasks.procedural(rendered, with_unimatch(estimators, args.checkpoint))
    image_rows, returned = flow_tasks.flow_images(torch.from_numpy(flow_tasks.truths(rendered)[0]), vae)
    returned = returned["square root"].split(args.num_frames - 1)
    shown = zip(rendered[:SHOWN_CLIPS], estimates[ENLARGED], returned, strict=False)
    images["clips"] = np.concatenate([clip_strip(clip, flow, back, vae) for clip, flow, back in shown])
    return rows + image_rows


def clip_strip(clip, estimate: torch.Tensor, returned: torch.Tensor, vae: AutoencoderKL) -> np.ndarray:
    """Images of the step in the middle of a clip, side by side, three times as large."""
    t = len(clip.flow) // 2
    truth = torch.from_numpy(clip.flow[t])
    longest = truth.norm(dim=0).max().item()
    image = flow_tasks.ENCODINGS["square root"].encode(truth[None])
    both = to_frames(torch.cat([image, flow_tasks.reconstruct(vae, image)]))
    colors = [color_flow(flow, longest) for flow in (truth, estimate[t])]
    strip = np.concatenate([*clip.video[t : t + 2], *colors, *both, color_flow(returned[t], longest)], axis=1)
    return strip.repeat(3, axis=0).repeat(3, axis=1)


def write(
    folder: Path, rows: list[flow_tasks.Row], images: dict[str, np.ndarray], command: dict, settings: dict
) -> None:
    table = markdown(rows)
    results = {f"{row.task}: {row.method}": row.figures for row in rows}
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        (temporary / "results.md").write_text(table + "\n")
        protocol.write_results(temporary / "results.json", "eval_flow", [command], settings, results)
        for name, image in images.items():
            Image.fromarray(image).save(temporary / f"{name}.png")
    print(f"{table}\n\n{folder.resolve()}")


def markdown(rows: list[flow_tasks.Row]) -> str:
    lines = [HEAD, ["---"] * len(HEAD)]
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.4f}"
        lines.append([row.task, row.method, f"{row.mean:.4f}", f"{row.worst:.3f}", f"{row.outliers:.2%}", seconds])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    run_script(main)
