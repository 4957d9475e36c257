import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from utils.data import annotate_depth
from utils.data.pairs import PairDataset
from utils.data.records import read_records
from utils.depth import read_disparity, stored_kind, write_disparity


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    """Folder of a tiny depth model with random weights."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=8,
        patch_size=14,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    folder = tmp_path_factory.mktemp("estimator")
    model = DepthAnythingForDepthEstimation(config)
    torch.nn.init.normal_(model.head.conv3.weight)
    torch.nn.init.ones_(model.head.conv3.bias)
    model.save_pretrained(folder)
    size = {"height": 42, "width": 42}
    DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def write_images(folder):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, size in enumerate([(30, 20), (20, 30), (30, 20)]):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return folder


def run(folder, estimator, *flags):
    arguments = ["--train_data_dir", str(folder), "--pretrained_model_name_or_path", str(estimator), *flags]
    annotate_depth.main([*arguments, "--batch_size", "2"])


def test_a_plain_folder_becomes_a_data_set_with_depth(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    run(folder, estimator)
    dataset = PairDataset(read_records(folder), 16, "depth")
    assert len(dataset) == 3
    assert all(sample["conditioning_pixel_values"].max() == 1 for sample in dataset)


def test_pascal_voc_gets_depth_beside(tmp_path, estimator):
    write_images(tmp_path / "VOC2012" / "JPEGImages")
    run(tmp_path / "VOC2012", estimator)
    assert sorted(path.name for path in (tmp_path / "VOC2012" / "Depth").iterdir()) == ["0.png", "1.png", "2.png"]
    assert not (tmp_path / "VOC2012" / "metadata.jsonl").exists()
    assert len(PairDataset(read_records(tmp_path / "VOC2012"), 16, "depth")) == 3


def test_captions_and_depth_of_others_are_kept(folder, estimator):
    before = (folder / "metadata.jsonl").read_text()
    run(folder, estimator)
    assert (folder / "metadata.jsonl").read_text() == before


def test_an_interrupted_run_continues_and_gives_the_same(tmp_path, estimator):
    whole, cut = write_images(tmp_path / "whole"), write_images(tmp_path / "cut")
    run(whole, estimator)
    run(cut, estimator)
    (cut / "depth" / "1.png").unlink()
    kept = (cut / "depth" / "0.png").stat().st_mtime_ns
    run(cut, estimator)
    assert (cut / "depth" / "0.png").stat().st_mtime_ns == kept
    for name in ("0.png", "1.png", "2.png"):
        assert (cut / "depth" / name).read_bytes() == (whole / "depth" / name).read_bytes()
    run(cut, estimator, "--overwrite")
    assert (cut / "depth" / "0.png").stat().st_mtime_ns > kept


def test_a_metric_model_is_inverted_so_that_near_is_large(estimator):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (42, 42, 3), dtype=np.uint8))
    made = annotate_depth.DepthEstimator(str(estimator))
    relative = made([image])[0]
    made.metric = True
    assert np.corrcoef(relative.flatten(), made([image])[0].flatten())[0, 1] < 0


def test_folders_without_images_are_refused(tmp_path, estimator):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no image"):
        run(tmp_path / "empty", estimator)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        run(tmp_path / "absent", estimator)


def test_two_images_that_would_share_a_depth_image_are_refused(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    Image.new("RGB", (4, 4)).save(folder / "0.png")
    with pytest.raises(ValueError, match="2 images .* would share depth/0.png"):
        run(folder, estimator)


def write_rows(folder, *rows):
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines))


def read_rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def contents(folder, *others):
    """Bytes of all files but those that the command may write."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("metadata.jsonl", *others)]
    return {path: path.read_bytes() for path in files}


def assert_all_have_depth_of_their_own(folder, before):
    """No file of before has changed, and each image has disparity that lies in the data set."""
    assert all(path.read_bytes() == content for path, content in before.items())
    for record in read_records(folder):
        assert record.depth.resolve().parent.is_relative_to((folder / "depth").resolve())
        assert record.depth not in before
        assert record.depth_kind == stored_kind(record.depth) == "disparity"


@pytest.mark.parametrize("flags", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_from_elsewhere_are_never_replaced(tmp_path, estimator, flags, suffix):
    """Absolute names, names with .., links, and unrelated files of the same stem."""
    photos, folder = write_images(tmp_path / "photos"), tmp_path / "data"
    folder.mkdir()
    (folder / "linked").symlink_to(photos)
    (folder / "own.jpg").symlink_to(photos / "1.jpg")
    for image in (photos / "0.png", photos / "0.jpg", photos / "2.jpg"):
        Image.new("RGB", (30, 20), "red").save(image)
    names = [str(photos / f"0{suffix}"), "../photos/1.jpg", "linked/2.jpg"]
    write_rows(folder, *({"file_name": name} for name in names))
    before = contents(tmp_path)
    for _ in range(2):
        run(folder, estimator, *flags)
        assert_all_have_depth_of_their_own(folder, before)
        assert len(list((folder / "depth").rglob("*.png"))) == 3


def test_the_absolute_name_of_an_image_of_the_data_set_gets_its_ordinary_place(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    write_rows(folder, {"file_name": str(folder / "0.jpg")})
    run(folder, estimator)
    assert read_rows(folder)[0]["depth_file_name"] == "depth/0.png"


@pytest.mark.parametrize("flags", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_the_metadata_does_not_name_is_no_depth_and_stays(tmp_path, estimator, flags, named):
    folder = write_images(tmp_path / "photos")
    (folder / "depth").mkdir()
    Image.new("L", (20, 30), 7).save(folder / "depth" / "0.png")
    write_disparity(folder / "depth" / "1.png", np.zeros((20, 30)))
    if named:
        write_rows(folder, *({"file_name": f"{k}.jpg"} for k in range(3)))
    before = contents(folder)
    run(folder, estimator, *flags)
    assert_all_have_depth_of_their_own(folder, before)


def test_metadata_that_takes_an_image_for_depth_is_refused_before_any_work(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    for name in ("0.jpg", "1.jpg", str(folder / "0.jpg"), "x/../1.jpg"):
        (folder / "x").mkdir(exist_ok=True)
        write_rows(folder, {"file_name": "0.jpg", "depth_file_name": name}, {"file_name": "1.jpg"})
        before = contents(folder)
        for flags in ((), ("--overwrite",)):
            with pytest.raises(ValueError, match="and it is an image; remove that depth_file_name"):
                run(folder, tmp_path / "no model", *flags)
        assert contents(folder) == before


@pytest.mark.parametrize("kind", [{}, {"depth_kind": "metres"}, {"depth_kind": None}], ids=str)
def test_the_kind_is_written_with_the_file(tmp_path, estimator, kind):
    folder = write_images(tmp_path / "photos")
    write_rows(folder, {"file_name": "0.jpg", "depth_file_name": "depth/of_0.png", "text": "x", **kind})
    run(folder, estimator)
    row = {"file_name": "0.jpg", "depth_file_name": "depth/of_0.png", "text": "x", "depth_kind": "disparity"}
    assert read_rows(folder) == [row]
    [record] = read_records(folder)
    made = annotate_depth.DepthEstimator(str(estimator))([Image.open(folder / "0.jpg")])[0]
    shown = read_disparity(record.depth, record.depth_kind)
    assert np.corrcoef(made.flatten(), shown.flatten())[0, 1] > 0.999


@pytest.mark.parametrize("name", ["../outside.png", "/outside.png", "depth/0.jpg", "linked/0.png"])
def test_depth_is_written_into_the_data_set_whatever_name_the_metadata_gives(tmp_path, estimator, name):
    folder = write_images(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    name = str(tmp_path) + name if name.startswith("/") else name
    write_rows(folder, {"file_name": "0.jpg", "depth_file_name": name})
    run(folder, estimator)
    assert read_rows(folder)[0]["depth_file_name"] == "depth/0.png"
    assert (folder / "depth" / "0.png").is_file()


def test_depth_that_somebody_else_has_made_stays_when_all_is_made_anew(folder, estimator):
    before = contents(folder)
    run(folder, estimator, "--overwrite")
    assert_all_have_depth_of_their_own(folder, before)


def test_captions_of_one_image_share_its_depth(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    write_rows(folder, *({"file_name": "0.jpg", "text": text} for text in ("a", "b")), {"file_name": "./0.jpg"})
    run(folder, estimator)
    assert {row["depth_file_name"] for row in read_rows(folder)} == {"depth/0.png"}


def test_a_run_that_was_interrupted_before_the_metadata_keeps_what_it_made(tmp_path, estimator, capsys):
    folder = write_images(tmp_path / "photos")
    run(folder, estimator)
    (folder / "metadata.jsonl").unlink()
    capsys.readouterr()
    run(folder, estimator)
    assert capsys.readouterr().out.startswith("0 depth images made, 3 already there")
    (folder / "metadata.jsonl").unlink()
    Image.new("RGB", (30, 20), "red").save(folder / "0.jpg")
    run(folder, estimator)
    assert capsys.readouterr().out.startswith("1 depth image made, 2 already there")


def test_leftovers_are_no_images_and_every_suffix_is(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    (folder / "0.jpg").rename(folder / "0.JPG")
    for name in ("._0.JPG", ".DS_Store", "1.jpg~", "Thumbs.db"):
        (folder / name).write_bytes(b"no image")
    run(folder, estimator)
    assert [row["file_name"] for row in read_rows(folder)] == ["0.JPG", "1.jpg", "2.jpg"]


def test_images_of_a_voc_are_never_replaced(tmp_path, estimator):
    voc = tmp_path / "VOC2012"
    images = write_images(voc / "JPEGImages")
    Image.new("RGB", (4, 4)).save(images / "3.png")
    (voc / "Depth").symlink_to("JPEGImages")
    before = contents(images)
    with pytest.raises(ValueError, match=r"3\.png.*is read"):
        run(voc, estimator, "--overwrite")
    assert contents(images) == before


def test_images_that_are_missing_are_named_before_any_work(tmp_path):
    folder = write_images(tmp_path / "photos")
    write_rows(folder, {"file_name": "0.jpg"}, {"file_name": "gone.jpg"}, {"file_name": "x" * 300})
    with pytest.raises(FileNotFoundError, match=r"lists images that do not exist: 2, the first .*gone\.jpg"):
        run(folder, tmp_path / "no model")


@pytest.mark.parametrize("name", ["x" * 251 + ".jpg", "ü" * 125 + ".jpg"], ids=["ascii", "two bytes"])
def test_images_with_the_longest_names_get_depth(tmp_path, estimator, name):
    folder = write_images(tmp_path / "photos")
    (folder / "0.jpg").rename(folder / name)
    run(folder, estimator)
    assert len(PairDataset(read_records(folder), 16, "depth")) == 3


def test_metadata_with_a_byte_order_mark_is_read(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    (folder / "metadata.jsonl").write_text('{"file_name": "0.jpg", "text": "é"}\n', encoding="utf-16")
    run(folder, estimator)
    assert read_records(folder)[0].caption == "é"


def test_a_file_in_the_place_of_the_folder_is_refused_before_any_work(tmp_path):
    folder = write_images(tmp_path / "photos")
    (folder / "depth").write_text("notes")
    with pytest.raises(ValueError, match=r"depth is to be a folder of depth and is a file; move it away"):
        run(folder, tmp_path / "no model")
    assert (folder / "depth").read_text() == "notes"
