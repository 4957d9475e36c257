"""Training data of the image judges: scenes with their objects, as rendered and as reconstructed by an autoencoder."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.records import METADATA, read_records
from utils.depth import normalize_disparity, read_disparity
from utils.formats.text import read_json_lines
from utils.images import read_image, to_pixels
from utils.latents import reconstruct
from utils.scenes import COLORS, SHAPES

NOTHING = -100  # label of a column without an object, which cross_entropy leaves out
SPREAD = 1.0  # standard deviation, in columns, of the target around the middle of an object
REACH = 1  # columns on either side of a middle that learn its colour and shape
RECONSTRUCTED_TOGETHER = 32  # scenes


class Scenes:
    """A data set of `utils.scenes.write_dataset` in memory.

    Attributes:
        images: uint8 (N, 3, H, W).
        depth_files: Path of each scene's depth.
        disparity: Normalised, float32 (N, H, W) in [-1, 1].
        objects: For each scene its rows of the metadata ("color", "shape", "center"), from left to right.

    Raises:
        ValueError: The metadata lacks the places of the objects.
    """

    def __init__(self, folder: str | Path, count: int | None = None):
        records = read_records(folder)[:count]
        rows = [row for _, row in read_json_lines(Path(folder) / METADATA)][:count]
        if any("center" not in one for row in rows for one in row.get("objects", [{}])):
            raise ValueError(f"{folder} does not say where its objects are; write it with utils.scenes.write_dataset.")
        self.images = torch.stack(
            [to_bytes(to_pixels(read_image(record.image))) for record in tqdm(records, desc="read")]
        )
        self.depth_files = [record.depth for record in records]
        self.disparity = np.stack([normalize_disparity(read_disparity(r.depth, r.depth_kind)) for r in records])
        self.objects = [row["objects"] for row in rows]

    def __len__(self) -> int:
        return len(self.images)


class JudgeDataset(Dataset):
    """Scenes and their reconstructions, half and half, every other one mirrored, with the targets of both judges.

    A sample has `pixels` (3, H, W) in [-1, 1], `disparity` (H, W) in [-1, 1], and for each of W/2 columns `middles`
    (probability that an object's middle stands there), `colors` and `shapes` (index, or `NOTHING`).
    """

    def __init__(self, scenes: Scenes, reconstructions: torch.Tensor):
        self.scenes = scenes
        self.versions = (scenes.images, reconstructions)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        version, mirrored = torch.randint(2, (2,)).tolist()
        return self.sample(index, version, bool(mirrored))

    def sample(self, index: int, version: int, mirrored: bool) -> dict[str, torch.Tensor]:
        """version: 0 as rendered, 1 reconstructed. A mirrored scene has its objects in the other order."""
        pixels, disparity = from_bytes(self.versions[version][index]), torch.from_numpy(self.scenes.disparity[index])
        if mirrored:
            pixels, disparity = pixels.flip(-1), disparity.flip(-1)
        targets = column_targets(self.scenes.objects[index], pixels.shape[-1] // 2, mirrored)
        return {"pixels": pixels, "disparity": disparity, **targets}


def column_targets(objects: list[dict], columns: int, mirrored: bool) -> dict[str, torch.Tensor]:
    """Targets of the attribute judge for each column of a scene."""
    places = torch.arange(columns)
    middles = torch.zeros(columns)
    colors, shapes = torch.full((2, columns), NOTHING)
    names = list(COLORS)
    for one in objects:
        x = 1 - one["center"][0] if mirrored else one["center"][0]
        distance = (places + 0.5 - x * columns).abs()
        middles = torch.maximum(middles, torch.exp(-((distance / SPREAD) ** 2) / 2))
        near = distance < REACH + 0.5
        colors[near], shapes[near] = names.index(one["color"]), SHAPES.index(one["shape"])
    return {"middles": middles, "colors": colors, "shapes": shapes}


def reconstruct_scenes(vae: nn.Module, scenes: Scenes) -> torch.Tensor:
    """All images of the scenes through an autoencoder, uint8 (N, 3, H, W)."""
    batches = scenes.images.split(RECONSTRUCTED_TOGETHER)
    return torch.cat([to_bytes(reconstruct(vae, from_bytes(batch))) for batch in tqdm(batches, desc="reconstruct")])


def to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 of pixels in [-1, 1], of any shape; values outside of that range are not clipped."""
    return pixels.add(1).mul(127.5).round().to(torch.uint8)


def from_bytes(values: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1], float32, of uint8 values of any shape."""
    return values.float().div(127.5).sub(1)
