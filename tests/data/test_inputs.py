"""Commands read clips and flow in all forms that the project writes."""

import numpy as np
import pytest
from PIL import Image

from tests.numbered_clips import H, W, numbered, numbers_of
from utils.data import annotate_flow
from utils.data.inputs import read_clip, read_steps
from utils.flow.files import write_flo, write_kitti
from utils.scenes.write_clips import main as write_clips
from utils.video import write_gif, write_video


def steps(count=3):
    """Flow k moves everything by (k, -k / 2)."""
    one = np.stack([np.ones((H, W), np.float32), np.full((H, W), -0.5, np.float32)])
    return np.stack([k * one for k in range(count)])


def write_frames(folder):
    folder.mkdir()
    for k, frame in enumerate(numbered()):
        Image.fromarray(frame).save(folder / f"frame_{k}.png")  # 10 comes after 9
    return folder


def test_a_video_a_gif_and_a_folder_of_frames_are_one_clip(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(), fps=8)
    write_gif(tmp_path / "a.gif", numbered(), fps=8)
    for path in (tmp_path / "a.mp4", tmp_path / "a.gif", write_frames(tmp_path / "frames")):
        assert numbers_of(read_clip(path)) == list(range(12))
        assert numbers_of(read_clip(path, num_frames=5)) == list(range(5))
        assert len(read_clip(path, at_most=8)) == 8 and len(read_clip(path, at_most=80)) == 12


def test_a_clip_that_is_missing_or_too_short_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no video and no folder of frames .*none"):
        read_clip(tmp_path / "none")
    folder = write_frames(tmp_path / "frames")
    with pytest.raises(ValueError, match="has 12 frames, not 13: pass a longer video or a smaller --num_frames"):
        read_clip(folder, num_frames=13)
    for path in list(folder.iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="has 1 frame, not 2"):
        read_clip(folder, at_most=8)


def test_a_folder_has_flow_of_one_kind(tmp_path):
    write_flo(tmp_path / "a.flo", steps()[1])
    np.save(tmp_path / "b.npy", steps()[2])
    with pytest.raises(ValueError, match="has flow as .flo and as .npy: leave the files of one kind there"):
        read_steps(tmp_path)


def test_single_files_folders_of_them_and_annotations_are_one_flow(tmp_path):
    flow = steps()
    (tmp_path / "flo").mkdir()
    (tmp_path / "npy").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "kitti").mkdir()
    for k, step in enumerate(flow):
        write_flo(tmp_path / f"flo/flow_{k}.flo", step)
        np.save(tmp_path / f"npy/flow_{k}.npy", step)
        write_kitti(tmp_path / f"kitti/flow_{k}.png", step)
    np.save(tmp_path / "one/clip.npy", flow.astype(np.float16))
    for path in ("flo", "npy", "kitti", "one", "one/clip.npy"):
        read = read_steps(tmp_path / path)
        assert read.shape == flow.shape and np.array_equal(read, flow), path
        assert len(read_steps(tmp_path / path, num_flows=2)) == 2
    for path in ("flo/flow_2.flo", "npy/flow_2.npy", "kitti/flow_2.png"):
        assert np.array_equal(read_steps(tmp_path / path), flow[2:]), path


def test_what_annotate_flow_and_write_clips_write_is_read(tmp_path):
    write_clips(
        ["--output_dir", str(tmp_path / "clips"), "--num_samples", "1", "--num_frames", "5", "--resolution", "32"]
    )
    (exact,) = (tmp_path / "clips/flow").iterdir()
    assert read_steps(exact).shape == (4, 2, 32, 32)
    assert read_clip(tmp_path / "clips/videos" / exact.stem).shape == (5, 3, 32, 32)
    flags = ["--train_data_dir", str(tmp_path / "clips"), "--backward"]
    annotate_flow.main([*flags, "--output_dir", str(tmp_path / "flow")])
    whole = read_steps(tmp_path / "flow")
    assert whole.shape == (4, 2, 32, 32)
    (file,) = (tmp_path / "flow/flow").rglob("*.npy")
    assert np.array_equal(whole, read_steps(file))
    with pytest.raises(ValueError, match="is flow back in time: pass the file in"):
        read_steps(next((tmp_path / "flow/backward_flow").rglob("*.npy")))
    annotate_flow.main([*flags, "--output_dir", str(tmp_path / "strided"), "--frame_stride", "2"])
    assert len(read_steps(tmp_path / "strided")) == 2  # from frame 0 to 2 and from 2 to 4


def test_flow_that_says_too_little_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no flow .*none"):
        read_steps(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no .flo, .npy or .png file with flow in"):
        read_steps(tmp_path)
    flow = steps(1)[0]
    flow[:, 0, :2] = np.nan
    write_flo(tmp_path / "a_0.flo", flow)
    with pytest.raises(ValueError, match="has 2 unknown vectors: fill them in"):
        read_steps(tmp_path / "a_0.flo")
    with pytest.raises(ValueError, match="has 1 step, not 3: pass a smaller --num_frames"):
        read_steps(tmp_path / "a_0.flo", num_flows=3)
    write_flo(tmp_path / "a_1.flo", flow[:, 1:])
    with pytest.raises(ValueError, match="a_1.flo is of another size than"):
        read_steps(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="a.txt holds no flow: pass .flo"):
        read_steps(tmp_path / "a.txt")


def test_a_folder_of_several_clips_asks_for_one(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", steps())
    with pytest.raises(ValueError, match="a.npy holds 3 steps, as .* holds several clips: pass one file"):
        read_steps(tmp_path)
