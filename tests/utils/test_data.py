import json

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import DataLoader

from utils.data.geometry import Geometry
from utils.data.pairs import PairDataset, check_images
from utils.data.records import read_records
from utils.depth import metres_to_disparity, normalize_disparity, write_disparity
from utils.images import image_size, read_image
from utils.training.seeding import EpochSampler, SeededDataset


def test_a_folder_with_metadata_gives_pixels_condition_and_caption_in_range(folder):
    sample = PairDataset(read_records(folder), 16, "depth")[1]
    assert sample["caption"] == "scene 1"
    assert sample["pixel_values"].shape == sample["conditioning_pixel_values"].shape == (3, 16, 16)
    assert sample["pixel_values"].min() >= -1 and sample["pixel_values"].max() <= 1
    assert sample["conditioning_pixel_values"].min() == -1 and sample["conditioning_pixel_values"].max() == 1


def test_resize_crop_and_flip_act_on_both_sides_alike(folder):
    dataset = PairDataset(read_records(folder), 13, "depth", random_flip=True)
    for _ in range(8):
        sample = dataset[0]
        red, disparity = sample["pixel_values"][0].flatten(), sample["conditioning_pixel_values"][0].flatten()
        assert torch.corrcoef(torch.stack([red, disparity]))[0, 1] > 0.999


def test_a_sample_of_the_right_size_is_not_resampled(folder):
    sample = PairDataset(read_records(folder), 18, center_crop=True)[0]
    stored = np.asarray(Image.open(folder / "0.png"))[:, 3:21]
    np.testing.assert_allclose((sample["pixel_values"].permute(1, 2, 0).numpy() + 1) * 127.5, stored, atol=1e-3)


def test_a_crop_reaches_every_border_and_keeps_the_shape():
    picture = torch.arange(7.0 * 5).view(1, 7, 5)
    corners = [Geometry(5, 0, 0), Geometry(5, 1, 1)]
    assert torch.equal(corners[0].apply(picture), picture[:, :5])
    assert torch.equal(corners[1].apply(picture), picture[:, 2:])
    assert torch.equal(Geometry(5, flip=True).apply(picture), picture[:, 1:6].flip(-1))
    for size in ((3, 1000), (1000, 3), (7, 6)):
        assert Geometry(8).apply(torch.zeros(3, *size)).shape == (3, 8, 8)


def test_augmentation_changes_with_the_epoch_and_not_with_the_number_of_workers(folder):
    def epoch(number, workers):
        dataset = PairDataset(read_records(folder), 12, "depth", random_flip=True)
        sampler = EpochSampler(len(dataset), seed=0)
        sampler.epoch = number
        loader = DataLoader(SeededDataset(dataset, seed=0), sampler=sampler, num_workers=workers)
        return {sample["caption"][0]: sample["pixel_values"] for sample in loader}

    here, there, later = epoch(0, 0), epoch(0, 2), epoch(1, 2)
    assert all(torch.equal(here[caption], there[caption]) for caption in here)
    assert not any(torch.equal(here[caption], later[caption]) for caption in here)


def test_edges_are_computed_from_the_image_that_is_shown(folder):
    sample = PairDataset(read_records(folder), 18, "edge")[0]
    assert set(sample["conditioning_pixel_values"].unique().tolist()) <= {-1.0, 1.0}


def write_voc(folder, depth=True):
    for name in ("JPEGImages", "Depth", "Annotations"):
        (folder / name).mkdir(parents=True)
    for stem in ("2007_000027", "2007_000032"):
        Image.new("RGB", (20, 16), "green").save(folder / "JPEGImages" / f"{stem}.jpg")
        if depth:
            write_disparity(folder / "Depth" / f"{stem}.png", np.linspace(-1, 1, 320).reshape(16, 20))
    objects = "".join(f"<object><name>{name}</name></object>" for name in ("dog", "person", "person"))
    (folder / "Annotations" / "2007_000027.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


def test_pascal_voc_is_read_with_depth_beside_and_captions_of_its_objects(tmp_path):
    dataset = PairDataset(read_records(write_voc(tmp_path / "VOC2012")), 16, "depth", center_crop=True)
    assert [sample["caption"] for sample in dataset] == ["a photo of dog and 2 persons", ""]
    assert dataset[0]["conditioning_pixel_values"][0, 0, 0] == -1


def test_depth_that_is_missing_is_named_before_training_with_the_command_that_makes_it(tmp_path):
    records = read_records(write_voc(tmp_path / "VOC2012", depth=False))
    with pytest.raises(ValueError, match="no depth of 2 of 2 images.*annotate_depth"):
        PairDataset(records, 16, "depth")
    assert len(PairDataset(records, 16)) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"text": "no file"}', "line 1: no file_name"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: no JSON object"),
        ('{"file_name": "0.png", "depth_kind": "feet"}', "depth_kind is metres or disparity, not 'feet'"),
        ("", "lists no image"),
    ],
)
def test_metadata_with_a_mistake_is_refused_in_one_sentence(folder, text, sentence):
    (folder / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_records(folder)


def test_missing_files_and_folders_are_named(folder, tmp_path):
    (folder / "1_depth.png").unlink()
    with pytest.raises(FileNotFoundError, match="1_depth.png"):
        read_records(folder)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="no metadata.jsonl and no JPEGImages"):
        read_records(folder)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        read_records(tmp_path / "absent")


def test_an_image_that_cannot_be_read_or_differs_from_its_depth_in_size_is_named(folder):
    records = read_records(folder)
    dataset = PairDataset(records, 16, "depth")
    check_images(records, "depth")
    (folder / "0.png").write_text("text")
    with pytest.raises(ValueError, match="0.png cannot be read"):
        check_images(records)
    with pytest.raises(ValueError, match="0.png cannot be read"):
        dataset[0]
    Image.new("RGB", (5, 5)).save(folder / "1.png")
    check_images(records[1:], "edge")
    with pytest.raises(ValueError, match="1.png is 5x5 and its depth .* 24x18"):
        check_images(records[1:], "depth")
    with pytest.raises(ValueError, match="1.png is 5x5 and its depth .* 24x18"):
        dataset[1]


def test_depth_of_floats_in_a_format_that_pillow_lacks_is_checked_and_read(folder):
    metres = np.linspace(1, 9, 24 * 18, dtype=np.float32).reshape(18, 24)
    cv2.imwrite(str(folder / "0.hdr"), np.dstack([metres] * 3))
    row = {"file_name": "0.png", "depth_file_name": "0.hdr", "depth_kind": "metres", "text": "a scene"}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    records = read_records(folder)
    check_images(records, "depth")
    disparity = PairDataset(records, 18, "depth", center_crop=True)[0]["conditioning_pixel_values"][0]
    assert disparity[0, 0] == 1 and disparity[-1, -1] == -1
    Image.new("RGB", (18, 24)).save(folder / "0.png")
    with pytest.raises(ValueError, match="0.png is 18x24 and its depth .*0.hdr 24x18"):
        check_images(records, "depth")


def test_the_size_of_a_turned_photograph_is_that_of_the_image_shown(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (24, 18)).save(tmp_path / "photo.jpg", exif=turned)
    Image.new("RGB", (24, 18)).save(tmp_path / "plain.png")
    for name, size in (("photo.jpg", (18, 24)), ("plain.png", (24, 18))):
        assert image_size(tmp_path / name) == read_image(tmp_path / name).size == size


def test_depth_of_a_kind_that_nobody_names_is_said_and_depth_that_says_it_is_believed(folder, capsys):
    records = read_records(folder)
    before = PairDataset(records, 16, "depth", center_crop=True)[0]["conditioning_pixel_values"]
    capsys.readouterr()
    check_images(records, "depth")
    assert "does not say" not in capsys.readouterr().err
    stored = np.asarray(Image.open(folder / "0_depth.png"))
    write_disparity(folder / "0_depth.png", normalize_disparity(metres_to_disparity(stored / 1000)))
    after = PairDataset(records, 16, "depth", center_crop=True)[0]["conditioning_pixel_values"]
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.999
    Image.fromarray(stored).save(folder / "1_depth.png")
    check_images(records, "depth")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "1_depth.png does not say what it holds and is read as millimetres" in line]
    assert '"depth_kind": "disparity"' in lines[0]


def test_a_pair_of_ones_own_is_the_image_that_the_metadata_names(folder, name_pairs):
    name_pairs(folder)
    dataset = PairDataset(read_records(folder, "normals"), 16, "normals")
    condition = dataset[0]["conditioning_pixel_values"]
    assert condition.shape == (3, 16, 16)
    assert [round(value) for value in (condition[:, 0, 0] + 1).mul(127.5).tolist()] == [10, 200, 30]


def test_a_pair_of_ones_own_that_is_missing_or_of_another_size_is_named(folder, name_pairs):
    with pytest.raises(ValueError, match='no normals of 3 of 3 images.*write "normals_file_name"'):
        PairDataset(read_records(folder, "normals"), 16, "normals")
    with pytest.raises(ValueError, match="'../x' is no name"):
        PairDataset(read_records(folder), 16, "../x")
    name_pairs(folder, size=(5, 5))
    with pytest.raises(ValueError, match="0.png is 24x18 and its normals .*normals_0.png 5x5"):
        check_images(read_records(folder, "normals"), "normals")
    (folder / "normals_0.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 missing file, the first .*normals_0.png"):
        read_records(folder, "normals")
