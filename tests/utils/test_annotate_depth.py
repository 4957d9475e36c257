import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from utils.data import annotate_depth
from utils.data.pairs import PairDataset
from utils.data.records import read_records


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


def test_two_images_that_would_share_a_depth_picture_are_refused(tmp_path, estimator):
    folder = write_images(tmp_path / "photos")
    Image.new("RGB", (4, 4)).save(folder / "0.png")
    with pytest.raises(ValueError, match="2 images .* would share depth/0.png"):
        run(folder, estimator)
