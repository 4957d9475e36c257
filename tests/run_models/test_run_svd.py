"""The script that samples videos: its files, its options, its refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from PIL import Image

from run_models.run_svd import main
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.commands.video_jobs import list_images
from utils.flow.code import FlowCode
from utils.pretrained import shipped
from utils.video import index_frames, read_video
from utils.weights.lora import add_lora, save_lora

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SIZE = ["--height", "32", "--width", "32"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svd")
    tiny_video_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    """a.png and b.png of 32x32 and c.png of 50x32 in a folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a", (32, 32)), ("b", (32, 32)), ("c", (32, 50))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(model_dir, images, tmp_path):
    """Runs the script on the tiny model, by default on a.png to out.mp4, and returns the files."""

    def call(*arguments, image=("a.png",), video="out.mp4", size=SIZE):
        paths = [str(images / name) for name in image]
        fixed = ["--model_dir", str(model_dir), "--input_image", *paths, "--output_video", str(tmp_path / video)]
        return main(
            [*fixed, *size, "--device", "cpu", "--num_inference_steps", "1", "--num_frames", "4", *map(str, arguments)]
        )

    return call


def pixels(path):
    return read_video(path).pixels


def test_an_image_becomes_a_video_of_its_rate_with_a_record(run, tmp_path):
    (path,) = run("--fps", 8)
    assert path == tmp_path / "out.mp4"
    assert len(index_frames(path)) == 4 and index_frames(path).fps == pytest.approx(8)
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert record["seed"] == 0 and record["frames"] == 4 and record["arguments"]["motion_bucket_id"] == 127
    assert sorted(file.name for file in tmp_path.glob("out*")) == ["out.mp4", "out.mp4.json"]


def test_a_gif_is_written_where_the_name_asks_for_one(run):
    (path,) = run(video="out.gif")
    assert Image.open(path).n_frames == 4


def test_each_image_of_a_folder_has_its_own_seed_whatever_it_is_sampled_with(run, tmp_path):
    paths = run(image=("",), video="all")
    assert [path.name for path in paths] == ["a.mp4", "b.mp4", "c.mp4"]
    (alone,) = run("--seed", 1, image=("b.png",), video="alone.mp4")
    assert alone.read_bytes() == paths[1].read_bytes()
    (other,) = run("--seed", 2, image=("b.png",), video="other.mp4")
    assert other.read_bytes() != paths[1].read_bytes()


def test_an_image_of_another_shape_is_resized_and_cropped_and_that_is_said(run, capsys):
    (path,) = run(image=("c.png",), size=["--height", "32"])
    assert pixels(path).shape[-2:] == (32, 48)
    assert "c.png: 50x32 pixels are resized and cropped to 48x32." in capsys.readouterr().out


def test_a_long_video_has_as_many_frames_as_asked_for(run):
    (path,) = run("--total_frames", 9, "--overlap_frames", 2)
    assert len(index_frames(path)) == 9
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["segment_starts"] == [0, 4, 6, 8]


def test_an_adapter_that_learned_nothing_changes_nothing_and_another_does(run, tmp_path):
    unet = tiny_video_pipeline().unet
    parameters = add_lora(unet, rank=2)
    save_lora(unet, tmp_path / "new")
    for parameter in parameters:
        torch.nn.init.normal_(parameter)
    save_lora(unet, tmp_path / "learned")
    plain = run()[0].read_bytes()
    assert run("--lora", tmp_path / "new", video="new.mp4")[0].read_bytes() == plain
    assert run("--lora", tmp_path / "new", tmp_path / "learned", video="both.mp4")[0].read_bytes() != plain


def test_chunks_change_no_more_than_rounding(run):
    expected = pixels(run()[0])
    chunked = pixels(run("--forward_chunking", 1, video="other.mp4")[0])
    assert (chunked - expected).abs().max() < 0.03


def test_the_network_is_conditioned_on_rate_motion_and_noise(run, monkeypatch):
    seen, forward = [], UNetSpatioTemporalConditionModel.forward

    def listen(self, sample, timestep, embeddings, added_time_ids, **options):
        seen.extend(added_time_ids.tolist())
        return forward(self, sample, timestep, embeddings, added_time_ids, **options)

    monkeypatch.setattr(UNetSpatioTemporalConditionModel, "forward", listen)
    given = ["--fps", 8, "--motion_bucket_id", 60, "--noise_aug_strength", 0.5]
    run(*given)
    assert seen == [[7, 60, 0.5]] * 2
    run(*given, "--negative_motion_bucket_id", 5, video="other.mp4")
    assert seen[2:] == [[7, 5, 0.5], [7, 60, 0.5]]


def test_options_that_change_the_video_do(run):
    plain = run()[0].read_bytes()
    for option in (
        ["--noise_aug_strength", 0.5],
        ["--max_guidance_scale", 8],
        ["--temporal_smoothing", 0.5],
        ["--motion_scale", 2],
        ["--decode_chunk_size", 1],
    ):
        assert run(*option, "--overwrite", video="other.mp4")[0].read_bytes() != plain, option


def test_what_exists_is_kept_without_overwrite(run):
    (path,) = run()
    with pytest.raises(FileExistsError, match="out.mp4 exists"):
        run("--seed", 1)
    before = path.read_bytes()
    run("--seed", 1, "--overwrite")
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": ("none.png",)}, "There is no image .*none.png"),
        ({"image": ("a.png", "b.png")}, "one file for 2 images: name a folder"),
        ({"image": ("a.png", "a.png"), "video": "folder"}, "videos of one name"),
        ({"video": "out.avi"}, "neither a folder nor an .mp4 or .gif"),
        ({"video": "out.PNG"}, "neither a folder nor an .mp4 or .gif"),
        (
            {"options": ["--motion_bucket_id", 300]},
            "motion_bucket_id 300 is not allowed: pass a finite number from 0 to 255",
        ),
        (
            {"options": ["--negative_motion_bucket_id", -1]},
            "negative_motion_bucket_id -1 is not allowed: pass a finite number from 0 to 255",
        ),
        (
            {"options": ["--negative_motion_bucket_id", 5, "--max_guidance_scale", 1]},
            "pass a max_guidance_scale above 1",
        ),
        (
            {"options": ["--guidance_parallel", 0.5, "--max_guidance_scale", 1]},
            "--guidance_parallel 0.5 needs --max_guidance_scale above 1: pass that, or remove it",
        ),
        (
            {"options": ["--guidance_max_sigma", 9, "--max_guidance_scale", 0]},
            "--guidance_max_sigma 9 needs --max_guidance_scale above 1",
        ),
        ({"options": ["--min_guidance_scale", 2, "--max_guidance_scale", 1]}, "--min_guidance_scale 2 needs --max_gui"),
        (
            {"options": ["--noise_aug_strength", -1]},
            "noise_aug_strength -1 is not allowed: pass a finite number of 0 or more",
        ),
        ({"options": ["--fps", "0.0001"]}, "fps 0.0001 is no rate that .mp4 files hold: pass 0.01 to 1000"),
        ({"options": ["--fps", "100000"]}, "fps 100000 is no rate that .mp4 files hold"),
        ({"options": ["--fps", "60"], "video": "out.gif"}, "fps 60 is no rate that .gif files hold"),
        ({"options": ["--fps", "nan"]}, "fps nan"),
        (
            {"options": ["--model_dir", shipped("tiny_sd")]},
            "is a Stable Diffusion base .*; a Stable Video Diffusion base",
        ),
        (
            {"options": ["--lora", shipped("flow_video")]},
            "--lora .* is a joint adapter .*; a LoRA of train_svd.py is needed",
        ),
        ({"options": ["--num_frames", 1]}, "num_frames 1 is no video"),
        ({"options": ["--overlap_frames", 2]}, "pass --total_frames"),
        ({"options": ["--total_frames", 3]}, "total_frames 3 is less than a segment of 4"),
        ({"options": ["--total_frames", 9, "--overlap_frames", 4]}, "overlap_frames 4 is not allowed: pass 1 to 3"),
        ({"options": ["--height", 33]}, "height 33 is not a multiple of 8"),
        ({"options": ["--vae_tiling"]}, "AutoencoderKLTemporalDecoder has none"),
        ({"options": ["--offload", "group"]}, "offload group is for an accelerator"),
        ({"options": ["--device", "nothing"]}, "device nothing is not available"),
        ({"options": ["--model_dir", "nowhere"]}, "nowhere is neither a model folder"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(run, arguments, message, tmp_path):
    options = arguments.pop("options", [])
    with pytest.raises((ValueError, OSError), match=message) as refused:
        run(*options, **arguments)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("out*"))


def test_a_file_in_the_place_of_a_folder_and_the_reverse_are_left_alone(run, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match="taken is a file"):
        run("--overwrite", video="taken")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(FileExistsError, match="folder.mp4 exists"):
        run("--overwrite", video="folder.mp4")


def test_a_file_that_is_no_image_is_refused_before_any_work(run, images):
    (images / "b.png").write_text("no image")
    with pytest.raises(ValueError, match="b.png cannot be read as an image"):
        run(image=("",), video="all")


def test_a_lora_of_flow_is_distinguished_from_one_of_videos(run, tiny_svd, tmp_path):
    add_lora(tiny_svd.unet, 2)
    save_lora(tiny_svd.unet, tmp_path / "flow", training=FlowCode().to_training())
    with pytest.raises(
        ValueError, match="is a LoRA that makes Stable Video Diffusion generate optical flow; a LoRA of"
    ):
        run("--lora", tmp_path / "flow")


def test_a_video_never_replaces_the_image_that_it_is_made_of(run, images, tmp_path):
    Image.open(images / "a.png").save(tmp_path / "a.gif")
    before = (tmp_path / "a.gif").read_bytes()
    with pytest.raises(ValueError, match="would replace .*a.gif, which is read"):
        run("--overwrite", image=(tmp_path / "a.gif",), video="a.gif")
    assert (tmp_path / "a.gif").read_bytes() == before


def test_the_record_beside_a_video_says_what_made_it(run, model_dir):
    (path,) = run("--seed", 3)
    record = json.loads(path.with_name("out.mp4.json").read_text())
    assert "--seed 3" in record["command"] and record["seed"] == 3 and record["files"] == ["out.mp4"]
    assert len(record["weights"][str(model_dir)]) == 3 and record["seconds"] >= 0
    assert {"torch", "diffusers", "duet"} <= record["versions"].keys()


def test_a_photograph_for_the_small_model_is_warned_of_once(shared_media, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.messages.notices._said", set())
    images = [str(shared_media / name) for name in ("bench_dog.png", "davis_0.jpg")]
    main(
        ["--input_image", *images, "--output_video", str(tmp_path / "out"), "--num_inference_steps=1", "--num_frames=2"]
    )
    said = [line for line in capsys.readouterr().err.splitlines() if "does not look like" in line]
    assert len(said) == 1 and "--model_dir stabilityai/stable-video-diffusion-img2vid-xt" in said[0]


@pytest.mark.slow
def test_two_processes_write_together_what_one_writes(run, model_dir, images, tmp_path):
    alone = run(image=("",), video="alone")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", "run_models/run_svd.py", "--model_dir", model_dir]
    command += ["--input_image", images, "--output_video", tmp_path / "together", *SIZE]
    command += ["--num_inference_steps", "1", "--num_frames", "4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [str(part) for part in command], check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    together = sorted((tmp_path / "together").glob("*.mp4"))
    assert [path.name for path in together] == [path.name for path in alone]
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]


LONG = "x" * 251 + ".png"


def test_a_record_whose_name_would_be_too_long_is_refused_before_any_work(run, images, tmp_path, monkeypatch):
    (images / "a.png").rename(images / LONG)
    monkeypatch.setattr("run_models.run_svd.load_pipeline", lambda *_: pytest.fail("loaded"))
    for folder in (images, images / LONG):
        with pytest.raises(ValueError, match=r"xx… has 260 bytes, and a name in .*videos 255 at most: shorten"):
            run(image=[folder], video="videos")
    assert not (tmp_path / "videos").exists()


def test_a_folder_is_read_in_natural_order_without_leftovers(images):
    (images / "a.png").rename(images / "img_10_32x32.PNG")
    (images / "b.png").rename(images / "img_9_32x32.png")
    for name in ("._c.png", ".DS_Store", "Thumbs.db", "c.png~"):
        (images / name).write_bytes(b"no image")
    assert [path.name for path in list_images(images)] == ["c.png", "img_9_32x32.png", "img_10_32x32.PNG"]
