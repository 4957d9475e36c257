"""Measure videos edited by a prompt, on clips of the procedural world that no training has seen.

python -m benchmarks.eval_keyframe_edit --num_clips 50 --output_dir outputs/eval_edit
python -m benchmarks.eval_keyframe_edit --tasks truth source alone together --num_clips 16 --output_dir outputs/edit

The prompts ask for another colour of one thing ("a red sphere" becomes "a blue sphere"), so that the truth is the same
scene rendered in that colour. Prints a table and writes results.md, results.json and results.png: of each clip the
methods below one another. A run that was stopped goes on when it is started again. docs/keyframe_edit.md has the
protocol.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import protocol, video_bench
from benchmarks.edit_tasks import METHODS, Bench, adapter_of, measure
from benchmarks.protocol import Estimates, Results
from benchmarks.svd_report import fvd_to_truth, known_means
from models.unet_spatio_temporal_condition import check_masked_unet
from pipelines.edit_keyframes import check_interval
from pipelines.edit_video import FillSettings
from pipelines.image_pairs import check_samples
from pipelines.pipeline_keyframe_edit import EditSettings
from pipelines.trans_adapter import add_adapter_arguments
from utils.arguments import make_parser, run_script
from utils.commands.results import write_png
from utils.commands.settings import add_settings
from utils.images import read_image
from utils.metrics.statistics import Estimate
from utils.pretrained import shipped

JUDGES = ("video",)
FIGURES = ("changed", "unchanged", "inside", "outside", "color_std", "position_std", "lost", "flow_error")
SHOWN = ("source", "alone", "together", "truth")  # the rows of results.png, of each clip


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    video_bench.add_video_bench_arguments(result, 50, batch_size=2, leave_out=("cache_dir",))
    result.set_defaults(num_frames=9)
    add = result.add_argument
    add("--image_model", default=shipped("tiny_sd"), help="folder of a Stable Diffusion base")
    add("--depth_adapter", default=shipped("depth_image/depth.safetensors"), help="joint adapter of that base")
    add_adapter_arguments(result)
    add_settings(result, EditSettings)
    add_settings(result, FillSettings, keyframe_interval=4)
    protocol.add_judges_argument(result)
    protocol.add_choice_argument(result, METHODS)
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    video_bench.check_video(args)
    video_bench.check_base(args)
    EditSettings.from_args(args), FillSettings.from_args(args)
    protocol.check_judges(args.judges_dir, JUDGES)
    protocol.check_file(args.image_model, "image model", "name the folder of a Stable Diffusion base")
    protocol.check_file(args.depth_adapter, "--depth_adapter", "train one with train_depth_image.py")
    check_samples(args.depth_adapter, "--depth_adapter")
    if adapter := adapter_of(args):
        check_masked_unet(adapter)
    protocol.check_count(args, "num_clips", 2)
    check_interval(args.num_frames, args.keyframe_interval, "A clip of --num_frames")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "judges_hash": protocol.judge_files(args.judges_dir, JUDGES),
        "model_hash": video_bench.base_files(args.model_dir),
        "image_hash": sorted(Path(args.image_model).rglob("*.safetensors")),
        "depth_hash": protocol.weight_files(args.depth_adapter),
        "adapter_hash": sorted(Path(adapter).rglob("*.safetensors")) if (adapter := adapter_of(args)) else [],
    }


def figures_of(results: Results, method: str) -> dict[str, Estimate]:
    """Means over the clips, and the distance from the true ones."""
    values = {name: results.values(method, name).astype(float) for name in FIGURES}
    return known_means(values) | fvd_to_truth(results, method)


def plot(folder: Path, results: Results, estimates: Estimates) -> None:
    """Writes the clips of the methods `SHOWN`, each clip's below one another."""
    sheets = [
        np.asarray(read_image(results.sheets[name])) for name in SHOWN if results.sheets.get(name, folder).is_file()
    ]
    if not sheets:
        return
    side, gap = results.settings["resolution"], video_bench.GAP
    between = np.full_like(sheets[0][:gap], 255)
    starts = range(0, len(sheets[0]), side + gap)
    strips = [part for start in starts for part in [*(sheet[start : start + side] for sheet in sheets), between]]
    write_png(folder / "results.png", Image.fromarray(np.concatenate(strips)))


EVALUATION = protocol.Evaluation(
    "eval_keyframe_edit", parser, lambda args: protocol.each_method(METHODS, measure), Bench,
    check, files, protocol.each_task(figures_of), table=protocol.method_table, plot=plot,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
