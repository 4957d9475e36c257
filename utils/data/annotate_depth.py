r"""Make the depth of a folder of images with any depth estimation model of transformers.

    python -m utils.data.annotate_depth --train_data_dir VOC2012 \
        --pretrained_model_name_or_path depth-anything/Depth-Anything-V2-Small-hf

PascalVOC gets `Depth/*.png`. Any other folder gets `depth/*.png` and, at the end, the columns `depth_file_name` and
`depth_kind` in its `metadata.jsonl`, which is written (with empty captions) where it is missing. Files are 16-bit
disparity, normalised per image (`utils.depth`); metric models are inverted. Depth that exists is kept, so an
interrupted run continues when it is started again; images, and depth that somebody else has made, are never replaced
(`utils.data.depth_places`).
"""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from utils import arguments
from utils.arguments import positive_int, run_script
from utils.data.depth_places import (
    SOURCE_KEY,
    DepthPlace,
    is_pascal_voc,
    list_rows,
    plan_folder,
    plan_voc,
    source_of,
    with_depth,
)
from utils.data.records import METADATA
from utils.depth import metres_to_disparity, normalize_disparity, write_disparity
from utils.files import is_folder, replacing
from utils.formats.folders import natural_key
from utils.formats.text import json_line
from utils.images import image_size, read_image
from utils.messages.words import count
from utils.pretrained import loading
from utils.processes import process_state

METRIC_MODELS = {"zoedepth", "depth_pro", "glpn", "prompt_depth_anything"}


def main(argv: list[str] | None = None) -> None:
    args = arguments.parse_args(make_parser(), argv)
    folder = Path(args.train_data_dir)
    if not is_folder(folder):
        raise FileNotFoundError(f"There is no data folder {folder}.")
    rows = None if is_pascal_voc(folder) else list_rows(folder)
    places = plan_voc(folder, args.overwrite) if rows is None else plan_folder(folder, rows, args.overwrite)
    todo = list({place.file: place for place in places if not place.is_done}.values())
    if todo:
        annotate(DepthEstimator(args.pretrained_model_name_or_path), todo, args.batch_size)
    if rows is not None:
        write_metadata(folder, rows, [with_depth(folder, *pair) for pair in zip(rows, places, strict=True)])
    kept = len({place.file for place in places}) - len(todo)
    print(f"{count(len(todo), 'depth image')} made, {kept} already there: {places[0].file.parent}")


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    parser.add_argument(
        "--train_data_dir", required=True, help="folder of images, with metadata.jsonl or not, or PascalVOC"
    )
    parser.add_argument("--pretrained_model_name_or_path", required=True, help="folder or hub name of a depth model")
    parser.add_argument("--batch_size", type=positive_int, default=8, help="images that the model sees at once")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="estimate again what this command has made; depth that others have made stays",
    )
    return parser


def write_metadata(folder: Path, before: list[dict], rows: list[dict]) -> None:
    """Write `metadata.jsonl` in place of the one that is there, if something has changed."""
    if rows == before:
        return
    with replacing(folder / METADATA) as temporary:
        temporary.write_text("".join(map(json_line, rows)), encoding="utf-8")


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


def annotate(estimator: DepthEstimator, places: Sequence[DepthPlace], batch_size: int) -> None:
    """Write the depth of each image; images of one size share a batch."""
    sized = sorted(
        ((image_size(place.image), place) for place in places), key=lambda job: (job[0], natural_key(job[1].image))
    )
    with tqdm(total=len(sized), desc="depth") as bar:
        for _, group in groupby(sized, key=lambda job: job[0]):
            same = [place for _, place in group]
            for start in range(0, len(same), batch_size):
                batch = same[start : start + batch_size]
                disparities = estimator([read_image(place.image) for place in batch])
                for place, disparity in zip(batch, disparities, strict=True):
                    write_disparity(place.file, disparity, {SOURCE_KEY: source_of(place.image)})
                bar.update(len(batch))


if __name__ == "__main__":
    run_script(main)
