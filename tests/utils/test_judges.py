"""Judges: what they return, how they learn, and that a file gives the same network."""

import json

import pytest
import torch
from safetensors.torch import save_file

from utils.judges import AttributeJudge, DepthJudge, load_judge, save_judge
from utils.judges.data import NOTHING, JudgeDataset, Scenes, column_targets, from_bytes
from utils.scenes import COLORS, SHAPES
from utils.scenes.write_dataset import write_dataset


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges") / "scenes"
    write_dataset(folder, range(1_000_000, 1_000_006), 64)
    return Scenes(folder)


class Oracle(AttributeJudge):
    """Says what the targets say."""

    def __init__(self, targets):
        super().__init__((8, 8, 8))
        self.targets = targets

    def forward(self, pixels):
        logits = torch.logit(torch.stack([t["middles"] for t in self.targets]), eps=1e-4)
        classes = []
        for key, names in (("colors", COLORS), ("shapes", SHAPES)):
            labels = torch.stack([t[key] for t in self.targets]).clamp(min=0)
            classes.append(torch.nn.functional.one_hot(labels, len(names)).permute(0, 2, 1).float())
        return logits, *classes


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_targets_say_all_of_a_scene(scenes, mirrored):
    targets = [column_targets(objects, 32, mirrored) for objects in scenes.objects]
    expected = [[(one["color"], one["shape"]) for one in objects] for objects in scenes.objects]
    if mirrored:
        expected = [objects[::-1] for objects in expected]
    assert Oracle(targets).read(scenes.images) == expected


def test_columns_without_an_object_have_no_colour(scenes):
    target = column_targets([{"color": "blue", "shape": "cone", "center": [0.26, 0.5]}], 32, False)
    assert target["middles"].argmax() == 8 and target["middles"][20] < 1e-6
    assert (target["colors"] != NOTHING).nonzero().flatten().tolist() == [7, 8, 9]
    assert target["colors"][8] == list(COLORS).index("blue") and target["shapes"][8] == SHAPES.index("cone")


def test_half_of_the_samples_are_reconstructions_and_half_are_mirrored(scenes):
    dataset = JudgeDataset(scenes, 255 - scenes.images)
    torch.manual_seed(0)
    image = from_bytes(scenes.images[0])
    kinds = [image, -image, image.flip(-1), -image.flip(-1)]
    drawn = [dataset[0]["pixels"] for _ in range(60)]
    counts = [sum(torch.allclose(one, kind, atol=1e-6) for one in drawn) for kind in kinds]
    assert sum(counts) == 60 and min(counts) > 5


def test_depth_is_mirrored_with_the_image(scenes):
    dataset = JudgeDataset(scenes, scenes.images)
    plain, mirrored = dataset.sample(0, 0, False), dataset.sample(0, 0, True)
    torch.testing.assert_close(plain["disparity"].flip(-1), mirrored["disparity"])
    torch.testing.assert_close(plain["pixels"].flip(-1), mirrored["pixels"])


def test_judges_return_the_documented_shapes_and_are_small():
    depth, attributes = DepthJudge(), AttributeJudge()
    pixels = torch.zeros(2, 3, 64, 64)
    assert depth(pixels).shape == (2, 64, 64)
    middles, colors, shapes = attributes(pixels)
    assert (middles.shape, colors.shape, shapes.shape) == ((2, 32), (2, 8, 32), (2, 4, 32))
    for judge in (depth, attributes):
        assert sum(p.numel() for p in judge.parameters()) < 1e6


@pytest.mark.parametrize("kind", [DepthJudge, AttributeJudge])
def test_a_judge_survives_a_file(tmp_path, kind):
    judge = kind((8, 16, 8)).eval()
    save_judge(tmp_path / "judge.safetensors", judge, metrics={"any": 1})
    loaded = load_judge(tmp_path / "judge.safetensors")
    pixels = torch.randn(1, 3, 32, 32)
    first, second = judge(pixels), loaded(pixels)
    for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (first, second)), strict=True):
        assert torch.equal(one, other)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_what_is_no_judge_is_refused(tmp_path):
    save_judge(tmp_path / "depth.safetensors", DepthJudge((8, 8, 8)))
    with pytest.raises(ValueError, match="holds depth where attributes is expected"):
        load_judge(tmp_path / "depth.safetensors", "attributes")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no judge"):
        load_judge(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="train_judges"):
        load_judge(tmp_path / "absent.safetensors")


def test_a_data_set_without_places_is_refused(tmp_path):
    write_dataset(tmp_path / "scenes", range(1), 16)
    path = tmp_path / "scenes/metadata.jsonl"
    row = json.loads(path.read_text())
    for one in row["objects"]:
        del one["center"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="where its objects are"):
        Scenes(tmp_path / "scenes")
