"""The script that draws videos along tracks: its files, its options, its refusals."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from run_models.run_trajectory import main, own_sampling, parser
from utils.diffusion.sampling import SAMPLING_FILE, parse_sampling_args
from utils.flow.files import read_flo
from utils.pretrained import shipped
from utils.tracks.drawing import LEGEND_HEIGHT, OBTAINED, WANTED, draw_paths, track_sheet
from utils.video import index_frames

F, SIZE = 4, 32


@pytest.fixture
def run(video_folders, image, tracks, tmp_path):
    """Runs the command on a random image and a drag to the right, and returns the files."""

    def call(*flags, image=image, tracks=tracks, out="out", size=(SIZE, SIZE), weights="adapter"):
        fixed = [
            "--model_dir", video_folders / "model", f"--{weights}", video_folders / weights, "--device", "cpu",
            "--num_inference_steps", 1, "--input_image", image, "--tracks", tracks, "--output_dir", tmp_path / out,
            "--height", size[0], "--width", size[1],
            "--method", "coarse" if weights == "adapter" else "controlnet",
        ]  # fmt: skip
        return main([str(flag) for flag in [*fixed, *flags]])

    return call


@pytest.mark.parametrize("flags", [[], ["--method", "guided"], ["--method", "guided", "--guidance", "replace"]])
def test_a_drag_becomes_a_video_with_its_flow_and_an_image_of_its_ways(run, tmp_path, capsys, flags):
    files = run(*flags)
    assert sorted(path.name for path in files) == [
        "flow.mp4", "flow.png", "flow_000.flo", "flow_001.flo", "flow_002.flo", "tracks.png", "video.mp4",
    ]  # fmt: skip
    assert all(path.is_file() for path in files)
    assert len(index_frames(tmp_path / "out/video.mp4")) == F
    assert Image.open(tmp_path / "out/tracks.png").size == ((F + 1) * 256, 256 + LEGEND_HEIGHT)
    said = capsys.readouterr().out
    assert "Found in the video by optical flow: 1 dragged point, " in said and "1 static point, " in said
    assert "3 flows" in said


def test_a_controlnet_draws_the_same_files_and_one_that_learned_nothing_leaves_the_base(run, tmp_path):
    files = run(weights="controlnet")
    assert {path.name for path in files} >= {"video.mp4", "tracks.png", "flow_000.flo", "flow.png"}
    run("--conditioning_scale", 0, weights="controlnet", out="base")
    assert (tmp_path / "out/video.mp4").read_bytes() == (tmp_path / "base/video.mp4").read_bytes()


def test_the_weights_of_a_method_have_defaults_of_their_own(video_folders):
    folder, given = video_folders / "adapter", ["--input_image", "a.png", "--tracks", "a.json", "--output_dir", "out"]
    (folder / SAMPLING_FILE).write_text('{"eta": 0.5}')
    flags = [*given, "--adapter", str(folder), "--controlnet", str(video_folders / "controlnet")]
    found = [parse_sampling_args(parser(), [*flags, *more], own_sampling).eta for more in ([], ["--eta", "0.2"])]
    (folder / SAMPLING_FILE).unlink()
    controlnet = parse_sampling_args(parser(), [*flags, "--method", "controlnet"], own_sampling)
    assert found == [0.5, 0.2] and controlnet.eta == 0


@pytest.mark.parametrize(("method", "weights"), [("coarse", "controlnet"), ("controlnet", "adapter")])
def test_a_method_that_lacks_its_weights_is_refused(run, method, weights):
    with pytest.raises(ValueError, match=f"--{weights} applies to --method .*; remove it or change --method {method}"):
        run("--method", method, weights=weights)


def test_a_guess_that_is_kept_moves_the_point_as_asked(run, tmp_path):
    run("--flow_strength", 0)
    flows = [read_flo(tmp_path / f"out/flow_{k:03d}.flo") for k in range(F - 1)]
    for k, flow in enumerate(flows):
        assert flow[:, 8, 8 + 3 * k].tolist() == [3, 0]
        assert flow[:, 24, 20].tolist() == [0, 0]


def test_a_camera_alone_is_enough(run, tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"camera": {"preset": "tilt_up", "speed": 1.5}}))
    run("--flow_strength", 0, tracks=path)
    for k in range(F - 1):
        assert np.allclose(read_flo(tmp_path / f"out/flow_{k:03d}.flo"), np.array([0, 1.5])[:, None, None])
    assert (tmp_path / "out/tracks.png").is_file()


def test_checkpointing_computes_parts_of_unet_and_decoder_again_and_changes_nothing(run, tmp_path, monkeypatch):
    kept, original = [], torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        torch.utils.checkpoint,
        "checkpoint",
        lambda function, *args, **options: kept.append(function.__self__) or original(function, *args, **options),
    )
    run("--method", "guided", out="plain")
    assert not kept
    run("--method", "guided", "--gradient_checkpointing", out="saving")
    names = {type(module).__name__ for module in kept}
    assert "SpatioTemporalResBlock" in names and "UpBlockTemporalDecoder" in names
    for k in range(F - 1):
        plain, saving = (read_flo(tmp_path / name / f"flow_{k:03d}.flo") for name in ("plain", "saving"))
        assert np.allclose(plain, saving, atol=1e-3)


def test_a_published_image_with_its_array_goes_through(run, shared_media, tmp_path):
    image, tracks = shared_media / "traj28_img.png", shared_media / "traj28.npy"
    with pytest.raises(ValueError, match="--tracks_layout box"):
        run(image=image, tracks=tracks, size=(40, 72))
    for method in ("coarse", "guided"):
        run("--tracks_layout", "box", "--method", method, image=image, tracks=tracks, size=(40, 72), out=method)
        assert len(list((tmp_path / method).glob("*.flo"))) == F - 1


def test_wanted_and_obtained_ways_are_drawn_in_their_colours_up_to_the_frame():
    frame = np.zeros((64, 64, 3), np.uint8)
    wanted = torch.tensor([[[10.0, 20.0]], [[40.0, 20.0]]])
    picture = draw_paths(frame, wanted, wanted + torch.tensor([0.0, 30.0]))
    for row, color in ((20, WANTED), (50, OBTAINED)):
        assert picture[row, 25] == pytest.approx(np.array(color), abs=25)  # lines are antialiased
    assert (frame == 0).all()
    assert (draw_paths(frame, wanted[:1])[:, 20:] == 0).all()
    sheet = track_sheet(np.zeros((2, 256, 256, 3), np.uint8), wanted)
    assert sheet.size == (3 * 256, 256 + LEGEND_HEIGHT)
    whole, first, second = (np.asarray(sheet)[:256, i * 256 : (i + 1) * 256] for i in range(3))
    assert (whole == second).all() and (first != whole).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "guided", "--guidance_steps", 2], "guidance_steps 2 is not allowed"),
        (["--method", "guided", "--guidance_strength", -1], "guidance_strength -1 is not allowed"),
        (
            ["--method", "guided", "--flow_strength", 0.3],
            "--flow_strength applies to --method coarse; remove it or change --method guided",
        ),
        (["--flow_strength", 1.5], "flow_strength 1.5 is not allowed"),
        (
            ["--method", "coarse", "--flow_guidance_scale", 1.5],
            "--flow_guidance_scale 1.5 applies to flow that is sampled before its video",
        ),
        (["--method", "guided", "--reach", 3], "--reach 3 applies to a camera, and .*tracks.json has none: remove it"),
        (["--flow_solver_order", 1], "--flow_solver_order 1 needs --flow_strength above 0"),
        (["--tracks_layout", "box"], "--tracks_layout box needs --tracks of an .npy"),
        (["--negative_motion_bucket_id", 256], "negative_motion_bucket_id 256 is not allowed"),
        (["--fps", "100000"], "fps 100000 is no rate"),
        (["--model_dir", shipped("tiny_sd")], "--model_dir .* is a Stable Diffusion base"),
        (
            ["--adapter", shipped("trajectory")],
            "--adapter .* is a ControlNet .*; a joint adapter of train_flow_video.py",
        ),
        (["--tracks", "none.json"], "no file of tracks none.json"),
        (["--input_image", "none.png"], "none.png"),
        (["--motion_bucket_id", 300], "motion_bucket_id 300"),
        (["--height", 33], "--height 33 is not a multiple of 8, as the model needs: pass 32, say"),
        (["--device", "nothing"], "device nothing"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence_before_anything_is_written(run, tmp_path, flags, message):
    with pytest.raises((ValueError, OSError), match=message) as refused:
        run(*flags)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place", ["tiny_svd", "tiny_sd", "flow_video", "judges", "tiny_svd/unet", "tiny_svd/model_index.json"]
)
def test_a_controlnet_of_another_kind_is_refused_with_what_it_is(run, place):
    with pytest.raises(ValueError, match="is .*; a ControlNet for Stable Video Diffusion is needed") as refused:
        run("--controlnet", shipped(place), weights="controlnet")
    assert str(refused.value).startswith(f"--controlnet {shipped(place)} is ")


@pytest.mark.parametrize("method", ["coarse", "guided", "controlnet"])
def test_what_is_said_and_plotted_of_the_paths_is_found_in_the_video(run, tmp_path, capsys, monkeypatch, method):
    seen = []

    def find(video, points):
        seen.append((video.shape, points.tolist()))
        return points.expand(F, -1, -1) + torch.tensor([0.0, 3.0])

    monkeypatch.setattr("run_models.run_trajectory.find_paths", find)
    run("--method", method, weights="controlnet" if method == "controlnet" else "adapter")
    assert seen == [((F, 3, SIZE, SIZE), [[8, 8], [20, 24]])]
    assert "1 static point, 3.00 pixels" in capsys.readouterr().out
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["path_errors"]["static"] == [1, 3.0] and record["path_errors"]["dragged"][0] == 1
    sheet = np.asarray(Image.open(tmp_path / "out/tracks.png"))[:256, :256]
    scale, middle = 256 // SIZE, 3.5  # the middle of a pixel of the video is there in its 8 x 8
    x, y = round(20 * scale + middle), round(27 * scale + middle)
    around = sheet[y - 8 : y + 9, x - 8 : x + 9]
    assert (np.abs(around.astype(int) - OBTAINED).max(axis=-1) < 80).any()


def test_a_record_says_what_made_the_files(run, tmp_path, video_folders):
    files = run("--seed", 2)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["seed"] == 2 and record["frames"] == F
    assert sorted(record["files"]) == sorted(path.name for path in files)
    assert set(record["weights"]) == {str(video_folders / name) for name in ("model", "adapter")}


def test_what_exists_is_kept_without_overwrite(run):
    run()
    with pytest.raises(FileExistsError, match="--overwrite"):
        run()
    run("--overwrite")


def test_no_flow_of_a_longer_video_stays_among_those_of_a_shorter_one(run, tmp_path):
    run()
    (tmp_path / "out" / "flow_mine.flo").write_bytes(b"kept")
    run("--overwrite", "--num_frames", 2)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.flo")) == ["flow_000.flo", "flow_mine.flo"]


def test_a_reach_is_refused_where_the_image_decides(run):
    with pytest.raises(ValueError, match="--reach 9 applies to --interpolation distance"):
        run("--reach", 9)
    run("--reach", 9, "--interpolation", "distance")


@pytest.mark.parametrize("method", [[], ["--method=controlnet"], ["--method=guided"]])
def test_the_weights_that_come_along_draw_without_further_flags(method, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "tracks.json").write_text(json.dumps({"tracks": [[[20, 30], [40, 30]]]}))
    flags = {
        "input_image": tmp_path / "picture.png",
        "tracks": tmp_path / "tracks.json",
        "output_dir": tmp_path / "out",
    }
    files = main(
        [f"--{name}={value}" for name, value in flags.items()] + [*method, "--num_inference_steps=1", "--device=cpu"]
    )
    assert (tmp_path / "out/video.mp4") in files


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            [1e30, 8],
            r"has a point at \(1e\+30, 8\) in pixels of the image, far outside of its 32x32: pass points up to 320",
        ),
        ([400, 8], r"has a point at \(400, 8\) in pixels of the image, far outside"),
        (
            [200, 8],
            "The motion reaches 64 pixels from one frame to the next and the adapter's flow holds 16: take more",
        ),
    ],
)
def test_tracks_that_no_video_can_follow_are_refused_before_the_base_is_loaded(run, tracks, monkeypatch, end, message):
    monkeypatch.setattr("run_models.run_trajectory.load_drag_pipeline", lambda *values: pytest.fail("loaded"))
    tracks.write_text(json.dumps({"tracks": [[[8, 8], end]]}))
    with pytest.raises(ValueError, match=message):
        run()
