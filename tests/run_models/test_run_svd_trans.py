"""Videos through keyframes, by the command."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.svd_clips import TrueClips
from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from pipelines.trans_adapter import choose_adapter
from pipelines.trans_images import list_keyframes
from pipelines.trans_keyframes import fill_keyframes, place_keyframes
from run_models.run_svd_trans import main
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.metrics.images import psnr
from utils.pretrained import shipped
from utils.video import read_video, to_frames


def linear(first, last, num_frames):
    weight = torch.linspace(0, 1, num_frames)[:, None, None, None]
    return torch.lerp(first[None], last[None], weight)


def still(value):
    return torch.full((3, 2, 2), float(value))


@pytest.mark.parametrize("total", [5, 8, 13, 32])
def test_a_long_gap_is_halved_until_the_model_can_fill_it(total):
    lengths = []

    def sample(first, last, num_frames):
        lengths.append(num_frames)
        return linear(first, last, num_frames)

    video = fill_keyframes(sample, [still(0), still(total - 1)], total, most=5)
    assert len(video) == total
    assert max(lengths) <= 5
    assert (
        video[:, 0, 0, 0] - torch.arange(total)
    ).abs().max() < 1  # the middle of an even number of steps lies between two frames


def test_a_video_passes_through_its_keyframes():
    keyframes = [still(0), still(5), still(1)]
    video = fill_keyframes(linear, keyframes, 11, most=8)
    assert [video[place, 0, 0, 0].item() for place in place_keyframes(3, 11)] == [0, 5, 1]


def test_a_loop_ends_before_its_first_frame(video_folders, image, tmp_path):
    main(
        [
            *("--keyframes", str(image), "--loop", "--model_dir", str(video_folders / "model"), "--repeats", "0"),
            *("--total_frames", "4", "--num_inference_steps", "1", "--output_dir", str(tmp_path / "out")),
        ]
    )
    assert len(read_video(tmp_path / "out" / "video.mp4").pixels) == 4
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["files"] == ["video.mp4", "frames.png"] and record["seed"] == 0 and "--loop" in record["command"]
    assert len(record["weights"][str(video_folders / "model")]) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--first", "IMAGE"], "fewer than two"),
        (["--last", "IMAGE", "--loop"], "no first frame"),
        (["--first", "IMAGE", "--keyframes", "IMAGE", "IMAGE"], "leave out --first"),
        (["--first", "IMAGE", "--last", "IMAGE", "--num_frames", "2"], "between two keyframes"),
        (["--keyframes", "IMAGE", "IMAGE", "IMAGE", "--total_frames", "2"], "no room"),
        (["--first", "IMAGE", "--last", "IMAGE", "--repeats", "-1"], "--repeats"),
        (["--first", "IMAGE", "--last", "IMAGE", "--adapter", "x", "--training_free"], "leave one of them out"),
        (["--first", "IMAGE", "--last", "IMAGE", "--offload", "model"], "is for an accelerator"),
        (
            ["--first", "IMAGE", "--last", "IMAGE", "--max_guidance_scale", "1", "--guidance_parallel", "0"],
            "--guidance_parallel 0 needs --max_guidance_scale above 1",
        ),
        (["--first", "IMAGE", "--last", "WIDE"], "wide.png has 64x32 pixels and .* another shape: crop one of them"),
        (["--first", "IMAGE", "--last", "IMAGE", "--adapter", "tiny_svd"], "a video UNet that reads known frames is"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_loaded(flags, words, image, tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    files = {"IMAGE": str(image), "WIDE": str(tmp_path / "wide.png"), "tiny_svd": shipped("tiny_svd")}
    flags = [files.get(flag, flag) for flag in flags]
    with pytest.raises(ValueError, match=words):
        main([*flags, "--model_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])


def test_an_adapter_of_something_else_is_refused(video_folders, image, tmp_path):
    ends = ["--first", str(image), "--last", str(image), "--model_dir", str(video_folders / "model")]
    with pytest.raises((FileNotFoundError, ValueError), match="known_frames.safetensors"):
        main([*ends, "--adapter", str(video_folders / "adapter"), "--output_dir", str(tmp_path / "out")])


def test_an_adapter_of_another_base_is_refused(video_folders, image, tmp_path):
    pipe = tiny_video_pipeline()
    masked = UNetSpatioTemporalMaskedConditionModel.from_unet(pipe.unet)
    fields = {name: value for name, value in masked.config.items() if not name.startswith("_")}
    other = UNetSpatioTemporalMaskedConditionModel(**fields | {"cross_attention_dim": 24})
    other.save_pretrained(tmp_path / "adapter" / "unet")
    ends = ["--first", str(image), "--last", str(image), "--model_dir", str(video_folders / "model")]
    with pytest.raises(ValueError, match="for another base: its cross_attention_dim is 24, and .* 16"):
        main([*ends, "--adapter", str(tmp_path / "adapter"), "--output_dir", str(tmp_path / "out")])


def test_the_small_base_has_the_adapter_that_comes_with_the_project():
    assert choose_adapter(shipped("tiny_svd"), None) == shipped("svd_trans")
    assert choose_adapter(shipped("tiny_svd"), None, training_free=True) is None
    assert choose_adapter("elsewhere/base", None) is None
    assert choose_adapter(shipped("tiny_svd"), "mine") == "mine"


def test_the_weights_of_the_project_make_a_video(tmp_path):
    clip = TrueClips(tmp_path, 2_600_000).videos([0])[0]
    for name, frame in (("a", 0), ("b", -1)):
        Image.fromarray(to_frames(clip)[frame]).save(tmp_path / f"{name}.png")
    ends = ["--first", str(tmp_path / "a.png"), "--last", str(tmp_path / "b.png"), "--num_inference_steps", "4"]
    main([*ends, "--num_frames", "4", "--output_dir", str(tmp_path / "out")])
    video = read_video(tmp_path / "out" / "video.mp4").pixels
    assert video.shape == (4, 3, 64, 64) and psnr(video[1:3], clip[[2, 5]]) > 20


def test_images_of_two_shapes_are_cropped_to_a_size_that_is_passed(video_folders, image, tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    ends = ["--first", str(image), "--last", str(tmp_path / "wide.png"), "--model_dir", str(video_folders / "model")]
    more = ["--height", "32", "--width", "32", "--num_inference_steps", "1", "--repeats", "0"]
    main([*ends, *more, "--output_dir", str(tmp_path / "out")])
    assert read_video(tmp_path / "out" / "video.mp4").pixels.shape[-2:] == (32, 32)


def test_order_of_keyframes():
    assert list_keyframes("a", "b", None, loop=True) == ["a", "b", "a"]
    assert list_keyframes(None, None, ["a", "b", "c"], loop=False) == ["a", "b", "c"]
