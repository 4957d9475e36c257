"""Make the depth of a folder of images with any depth estimation model of transformers.

    python -m utils.data.annotate_depth --train_data_dir VOC2012 --pretrained_model_name_or_path depth-anything/Depth-Anything-V2-Small-hf

PascalVOC gets `Depth/*.png`. Any other folder gets `depth/*.png` and, at the end, the columns `depth_file_name` and `depth_kind` in its
`metadata.jsonl`, which is written (with empty captions) where it is missing. Files are 16-bit disparity, normalised per image (`utils.depth`);
metric models are inverted. Depth that exists is kept, so an interrupted run continues when it is started again.
"""

import argparse
import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from utils.arguments import positive_int, run_script
from utils.data.json_lines import read_json_lines
from utils.data.records import METADATA, read_image_folder
from utils.depth import metres_to_disparity, normalize_disparity, write_disparity
from utils.files import replacing
from utils.images import image_size, read_image
from utils.pretrained import loading
from utils.processes import process_state

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
METRIC_MODELS = {"zoedepth", "depth_pro", "glpn", "prompt_depth_anything"}


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    folder = Path(args.train_data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no data folder {folder}.")
    rows = list_rows(folder)
    jobs = [(folder / row["file_name"], folder / row["depth_file_name"]) for row in rows]
    todo = [(image, depth) for image, depth in jobs if args.overwrite or not depth.is_file()]
    if todo:
        estimator = DepthEstimator(args.pretrained_model_name_or_path)
        annotate(estimator, todo, args.batch_size)
    if not (folder / "JPEGImages").is_dir() or (folder / METADATA).is_file():
        write_metadata(folder, rows)
    print(f"{len(todo)} depth pictures made, {len(jobs) - len(todo)} were there: {jobs[0][1].parent}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--train_data_dir", required=True, help="folder of images, with metadata.jsonl or not, or PascalVOC"
    )
    parser.add_argument("--pretrained_model_name_or_path", required=True, help="folder or hub name of a depth model")
    parser.add_argument("--batch_size", type=positive_int, default=8)
    parser.add_argument("--overwrite", action="store_true", help="make depth anew where it exists")
    return parser


def list_rows(folder: Path) -> list[dict]:
    """The metadata of a folder, with a place for the depth of each image.

    Raises:
        ValueError: There is no image, or two would share a depth picture.
    """
    if (folder / METADATA).is_file():
        read_image_folder(folder)
        rows = [row for _, row in read_json_lines(folder / METADATA)]
    else:
        where = folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder
        images = sorted(path for path in where.iterdir() if path.suffix.lower() in SUFFIXES)
        rows = [{"file_name": str(path.relative_to(folder)), "text": ""} for path in images]
    if not rows:
        raise ValueError(f"{folder} has no image.")
    rows = [row if row.get("depth_file_name") else {**row, **_depth_columns(row["file_name"])} for row in rows]
    repeated, count = Counter(row["depth_file_name"] for row in rows).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images of {folder} would share {repeated}; give them different names.")
    return rows


def write_metadata(folder: Path, rows: list[dict]) -> None:
    """Write `metadata.jsonl` in place of the one that is there."""
    with replacing(folder / METADATA) as temporary:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        temporary.write_text("".join(lines), encoding="utf-8")


class DepthEstimator:
    """A depth estimation model with its image processor."""

    def __init__(self, name: str):
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        with loading(name):
            # The other backend of the processors needs torchvision.
            self.processor = AutoImageProcessor.from_pretrained(name, backend="pil")
            self.model = AutoModelForDepthEstimation.from_pretrained(name).eval().to(process_state().device)
        kind = getattr(self.model.config, "depth_estimation_type", None)
        self.metric = kind == "metric" or self.model.config.model_type in METRIC_MODELS

    @torch.no_grad()
    def __call__(self, images: list[Image.Image]) -> list[np.ndarray]:
        """Normalised disparity (H, W) in [-1, 1] of images that have one size."""
        inputs = self.processor(images=images, return_tensors="pt").to(self.model.device)
        sizes = [(image.height, image.width) for image in images]
        results = self.processor.post_process_depth_estimation(self.model(**inputs), target_sizes=sizes)
        depths = [result["predicted_depth"].float().cpu().numpy() for result in results]
        return [normalize_disparity(metres_to_disparity(depth) if self.metric else depth) for depth in depths]


def annotate(estimator: DepthEstimator, jobs: list[tuple[Path, Path]], batch_size: int) -> None:
    """Write the depth of each (image, depth) pair of files; images of one size share a batch."""
    sized = sorted((image_size(image), image, depth) for image, depth in jobs)
    with tqdm(total=len(sized), desc="depth") as bar:
        for _, group in groupby(sized, key=lambda job: job[0]):
            same = list(group)
            for start in range(0, len(same), batch_size):
                batch = same[start : start + batch_size]
                for (_, _, depth), disparity in zip(
                    batch, estimator([read_image(job[1]) for job in batch]), strict=True
                ):
                    write_disparity(depth, disparity)
                bar.update(len(batch))


def _depth_columns(file_name: str) -> dict:
    path = Path(file_name)
    if path.parts[0] == "JPEGImages":
        depth = Path("Depth", *path.parts[1:])
    else:
        depth = Path("depth") / path
    return {"depth_file_name": str(depth.with_suffix(".png")), "depth_kind": "disparity"}


if __name__ == "__main__":
    run_script(main)
