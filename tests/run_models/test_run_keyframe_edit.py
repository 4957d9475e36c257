"""Videos edited by their keyframes, by the command."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline
from pipelines.edit_models import EditModels
from pipelines.pipeline_keyframe_edit import EditSettings
from run_models import run_keyframe_edit
from run_models.run_keyframe_edit import main
from utils.pretrained import shipped
from utils.video import read_video, write_video

SIDE = 32
F = 7


@pytest.fixture
def frames_dir(tmp_path):
    """A red square that goes right over gray, as numbered frames."""
    folder = tmp_path / "source"
    folder.mkdir()
    for t in range(F):
        image = np.full((SIDE, SIDE, 3), 90, np.uint8)
        image[8:20, 4 + t : 14 + t] = (200, 30, 30)
        Image.fromarray(image).save(folder / f"{t:03}.png")
    return folder


@pytest.fixture
def flags(folders, video_folders, frames_dir, tmp_path):
    """Makes a command line for small models; values replace or add flags, None leaves one out."""

    def make(**values):
        given = {"input_video": frames_dir, "prompt": "a blue ball", "source_prompt": "a red ball"}
        given |= {"image_model": folders.model, "depth_adapter": folders.adapters / "depth.safetensors"}
        given |= {"model_dir": video_folders / "model", "keyframe_interval": 3, "edit_steps": 2}
        given |= {"num_inference_steps": 2, "output_dir": tmp_path / "out"} | values
        pairs = [(f"--{name}", value) for name, value in given.items() if value is not None]
        return [part for flag, value in pairs for part in ([flag] if value is True else [flag, str(value)])]

    return make


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_a_video_is_edited_and_its_pieces_are_kept(flags, tmp_path):
    files = main(flags())
    out = tmp_path / "out"
    assert [file.name for file in files] == ["video.mp4", "frames.png"]
    assert len(read_video(out / "video.mp4").pixels) == F
    assert Image.open(out / "frames.png").size == (F * SIDE, 2 * SIDE)
    names = {path.name for path in (out / "keyframes").iterdir()}
    assert names == {f"{n:06}_{what}.png" for n in (0, 3, 6) for what in ("before", "after")}
    assert sorted(str(path.relative_to(out / "segments")) for path in (out / "segments").glob("*/*")) == [
        f"{folder}/{n:06}.png" for folder, ns in (("000000-000003", (1, 2)), ("000003-000006", (4, 5))) for n in ns
    ]
    record = json.loads((out / "run.json").read_text())
    assert record["keyframes"] == [0, 3, 6] and record["files"] == ["video.mp4", "frames.png"]


@pytest.mark.parametrize("mask", [None, "auto"])
def test_a_stopped_run_goes_on_to_the_very_same_result(flags, tmp_path, monkeypatch, mask):
    main(flags(mask=mask, output_dir=tmp_path / "whole", together=2))
    folder = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", folder)
    for piece in ("video.mp4", "frames.png", "run.json", "keyframes/000006_after.png"):
        (folder / piece).unlink()
    shutil.rmtree(folder / "segments" / "000003-000006")
    main(flags(mask=mask, output_dir=folder, together=2))
    assert files_of(folder) == files_of(tmp_path / "whole")
    # What is there is not made again.
    monkeypatch.setattr(run_keyframe_edit.EditModels, "load_images", lambda self: pytest.fail("loaded"))
    monkeypatch.setattr(run_keyframe_edit.EditModels, "load_videos", lambda self: pytest.fail("loaded"))
    main(flags(mask=mask, output_dir=folder, together=2))


def test_other_arguments_in_the_same_folder_are_refused_unless_it_begins_anew(flags, tmp_path):
    main(flags())
    before = files_of(tmp_path / "out")
    with pytest.raises(FileExistsError, match="holds an edit with prompt 'a blue ball', not 'a green ball'"):
        main(flags(prompt="a green ball"))
    assert files_of(tmp_path / "out") == before
    main(flags(prompt="a green ball", overwrite=True))
    assert files_of(tmp_path / "out")["keyframes/000003_after.png"] != before["keyframes/000003_after.png"]


def test_a_folder_with_something_else_is_refused(flags, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        main(flags())


def test_an_edit_of_a_video_that_has_changed_since_does_not_go_on(flags, frames_dir, tmp_path):
    main(flags())
    Image.new("RGB", (SIDE, SIDE)).save(frames_dir / "000.png")
    with pytest.raises(FileExistsError, match="holds an edit of what the video or mask held before"):
        main(flags())


@pytest.mark.parametrize("part", ["keyframes", "segments"])
def test_what_no_edit_has_written_stays(flags, tmp_path, part):
    mine = tmp_path / "out" / part / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(FileExistsError, match=f"has {part}, which no edit has written"):
        main(flags(overwrite=True))
    (tmp_path / "out" / "settings.json").write_text("[]")
    with pytest.raises(FileExistsError, match="settings.json is not of an edit"):
        main(flags(overwrite=True))
    assert mine.exists()


def test_another_edit_takes_the_place_of_the_last_one_and_of_nothing_else(flags, tmp_path):
    main(flags())
    mine = tmp_path / "out/keyframes/mine.png"
    mine.touch()
    main(flags(prompt="a green ball", keyframe_interval=6, overwrite=True))
    assert mine.exists()
    assert sorted(path.name for path in mine.parent.glob("*_after.png")) == ["000000_after.png", "000006_after.png"]


@pytest.mark.parametrize("kind", ["image", "folder"])
def test_outside_of_a_mask_every_frame_is_the_source(flags, frames_dir, tmp_path, kind):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:24, 8:24] = 255
    path = tmp_path / "mask.png"
    if kind == "folder":
        path = tmp_path / "masks"
        path.mkdir()
    for t in range(F if kind == "folder" else 1):
        Image.fromarray(mask).save(path / f"{t:03}.png" if kind == "folder" else path)
    main(flags(mask=path))
    for folder, numbers in (("keyframes", (0, 3)), ("segments/000000-000003", (1, 2))):
        for n in numbers:
            made = tmp_path / "out" / folder / (f"{n:06}_after.png" if folder == "keyframes" else f"{n:06}.png")
            difference = np.abs(
                np.array(Image.open(made)).astype(int) - np.array(Image.open(frames_dir / f"{n:03}.png"))
            )
            assert difference[mask == 0].max() <= 1 and difference[mask > 0].max() > 10


def test_frames_keep_their_rate_and_sides_are_fitted(flags, tmp_path):
    write_video(tmp_path / "odd.mp4", torch.rand(5, 3, 50, 74) * 2 - 1, fps=12.5)
    main(flags(input_video=tmp_path / "odd.mp4", keyframe_interval=2, structure="inversion", depth_adapter=None))
    video = read_video(tmp_path / "out" / "video.mp4")
    assert video.fps == 12.5 and video.pixels.shape == (5, 3, 32, 48)


def test_the_small_base_fills_gaps_with_the_adapter_that_comes_with_the_project(flags):
    def adapter(**values):
        args = run_keyframe_edit.parser().parse_args(flags(**values))
        return EditModels.from_args(args, EditSettings.from_args(args)).adapter

    small = {"model_dir": shipped("tiny_svd")}
    assert adapter(**small) == shipped("svd_trans") and adapter() is None
    assert adapter(**small, training_free=True) is None
    with pytest.raises(ValueError, match="leave one of them out"):
        adapter(adapter=shipped("svd_trans"), training_free=True)


def test_a_trained_network_is_conditioned_on_the_keyframes_carried_along(flags, tiny_svd, tmp_path, monkeypatch):
    adapter = tmp_path / "adapter"
    UNetSpatioTemporalMaskedConditionModel.from_unet(tiny_svd.unet).save_pretrained(adapter / "unet")
    seen, call = [], StableVideoDiffusionLedTransPipeline.prepare

    def prepare(self, *args, **options):
        seen.append((options["lead"], options["guess"]))
        return call(self, *args, **options)

    monkeypatch.setattr(StableVideoDiffusionLedTransPipeline, "prepare", prepare)
    main(flags(adapter=adapter))
    assert len(seen) == 2 and all(torch.equal(lead, guess) for lead, guess in seen)
    seen.clear()
    main(flags(adapter=adapter, lead_strength=1.0, overwrite=True))  # no lead: both ends interpolated by flow
    assert seen == [(None, None)] * 2


def small(tmp_path, sizes):
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"{t}.png")
    return folder


def write_mask(tmp_path, value=255, size=(SIDE, SIDE)):
    Image.new("L", size, value).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


BAD = {
    "empty prompt": (lambda p: {"prompt": " "}, "prompt is empty"),
    "two sizes": (lambda p: {"input_video": small(p, [(32, 32)] * 4 + [(32, 48)])}, "frame 4 is 32x48"),
    "one frame": (lambda p: {"input_video": small(p, [(32, 32)])}, "has one frame"),
    "shorter than the interval": (lambda p: {"keyframe_interval": 7}, "7 frames, and a keyframe interval of 7 needs 8"),
    "no video": (lambda p: {"input_video": p / "none.mp4"}, "neither a video nor a folder"),
    "mask of another size": (lambda p: {"mask": write_mask(p, size=(16, 32))}, "is 16x32 and the video 32x32"),
    "black mask": (lambda p: {"mask": write_mask(p, 0)}, "black everywhere"),
    "too few masks": (lambda p: {"mask": small(p, [(32, 32)] * 3)}, "has 3 frames and the video 7"),
    "no mask": (lambda p: {"mask": p / "none"}, "neither auto, nor an image"),
    "auto without a source": (lambda p: {"mask": "auto", "source_prompt": None}, "where the prompts differ"),
    "a base that divides no such side": (lambda p: {"height": 36}, "not a multiple of"),
    "depth adapter without use": (lambda p: {"structure": "inversion"}, "applies to --structure depth"),
    "no depth adapter": (lambda p: {"depth_adapter": None}, "needs a --depth_adapter"),
    "another depth adapter": (lambda p: {"depth_adapter": shipped("flow_video")}, "a joint adapter of"),
    "another image base": (lambda p: {"image_model": shipped("tiny_svd")}, "a Stable Diffusion base is needed"),
    "another video base": (lambda p: {"model_dir": shipped("tiny_sd")}, "a Stable Video Diffusion base is needed"),
    "adapter of another kind": (lambda p: {"adapter": shipped("tiny_sd/vae")}, "train_svd_trans.py"),
    "too many steps": (lambda p: {"edit_steps": 1001}, "--edit_steps 1001 is more than the 1000 noise levels"),
    "threshold without auto": (lambda p: {"mask_threshold": 0.5}, "--mask_threshold 0.5 needs --mask auto"),
    "merging alone": (lambda p: {"token_merging": 0.5, "no-cross_frame": True}, "0.5 needs --cross_frame"),
    "gaps without frames": (lambda p: {"num_frames": 2}, "between two keyframes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_loaded(flags, tmp_path, monkeypatch, case):
    monkeypatch.setattr(run_keyframe_edit.EditModels, "load_images", lambda self: pytest.fail("loaded"))
    values, words = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        main(flags(**values(tmp_path)))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_clip_goes_through_the_embedded_bases(shared_media, tmp_path):
    flags = {"--input_video": shared_media / "wolf.mp4", "--prompt": "a red cube", "--source_prompt": "a blue cube"}
    flags |= {
        "--keyframe_interval": 13,
        "--edit_steps": 4,
        "--num_inference_steps": 3,
        "--output_dir": tmp_path / "out",
    }
    main([part for pair in flags.items() for part in map(str, pair)])
    video = read_video(tmp_path / "out" / "video.mp4")
    assert video.fps == 20 and video.pixels.shape == (40, 3, 64, 64)
