"""Images with a condition aligned to them, as the networks see them."""

import argparse
import re
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.arguments import positive_int
from utils.data.geometry import Geometry
from utils.data.records import Record, read_records
from utils.depth import depth_size, normalize_disparity, read_disparity, settle_kind
from utils.edges import canny_edges
from utils.images import image_size, read_image, to_pixels
from utils.messages.words import count

MAKE_DEPTH = "make it with python -m utils.data.annotate_depth"
COMPUTED = {"edge": canny_edges}  # conditions that are made from the image (3, H, W) in [-1, 1]
GRAY = ("depth", "edge")  # conditions of one value a pixel; all others have colours


class PairSample(TypedDict):
    """A sample, and with a leading B a batch.

    Keys:
        pixel_values: Image (3, H, W) in [-1, 1].
        conditioning_pixel_values: The condition as an image (3, H, W) in [-1, 1]; absent without a condition.
        caption: Text.
    """

    pixel_values: torch.Tensor
    conditioning_pixel_values: NotRequired[torch.Tensor]
    caption: str


def add_data_arguments(parser: argparse.ArgumentParser, **defaults) -> None:
    """Add the flags that `PairDataset.from_args` reads.

    `defaults` replace their defaults, None for a size of the base.
    """
    own = "resolution" in defaults and defaults["resolution"] is None
    add = parser.add_argument_group("data").add_argument
    add(
        "--train_data_dir", required=True, help="folder of images with metadata.jsonl, or PascalVOC (JPEGImages, Depth)"
    )
    add(
        "--resolution",
        type=positive_int,
        default=512,
        help="the shorter side is resized to it, then a square is cropped" + own * " (default: the base's own size)",
    )
    add("--center_crop", action="store_true", help="crop the centre (default: a random part)")
    add(
        "--random_flip",
        action="store_true",
        help="mirror half of the samples; not for images of directions, such as normals",
    )
    add("--max_train_samples", type=positive_int, help="number of images to use, the first ones (default: all)")
    parser.set_defaults(**defaults)


class PairDataset(Dataset):
    """Samples of a list of records; resize, crop and flip are random at each access and the same for both sides.

    Args:
        records: Files and captions (`utils.data.records.read_records`).
        resolution: Side of the square samples in pixels.
        condition: "depth" (needs a depth file for each record), a name of `COMPUTED`, None, or a name of your own
            (needs records that were read for that pair).
        center_crop, random_flip: See `Geometry.draw`.

    Raises:
        ValueError: The condition is no name, or its files are missing.
    """

    def __init__(
        self,
        records: list[Record],
        resolution: int,
        condition: str | None = None,
        center_crop: bool = False,
        random_flip: bool = False,
    ):
        if condition is not None:
            _check_condition(records, condition)
        self.records = records
        self.resolution = resolution
        self.condition = condition
        self.center_crop = center_crop
        self.random_flip = random_flip

    @classmethod
    def from_args(cls, args: argparse.Namespace, condition: str | None = None) -> "PairDataset":
        """The data set that the flags of `add_data_arguments` describe."""
        records = read_records(args.train_data_dir, own_pair(condition))[: args.max_train_samples]
        check_images(records, condition)
        return cls(records, args.resolution, condition, args.center_crop, args.random_flip)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PairSample:
        return self.sample(index, Geometry.draw(self.resolution, self.center_crop, self.random_flip))

    def sample(self, index: int, geometry: Geometry) -> PairSample:
        """Sample `index` cropped by a given geometry.

        Raises:
            ValueError: A file cannot be read, or image and depth differ in size.
        """
        record = self.records[index]
        image = to_pixels(read_image(record.image))
        pixels = geometry.apply(image).clamp(-1, 1)
        sample = PairSample(pixel_values=pixels, caption=record.caption)
        if self.condition == "depth":
            sample["conditioning_pixel_values"] = _depth(record, geometry, image.shape[-2:])
        if self.condition in COMPUTED:
            sample["conditioning_pixel_values"] = COMPUTED[self.condition](pixels)
        if own_pair(self.condition):
            paired = to_pixels(read_image(record.paired))
            _check_size(record.image, image.shape[-2:], self.condition, record.paired, paired.shape[-2:])
            sample["conditioning_pixel_values"] = geometry.apply(paired).clamp(-1, 1)
        return sample


def own_pair(condition: str | None) -> str | None:
    """The condition where it is a name of the user's own, whose files the data set names; else None."""
    return None if condition in (None, "depth", *COMPUTED) else condition


def check_images(records: list[Record], condition: str | None = None) -> None:
    """Look at the headers of all images, before a training that would meet a wrong one only after hours.

    Raises:
        ValueError: A file is no image, or image and depth differ in size.
    """
    for record in tqdm(records, desc="check images"):
        size = image_size(record.image)
        if condition == "depth" and record.depth is not None:
            _check_size(record.image, size[::-1], condition, record.depth, depth_size(record.depth)[::-1])
            named = record.depth_kind if record.kind_is_named else None
            settle_kind(
                record.depth, named, record.depth_kind, 'if it holds disparity, write "depth_kind": "disparity"'
            )
        if own_pair(condition) and record.paired is not None:
            _check_size(record.image, size[::-1], condition, record.paired, image_size(record.paired)[::-1])


def _check_size(image: Path, size: tuple[int, int], what: str, other: Path, other_size: tuple[int, int]) -> None:
    """Sizes are height, width."""
    if tuple(size) != tuple(other_size):
        (H, W), (h, w) = size, other_size
        raise ValueError(f"{image} is {W}x{H} and its {what} {other} {w}x{h}; they have to be equal.")


def _check_condition(records: list[Record], condition: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", condition):
        raise ValueError(f"The condition {condition!r} is no name: write one such as normals, of a-z, 0-9 and _.")
    if condition in COMPUTED:
        return
    own = own_pair(condition)
    missing = [record for record in records if (record.paired if own else record.depth) is None]
    if missing:
        remedy = f'write "{own}_file_name" into its line of metadata.jsonl' if own else MAKE_DEPTH
        raise ValueError(
            f"There is no {condition} of {len(missing)} of {count(len(records), 'image')}, the first "
            f"{missing[0].image}; {remedy}."
        )


def _depth(record: Record, geometry: Geometry, size: tuple[int, int]) -> torch.Tensor:
    """Disparity (3, H, W), normalised over what the geometry shows, so that it fills [-1, 1] in every sample."""
    disparity = read_disparity(record.depth, record.depth_kind)
    _check_size(record.image, size, "depth", record.depth, disparity.shape)
    shown = geometry.apply(torch.from_numpy(disparity)[None])
    return torch.from_numpy(normalize_disparity(shown.numpy())).expand(3, -1, -1).clone()
