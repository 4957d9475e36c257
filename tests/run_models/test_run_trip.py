"""The command that samples videos by TRIP: from images, from text, and from images that text edits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.trip import TripFusion
from pipelines.first_frames import pair_up
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from run_models.run_trip import main, parser, read_sampling
from tests.flags import flags
from tests.tiny_pipeline import SIDE
from tests.tiny_text_video import tiny_text_video
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.commands.video_jobs import batches
from utils.diffusion.sampling import parse_sampling_args
from utils.images import read_image, to_pixels
from utils.pretrained import shipped
from utils.video import index_frames, read_video


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trip")
    components = tiny_video_pipeline().components
    StableVideoDiffusionTripPipeline(**components, fusion=TripFusion(width=16, heads=2)).save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    """a.png and b.png of 32x32 and c.png of 64x32 in a folder."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for name, size in (("a", (32, 32)), ("b", (32, 32)), ("c", (32, 64))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(model_dir, folders, tmp_path):
    def call(*more, out="out", kept=False, **values):
        fixed = {"model_dir": model_dir, "output_dir": tmp_path / out, "device": "cpu"}
        fixed |= {"num_inference_steps": 1, "num_frames": 3, "height": 32}
        if "prompt" in values and not kept:
            fixed |= {"image_model": folders.model, "image_steps": 2}
        return main(flags(*more, **fixed | values))

    return call


def test_images_become_videos_with_a_record(run, images, tmp_path):
    files = run(first_frame=[images], fps=8)
    assert [path.name for path in files if path.suffix == ".mp4"] == ["00.mp4", "01.mp4", "02.mp4"]
    index = index_frames(files[0])
    assert len(index) == 3 and index.fps == pytest.approx(8)
    assert read_video(files[4]).pixels.shape[-2:] == (32, 64)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["files"] == [path.name for path in files] and record["seed"] == 0
    assert record["first_frames"] == [str(images / f"{name}.png") for name in "abc"]
    assert np.array_equal(np.asarray(Image.open(files[1])), np.asarray(Image.open(images / "a.png")))


def test_videos_of_a_batch_are_those_that_are_sampled_alone(run, images):
    alone = run(first_frame=[images], out="alone")
    together = run(first_frame=[images], batch_size=3, out="together")
    for a, b in zip(alone[::2], together[::2], strict=True):
        difference = read_video(a).pixels.int() - read_video(b).pixels.int()
        assert difference.abs().float().mean() < 1


def test_neighbours_of_one_size_are_sampled_at_once():
    sizes = [(32, 32), (32, 32), (32, 32), (32, 64), (32, 32)]
    assert batches([torch.zeros(3, *size) for size in sizes], 2) == [[0, 1], [2], [3], [4]]


def test_text_becomes_videos(run):
    files = run(prompt=["a cube", "two cubes"])
    first = [np.asarray(Image.open(path)).astype(int) for path in files if path.suffix == ".png"]
    assert len(first) == 2 and first[0].shape == (SIDE, SIDE, 3) and abs(first[0] - first[1]).mean() > 1
    assert len(index_frames(files[0])) == 3


def test_a_prompt_edits_a_first_frame_and_its_strength_says_how_far(run, images):
    given = np.asarray(Image.open(images / "a.png")).astype(int)
    changes = []
    for strength in (0.5, 1.0):
        files = run(first_frame=[images / "a.png"], prompt=["a cube"], edit_strength=strength, out=f"edit{strength}")
        changes.append(abs(np.asarray(Image.open(files[1])).astype(int) - given).mean())
    assert len(files) == 2 and min(changes) > 1 and changes[0] != changes[1]


def test_the_prompt_is_read(run, images):
    first = [
        np.asarray(Image.open(run(first_frame=[images / "a.png"], prompt=[prompt], out=prompt)[1])).astype(int)
        for prompt in ("a cube", "zzzz")
    ]
    assert abs(first[0] - first[1]).max() > 0


def test_one_image_takes_several_prompts_and_one_prompt_several_images():
    assert pair_up(["a"], ["x", "y"]) == [("a", "x"), ("a", "y")]
    assert pair_up(["a", "b"], ["x"]) == [("a", "x"), ("b", "x")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing to begin with: pass --first_frame, --prompt, or both"),
        ({"first_frame": ["{images}"], "prompt": ["a", "b"]}, "3 images and 2 prompts do not match"),
        ({"prompt": ["a"], "edit_strength": 0}, "--edit_strength 0 is not allowed"),
        ({"prompt": ["a"], "num_frames": 1}, "num_frames 1 is no video"),
        ({"prompt": ["a"], "fps": 0}, "fps"),
        ({"prompt": ["a"], "guidance_scale": -1}, "guidance_scale"),
        ({"prompt": ["a"], "guidance_scale": 1, "negative_motion_bucket_id": 5}, "needs guidance"),
        ({"first_frame": ["missing.png"]}, "missing.png"),
        ({"prompt": ["a"], "edit_strength": 0.5}, "--edit_strength 0.5 needs --first_frame and --prompt"),
        ({"first_frame": ["{images}"], "edit_strength": 0.5}, "--edit_strength 0.5 needs --first_frame and --prompt"),
        ({"first_frame": ["{images}"], "image_steps": 5}, "--image_steps 5 needs --prompt: pass that, or remove it"),
        ({"first_frame": ["{images}"], "image_guidance_scale": 2}, "--image_guidance_scale 2 needs --prompt"),
        ({"first_frame": ["{images}"], "image_model": "x"}, "--image_model x needs --prompt"),
        (
            {"first_frame": ["{images}"], "guidance_scale": 1, "guidance_parallel": 0},
            "--guidance_parallel 0 needs --guidance_scale above 1",
        ),
        ({"first_frame": [Path(__file__).parent]}, "no image in --first_frame "),
        ({"prompt": ["a"], "model_dir": "nowhere"}, "nowhere"),
        ({"prompt": ["a"], "image_model": "nowhere"}, "nowhere"),
        ({"prompt": ["a"], "image_steps": 1001}, "--image_steps 1001 is more than the 1000 noise levels of"),
        ({"prompt": ["a"], "height": 33}, "--height 33 is not a multiple of 8"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(run, images, values, message, tmp_path):
    values = {
        k: [str(images) if p == "{images}" else p for p in v] if isinstance(v, list) else v for k, v in values.items()
    }
    with pytest.raises((ValueError, OSError), match=message) as refused:
        run(**values)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_base_without_a_fusion_is_refused(run, svd_base):
    with pytest.raises(ValueError, match="has no TRIP fusion: train one with train_models/train_trip.py"):
        run(prompt=["a"], model_dir=svd_base)


def test_the_shipped_weights_begin_a_video_with_its_image(make_clips, tmp_path):
    image = min(make_clips(num_samples=1, num_frames=2, num_tracks=1, resolution=64).glob("videos/*/*"))
    options = {"model_dir": shipped("trip"), "first_frame": [image], "num_inference_steps": 2}
    files = main(flags(**options, output_dir=tmp_path / "out", device="cpu"))
    frames = read_video(files[0]).pixels
    given = to_pixels(read_image(image))
    assert frames.shape == (8, 3, 64, 64)
    assert (frames[0] - given).abs().mean() * 127.5 < 12 < (frames.float().std() * 127.5)


def test_the_shipped_weights_doubt_a_photograph(run, images, capsys):
    run(first_frame=[images / "a.png"], model_dir=shipped("trip"))
    said = capsys.readouterr().err
    assert "a.png does not look like the procedural world, all that the small model weights/trip knows" in said
    assert "pass a model of train_trip.py on stabilityai/stable-video-diffusion" in said


def test_a_model_brings_its_own_sampling(tmp_path):
    (tmp_path / "sampling.json").write_text('{"max_guidance_scale": 1, "solver_order": 2}')
    for asked, scale in (({}, 1), ({"guidance_scale": 3}, 3)):
        argv = flags(model_dir=tmp_path, output_dir="out", **asked)
        sampling = read_sampling(parse_sampling_args(parser(), argv, read=read_sampling))
        assert (sampling.max_guidance_scale, sampling.solver_order) == (scale, 2)


@pytest.fixture(scope="module")
def text_dir(tmp_path_factory):
    """A text to video base with a fusion."""
    folder = tmp_path_factory.mktemp("trip_text")
    tiny_text_video(folder / "words", fusion=TripFusion(width=16, heads=2)).save_pretrained(folder / "base")
    return folder / "base"


def test_a_text_to_video_base_reads_the_prompt_and_keeps_the_image(run, images, text_dir):
    files, videos = [], []
    for prompt in ("a cube", "zzzz"):
        values = {"first_frame": [images / "a.png"], "prompt": [prompt], "guidance_scale": 30}
        files.append(run(model_dir=text_dir, out=prompt, kept=True, **values))
        videos.append(read_video(files[-1][0]).pixels.int())
    for found in files:
        assert np.array_equal(np.asarray(Image.open(found[1])), np.asarray(Image.open(images / "a.png")))
    assert len(index_frames(files[0][0])) == 3
    assert (videos[0] - videos[1])[1:].abs().max() > 0


def test_a_text_to_video_base_takes_batches_text_alone_and_edited_images(run, images, text_dir):
    given = {"model_dir": text_dir, "first_frame": [images], "prompt": ["a", "b", "c"], "kept": True}
    alone, together = run(**given, out="alone"), run(**given, batch_size=2, out="together")
    for a, b in zip(alone[::2], together[::2], strict=True):
        assert (read_video(a).pixels.int() - read_video(b).pixels.int()).abs().float().mean() < 1
    given |= {"first_frame": [images / "a.png"], "prompt": ["a", "b"]}
    assert len(run(**given, out="two")) == 4
    assert len(run(model_dir=text_dir, prompt=["a cube"], guidance_scale=3, solver_order=2, out="text")) == 2
    edited = run(model_dir=text_dir, first_frame=[images / "a.png"], prompt=["a"], edit_strength=0.9, out="edited")
    assert not np.array_equal(np.asarray(Image.open(edited[1])), np.asarray(Image.open(images / "a.png")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first_frame": ["{images}"]}, "base is conditioned on text: pass --prompt"),
        ({"motion_bucket_id": 3}, "--motion_bucket_id applies to Stable Video Diffusion: leave it out"),
        ({"guidance_parallel": 0.5}, "--guidance_parallel applies to Stable Video Diffusion: leave it out"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"num_inference_steps": 1001}, "--num_inference_steps 1001 is more than the 1000 noise levels of"),
        (
            {"first_frame": ["{images}"], "prompt": ["a"], "image_steps": 2},
            "--image_steps 2 needs --prompt, and with --first_frame --edit_strength",
        ),
    ],
)
def test_what_a_text_to_video_base_does_not_read_is_refused(run, images, text_dir, values, message):
    values = values | {"first_frame": [images]} if "first_frame" in values else {"prompt": ["a"], **values}
    with pytest.raises(ValueError, match=message):
        run(model_dir=text_dir, kept=True, **values)
