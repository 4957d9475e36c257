"""The commands that sample flow, alone and with its video: their inputs, their files, their refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from run_models import run_flow_video, run_svd_flow
from utils.flow.files import read_flo, write_flo
from utils.pretrained import shipped
from utils.video import index_frames, write_video

F, SIZE = 4, 32


@pytest.fixture
def run(video_folders, tmp_path):
    """Runs a mode on the tiny model, by default into out, and returns the folder."""

    def call(*flags, mode="joint", out="out"):
        fixed = ["--model_dir", video_folders / "model", "--adapter", video_folders / "adapter", "--mode", mode]
        fixed += ["--device", "cpu", "--num_inference_steps", 1, "--output_dir", tmp_path / out]
        run_flow_video.main([str(flag) for flag in [*fixed, *flags]])
        return tmp_path / out

    return call


@pytest.fixture
def run_flow(video_folders, image, tmp_path):
    """Runs run_svd_flow on the image."""

    def call(*flags, lora="lora"):
        fixed = ["--model_dir", video_folders / "model", "--lora", video_folders / lora, "--input_image", image]
        fixed += ["--device", "cpu", "--num_inference_steps", 1, "--output_dir", tmp_path / "out"]
        run_svd_flow.main([str(flag) for flag in [*fixed, "--height", SIZE, "--width", SIZE, *flags]])
        return tmp_path / "out"

    return call


@pytest.fixture
def clip(tmp_path):
    """A video of 96x48, 6 frames."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (12, 24, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    write_video(tmp_path / "clip.mp4", np.stack([np.roll(frame, k, axis=1) for k in range(6)]), fps=8)
    return tmp_path / "clip.mp4"


def write_flows(folder, size=(SIZE, SIZE), count=F - 1):
    folder.mkdir()
    for k in range(count):
        write_flo(folder / f"flow_{k}.flo", np.stack([np.full(size, 2.0), np.full(size, -1.0)]).astype(np.float32))
    return folder


def flows_in(folder):
    return [read_flo(path) for path in sorted(folder.glob("*.flo"))]


def test_a_video_is_read_at_the_models_own_size_and_number_of_frames_and_that_is_said(run, clip, capsys):
    out = run("--input_video", clip, mode="video_to_flow")
    assert {flow.shape for flow in flows_in(out)} == {(2, 48, 88)}  # as many pixels as 64x64
    assert len(flows_in(out)) == F - 1
    assert f"{clip}: 96x48 pixels are resized and cropped to 88x48." in capsys.readouterr().out
    out = run("--input_video", clip, "--height", 24, "--num_frames", 6, mode="video_to_flow", out="small")
    assert [flow.shape for flow in flows_in(out)] == [(2, 24, 48)] * 5


def test_a_folder_of_frames_is_a_video(run, clip, tmp_path):
    (tmp_path / "frames").mkdir()
    for k in range(3):
        Image.new("RGB", (64, 64), (80 * k, 0, 0)).save(tmp_path / f"frames/{k}.png")
    assert len(flows_in(run("--input_video", tmp_path / "frames", mode="video_to_flow"))) == 2


@pytest.mark.parametrize("mode", ["flow_to_video", "coarse"])
def test_a_single_flow_makes_a_video_of_two_frames(run, image, tmp_path, mode):
    path = write_flows(tmp_path / "flows") / "flow_0.flo"
    out = run("--input_image", image, "--input_flow", path, mode=mode)
    assert len(index_frames(out / "video.mp4")) == 2 and len(flows_in(out)) == 1


def test_annotations_are_flow(run, image, tmp_path):
    np.save(tmp_path / "clip.npy", np.ones((F - 1, 2, SIZE, SIZE), np.float16))
    out = run("--input_image", image, "--input_flow", tmp_path / "clip.npy", mode="flow_to_video")
    assert all((flow == 1).all() for flow in flows_in(out)) and len(flows_in(out)) == F - 1


def test_a_given_flow_keeps_its_size_and_is_resized_with_its_vectors_on_request(run, image, tmp_path):
    flows = write_flows(tmp_path / "flows")
    given = ["--input_image", image, "--input_flow", flows]
    assert np.array_equal(flows_in(run(*given, mode="flow_to_video")), flows_in(flows))
    smaller = flows_in(run(*given, "--height", 16, "--num_frames", 3, mode="flow_to_video", out="smaller"))
    assert [flow.shape for flow in smaller] == [(2, 16, 16)] * 2
    assert np.allclose(smaller, np.array([1, -0.5])[:, None, None])


def test_a_record_says_what_made_the_files(run, image, video_folders):
    out = run("--input_image", image, "--height", SIZE, "--width", SIZE, "--seed", 4)
    record = json.loads((out / "run.json").read_text())
    assert record["seed"] == 4 and record["frames"] == F and (record["height"], record["width"]) == (SIZE, SIZE)
    assert sorted([*record["files"], "run.json"]) == sorted(path.name for path in out.iterdir())
    assert set(record["weights"]) == {str(video_folders / "model"), str(video_folders / "adapter")}


def test_files_of_the_last_run_go_and_others_stay(run, image):
    side = ["--height", SIZE, "--width", SIZE]
    out = run("--input_image", image, *side)
    (out / "flow_mine.flo").write_bytes(b"kept")
    run("--input_image", image, *side, "--num_frames", 2, "--overwrite")
    assert sorted(path.name for path in out.glob("*.flo")) == ["flow_000.flo", "flow_mine.flo"]


def test_results_do_not_replace_what_they_are_made_of(run, image):
    out = run("--input_image", image, "--height", SIZE, "--width", SIZE)
    before = (out / "video.mp4").read_bytes()
    with pytest.raises(ValueError, match="video.mp4 is read and lies in --output_dir"):
        run("--input_video", out / "video.mp4", "--overwrite", mode="video_to_flow")
    assert (out / "video.mp4").read_bytes() == before


@pytest.mark.parametrize(
    ("mode", "flags", "message"),
    [
        (
            "joint",
            ["--input_video", "v.mp4", "--input_image", "a.png"],
            "--input_video applies to --mode video_to_flow;",
        ),
        ("flow_to_video", ["--input_image", "a.png"], "--mode flow_to_video needs --input_flow"),
        ("joint", [], "--mode joint needs --input_image"),
        ("coarse", ["--input_flow", "f", "--flow_strength", 0], "needs --input_image"),
        (
            "flow_to_video",
            ["--input_image", "a.png", "--input_flow", "f", "--flow_solver_order", 1],
            "--flow_solver_order applies to --mode joint, video_to_flow and coarse",
        ),
        (
            "video_to_flow",
            ["--input_video", "v.mp4", "--flow_first"],
            "--flow_first applies to --mode joint and coarse;",
        ),
        ("video_to_flow", ["--input_video", "v.mp4", "--flow_guidance_scale", 2], "--flow_guidance_scale applies to"),
        ("video_to_flow", ["--input_video", "v.mp4", "--max_guidance_scale", 2], "--max_guidance_scale applies to"),
        ("video_to_flow", ["--input_video", "v.mp4", "--solver_order", 2], "--solver_order applies to"),
        ("video_to_flow", ["--input_video", "v.mp4", "--still_threshold", 1], "--still_threshold applies to"),
        (
            "video_to_flow",
            ["--input_video", "v.mp4", "--flow_strength", 0.1],
            "--flow_strength applies to --mode coarse",
        ),
        ("video_to_flow", ["--input_video", "{still}"], "still has 1 frame, not 2: pass a longer video.$"),
        ("video_to_flow", ["--input_video", "{empty}"], "empty has no frame"),
        ("video_to_flow", ["--input_video", "none.mp4"], "There is no video and no folder of frames none.mp4"),
    ],
)
def test_flags_that_do_not_go_with_the_mode_are_refused(run, mode, flags, message, tmp_path, monkeypatch):
    monkeypatch.setattr(run_flow_video, "load", lambda *values: pytest.fail("loaded"))
    for name in ("still", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "still/0.png")
    flags = [str(flag).format(still=tmp_path / "still", empty=tmp_path / "empty") for flag in flags]
    with pytest.raises((ValueError, OSError), match=message):
        run(*flags, mode=mode)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--no-flow_first", "--flow_guidance_scale", 2],
            "applies to flow that is sampled before its video: remove it",
        ),
        (["--fps", 1e-4], "fps 0.0001 is no rate"),
        (["--model_dir", shipped("tiny_sd")], "--model_dir .* is a Stable Diffusion base"),
        (
            ["--adapter", shipped("depth_image")],
            "--adapter .* is a joint adapter .depth. .*train_flow_video.py is needed",
        ),
        (["--adapter", shipped("tiny_svd")], "--adapter .* is a Stable Video Diffusion base"),
        (["--device", "nothing"], "device nothing is not available"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(run, image, flags, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message) as refused:
        run("--input_image", image, *flags)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_flow_of_a_video_is_estimated_the_same_in_every_run(video_folders, clip, tmp_path):
    fixed = ["--mode", "video_to_flow", "--model_dir", video_folders / "model", "--input_video", clip]
    fixed += ["--adapter", video_folders / "one_step", "--device", "cpu", "--height", 24]
    flows = []
    for out in ("first", "second"):
        run_flow_video.main([str(flag) for flag in [*fixed, "--output_dir", tmp_path / out]])
        flows.append(flows_in(tmp_path / out))
    assert np.array_equal(*flows) and np.abs(flows[0]).max() > 0
    assert [flow.shape for flow in flows[0]] == [(2, 24, 48)] * (F - 1)
    assert len(index_frames(tmp_path / "first/pair.mp4")) == F - 1


@pytest.mark.parametrize(
    ("adapter", "flags", "message"),
    [
        ("one_step", ["--seed", 3], "--seed 3 applies to flow that is sampled, and .*one_step estimates it in one"),
        ("one_step", ["--num_inference_steps", 9], "--num_inference_steps 9 applies to flow that is sampled"),
        ("lora", [], "lora is a LoRA that was not trained with --objective one_step"),
    ],
)
def test_what_an_estimate_does_not_read_is_refused(video_folders, clip, tmp_path, adapter, flags, message):
    given = ["--mode", "video_to_flow", "--model_dir", video_folders / "model", "--input_video", clip]
    given += ["--adapter", video_folders / adapter, "--output_dir", tmp_path / "out", *flags]
    with pytest.raises(ValueError, match=message):
        run_flow_video.main([str(flag) for flag in given])


def test_each_mode_has_an_adapter_of_its_own():
    modes, parse = ("joint", "video_to_flow"), run_flow_video.parser().parse_args
    given = [run_flow_video.with_defaults(parse(["--mode", mode, "--output_dir", "out"])) for mode in modes]
    chosen = [args.adapter for args in given]
    assert chosen == [shipped("flow_video"), shipped("flow_video/one_step")]


def test_an_estimator_samples_nothing(run, image, video_folders):
    with pytest.raises(ValueError, match="is a LoRA that .*; a joint adapter of train_flow_video.py is needed"):
        run("--input_image", image, "--adapter", video_folders / "one_step")


def test_flow_of_0_is_another_mode(run, image, tmp_path):
    with pytest.raises(ValueError, match="--flow_strength 0 keeps the flow as it is: pass --mode flow_to_video"):
        run("--input_image", image, "--input_flow", tmp_path, "--flow_strength", 0, mode="coarse")


def test_flow_alone_has_its_files_and_record(run_flow, capsys):
    out = run_flow()
    names = ["flow.mp4", "flow.png", *(f"flow_{k:03d}.flo" for k in range(F - 1)), "run.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "run.json").read_text())["files"]
    assert "3 flows" in capsys.readouterr().out
    run_flow("--num_frames", 2, "--overwrite")
    assert "1 flow," in capsys.readouterr().out
    assert len(flows_in(out)) == 1


@pytest.mark.parametrize(
    ("lora", "flags", "scales"),
    [
        ("lora", [], (1.0, 1.0, None)),
        ("flow_first", [], (1.1, 1.1, 0)),
        ("flow_first", ["--max_guidance_scale", 1], (1.1, 1.0, None)),
        ("flow_first", ["--max_guidance_scale", 1.5, "--negative_motion_bucket_id", "none"], (1.1, 1.5, None)),
    ],
)
def test_a_joint_adapter_that_learned_flow_alone_brings_its_guidance(run_flow, lora, flags, scales):
    arguments = json.loads((run_flow(*flags, lora=lora) / "run.json").read_text())["arguments"]
    names = ("min_guidance_scale", "max_guidance_scale", "negative_motion_bucket_id")
    assert tuple(arguments[name] for name in names) == scales


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            "adapter",
            "--lora .*adapter has not learned flow alone: pass a joint adapter trained with --flow_alone_share above 0",
        ),
        ("model", "--lora .*model is a Stable Video Diffusion base"),
        (
            "none",
            "--lora .*none does not exist; a LoRA of train_svd_flow.py, or a joint adapter of",
        ),
        ("one_step", "--lora .*one_step estimates the flow of a video: pass it to run_flow_video.py"),
    ],
)
def test_weights_that_do_not_sample_flow_alone_are_refused(run_flow, lora, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_flow(lora=lora)
