import json

import numpy as np
import pytest
from PIL import Image

from utils.depth import write_depth


@pytest.fixture
def folder(tmp_path):
    """Three images whose red channel falls with depth, so that alignment shows."""
    rng = np.random.default_rng(0)
    folder, size = tmp_path / "data", (24, 18)
    folder.mkdir()
    lines = []
    for i in range(3):
        metres = rng.uniform(1, 10, size[::-1]).astype(np.float32)
        red = (255 / metres).round().astype(np.uint8)
        Image.fromarray(np.stack([red, 0 * red, 0 * red], axis=-1)).save(folder / f"{i}.png")
        write_depth(folder / f"{i}_depth.png", metres)
        lines.append({"file_name": f"{i}.png", "depth_file_name": f"{i}_depth.png", "text": f"scene {i}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def name_pairs():
    """Pairs each image of a folder with an image of one colour, under the name normals."""

    def write(folder, color=(10, 200, 30), size=(24, 18)):
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        for row in rows:
            row["normals_file_name"] = f"normals_{row['file_name']}"
            Image.new("RGB", size, color).save(folder / row["normals_file_name"])
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write
