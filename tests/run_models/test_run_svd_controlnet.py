"""The script that samples videos along controls: its files, what it reads and computes, its refusals."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from models.svd_controlnet import ControlNetSVD
from run_models.run_svd_controlnet import main
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.depth import write_depth
from utils.diffusion.sampling import SAMPLING_FILE
from utils.edges import canny_edges
from utils.flow.files import write_flo
from utils.pretrained import shipped
from utils.video import index_frames, read_video, to_pixels, write_video

F, SIZE = 4, 32
KINDS = ("depth", "segmentation", "edge", "flow", "folder")


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """From a kind to the folder of a ControlNet that acts."""
    folder = tmp_path_factory.mktemp("controlnets")
    unet = tiny_video_pipeline().unet
    for seed, kind in enumerate(KINDS):
        net = ControlNetSVD.from_unet(unet, 3, 4, kind)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in net.named_parameters():
            if name.startswith("controlnet_"):
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        net.save_pretrained(folder / kind)
    return folder


@pytest.fixture(scope="module")
def frames():
    """A bright square on a dark ground that moves 2 pixels a frame to the right; uint8 (6, 32, 32, 3)."""
    frames = np.full((6, SIZE, SIZE, 3), 40, np.uint8)
    for k, frame in enumerate(frames):
        frame[10:22, 4 + 2 * k : 16 + 2 * k] = (220, 160, 40)
    return frames


@pytest.fixture
def clip(frames, tmp_path):
    write_video(tmp_path / "clip.mp4", frames, fps=8, crf=0)
    return tmp_path / "clip.mp4"


@pytest.fixture
def run(video_folders, nets, image, tmp_path):
    """run(kind=path, …): runs the command, with the ControlNet of each kind, and returns the files."""

    def call(*flags, image=image, out="out", size=SIZE, controlnets=None, **controls):
        given = [part for kind, path in controls.items() for part in ("--control", f"{kind}={path}")]
        fixed = [
            "--model_dir", video_folders / "model", "--device", "cpu", "--num_inference_steps", 2, "--height", size,
            "--width", size, "--input_image", image, "--output_dir", tmp_path / out,
            "--controlnet", *(controlnets or [nets / kind for kind in controls]),
        ]  # fmt: skip
        return main([str(flag) for flag in [*fixed, *given, *flags]])

    return call


def write_images(folder, frames):
    folder.mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{k}.png")
    return folder


def sheet(folder):
    """Rows of frames (R, F, H, W, 3)."""
    values = np.asarray(Image.open(folder / "frames.png"))
    return values.reshape(-1, SIZE, F, SIZE, 3).swapaxes(1, 2)


def test_a_control_becomes_a_video_a_sheet_and_a_record(run, frames, tmp_path, capsys):
    labels = write_images(tmp_path / "labels", frames)
    files = run(segmentation=labels)
    assert sorted(path.name for path in files) == ["frames.png", "video.mp4"]
    assert len(index_frames(tmp_path / "out/video.mp4")) == F
    assert (sheet(tmp_path / "out")[0] == frames[:F]).all()
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["controls"] == {"segmentation": f"the images of {labels}, as segmentation"}
    assert record["frames"] == F and any("segmentation" in name for name in record["weights"])
    assert "the first 4 of 6 frames" in capsys.readouterr().out


def test_a_controlnet_may_have_defaults_of_its_own(run, nets, frames, tmp_path):
    labels = write_images(tmp_path / "labels", frames)
    own = nets / "segmentation" / SAMPLING_FILE
    own.write_text('{"eta": 0.5}')
    run(segmentation=labels)
    own.unlink()
    assert json.loads((tmp_path / "out/run.json").read_text())["arguments"]["eta"] == 0.5


def test_what_is_read_and_what_is_computed_is_said(run, clip, frames, tmp_path, capsys):
    run(edge=clip, out="found")
    assert f"edge: Canny edges, found in the frames of {clip}" in capsys.readouterr().out
    video = read_video(clip, num_frames=F).pixels
    edges = torch.stack([canny_edges(frame) for frame in video])
    assert np.allclose(to_pixels(sheet(tmp_path / "found")[0]), edges, atol=0.01)
    images = write_images(tmp_path / "edges", sheet(tmp_path / "found")[0])
    run(edge=images, out="read")
    assert "which are black and white, as edges" in capsys.readouterr().out
    assert (sheet(tmp_path / "read") == sheet(tmp_path / "found")).all()
    run(flow=clip, out="flow")
    assert f"flow: optical flow, estimated by DIS from the frames of {clip}" in capsys.readouterr().out
    map_ = to_pixels(sheet(tmp_path / "flow")[0])
    assert (map_[:, 2] == 1).all() and torch.equal(map_[-1], map_[-2])
    assert map_[0, 0, 16, 12] == pytest.approx((2 / 8) ** 0.5, abs=0.1)  # 2 of at most 8 pixels


def test_flow_files_are_read_as_they_are(run, tmp_path, capsys):
    (tmp_path / "flow").mkdir()
    for k in range(F - 1):
        write_flo(tmp_path / f"flow/{k}.flo", np.stack([np.full((SIZE, SIZE), 2.0), np.zeros((SIZE, SIZE))]))
    run(flow=tmp_path / "flow")
    assert "the flow in" in capsys.readouterr().out
    map_ = to_pixels(sheet(tmp_path / "out")[0])
    assert torch.allclose(map_[:, 0], torch.tensor(0.5), atol=0.01) and map_[:, 1].abs().max() < 0.01


def test_depth_of_files_in_metres_is_shown_nearest_white(run, tmp_path):
    (tmp_path / "depth").mkdir()
    for k in range(F):
        metres = np.full((SIZE, SIZE), 4.0, np.float32)
        metres[:, : 4 + k] = 1
        write_depth(tmp_path / f"depth/{k}.png", metres)
    run(depth=tmp_path / "depth")
    row = sheet(tmp_path / "out")[0]
    assert (row[0, :, :4] == 255).all() and (row[0, :, 4:] == 0).all() and (row[3, :, :7] == 255).all()


def test_several_controls_act_each_by_its_scale_and_in_its_steps(run, clip, tmp_path):
    both = {"edge": clip, "flow": clip}
    run(**both, out="both")
    assert sheet(tmp_path / "both").shape[0] == 3
    run("--controlnet_conditioning_scale", 1, 0, **both, out="first")
    run(edge=clip, out="edge")
    assert (sheet(tmp_path / "first")[-1] == sheet(tmp_path / "edge")[-1]).all()
    assert (sheet(tmp_path / "both")[-1] != sheet(tmp_path / "edge")[-1]).any()
    run("--control_guidance_start", 0, 0.9, **both, out="late")  # of two steps the second begins at a half
    assert (sheet(tmp_path / "late")[-1] == sheet(tmp_path / "edge")[-1]).all()
    run("--control_guidance_end", 1, 0.5, **both, out="early")
    assert (sheet(tmp_path / "early")[-1] != sheet(tmp_path / "both")[-1]).any()


def test_a_controlnet_that_learned_nothing_leaves_the_base_as_it_is(run, clip, tmp_path):
    ControlNetSVD.from_unet(tiny_video_pipeline().unet, 3, 4, "edge").save_pretrained(tmp_path / "start")
    run(edge=clip, controlnets=[tmp_path / "start"], out="new")
    run("--controlnet_conditioning_scale", 0, edge=clip, out="base")
    assert (tmp_path / "new/video.mp4").read_bytes() == (tmp_path / "base/video.mp4").read_bytes()


def test_a_real_clip_leads_the_video(run, shared_media, tmp_path, capsys):
    clip = shared_media / "wolf.mp4"
    frame = Image.fromarray(((read_video(clip, num_frames=1).pixels[0] + 1) * 127.5).byte().permute(1, 2, 0).numpy())
    frame.convert("RGBA").save(tmp_path / "wolf.png")
    run(edge=clip, flow=clip, image=tmp_path / "wolf.png")
    assert "Canny edges" in capsys.readouterr().out
    run("--controlnet_conditioning_scale", 0, edge=clip, flow=clip, image=tmp_path / "wolf.png", out="base")
    assert sheet(tmp_path / "out")[0].any() and (sheet(tmp_path / "out")[-1] != sheet(tmp_path / "base")[-1]).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_frames", 7], r"--control edge=.* has 6 frames and the video 7 frames: lower --num_frames"),
        (["--control", "depth"], "--control depth: pass NAME=PATH, NAME depth, segmentation"),
        (["--control", "pose=x"], "--control pose=x: pass NAME=PATH"),
        (["--control", "flow=none"], "2 controls and 1 ControlNet: pass one each"),
        (["--controlnet_conditioning_scale", 1, 1], "scale has 2 values for 1 ControlNet"),
        (["--control_guidance_start", 0.5, "--control_guidance_end", 0.5], "acts from 0.5 to 0.5"),
        (["--controlnet", "weights/tiny_svd"], "is a Stable Video Diffusion base .*; a ControlNet .* is needed"),
        (["--controlnet", shipped("trajectory")], "reads an unnamed control of 8 channels, not edge"),
        (["--input_image", "none.png"], "none.png"),
        (["--motion_bucket_id", 300], "motion_bucket_id 300"),
        (["--guide_control", "--max_guidance_scale", 1], "--guide_control needs --max_guidance_scale above 1"),
        (["--guidance_min_sigma", 1, "--max_guidance_scale", 1], "--guidance_min_sigma 1 needs --max_guidance_scale"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence_before_anything_is_written(run, clip, tmp_path, flags, message):
    with pytest.raises((ValueError, OSError), match=message) as refused:
        run(*flags, edge=clip)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_controls_that_do_not_fit_are_refused(run, nets, clip, frames, image, tmp_path, monkeypatch):
    wide = write_images(tmp_path / "wide", frames[:, :16])
    with pytest.raises(ValueError, match=re.escape(f"edge={wide} is 32x16 and --input_image {image} 32x32: crop one")):
        run(edge=wide)
    with pytest.raises(FileNotFoundError, match="no video and no folder of images nowhere"):
        run(edge="nowhere")
    with pytest.raises(ValueError, match="reads depth, not edge"):
        run(edge=clip, controlnets=[nets / "depth"])
    with pytest.raises(FileNotFoundError, match="There are no weights for folder: pass --controlnet"):
        main(["--input_image", str(image), "--control", f"folder={wide}", "--output_dir", str(tmp_path / "out")])
    damaged = write_images(tmp_path / "damaged", frames)
    (damaged / "2.png").write_bytes(b"no image")
    monkeypatch.setattr("run_models.run_svd_controlnet.load", lambda *values: pytest.fail("loaded"))
    for kind in ("segmentation", "flow", "edge"):
        with pytest.raises(ValueError, match="2.png cannot be read as an image"):
            run(**{kind: damaged})
    coloured = write_images(tmp_path / "coloured", frames)
    with pytest.raises(ValueError, match="is coloured; a depth image has one channel"):
        run(depth=coloured)
