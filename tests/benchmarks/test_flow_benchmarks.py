"""The measurements of optical flow, on small inputs."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from benchmarks import bench_unimatch, eval_flow
from benchmarks.flow_tasks import compare
from utils.flow import write_flo


@pytest.fixture
def vae(tmp_path):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, **blocks).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def frames(tmp_path):
    """Two images of which the second is the first moved right by 2 px, and that flow."""
    x = np.arange(64)
    waves = [np.sin((x - shift) * 0.4)[None] * np.cos(x * 0.3)[:, None] for shift in (0, 2)]
    for name, wave in zip("ab", waves, strict=True):
        picture = (wave * 100 + 128).astype(np.uint8)
        Image.fromarray(np.stack([picture] * 3, axis=-1)).save(tmp_path / f"{name}.png")
    write_flo(tmp_path / "truth.flo", np.stack([np.full((64, 64), 2.0), np.zeros((64, 64))]).astype(np.float32))
    return [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "truth.flo"


def test_the_evaluation_writes_a_table_with_known_rows_and_images(vae, frames, read, tmp_path):
    (first, second), truth = frames
    options = ["--vae", vae, "--frames", first, second, "--flow_gt", truth, "--output_dir", tmp_path / "out"]
    options += ["--num_clips", 2, "--num_frames", 3, "--resolution", 32]
    eval_flow.main([*map(str, options)])
    rows = read(tmp_path / "out")
    assert rows["photographs: no motion"]["epe"] == pytest.approx(2)
    assert rows["photographs: dis medium"]["epe"] < 0.8
    assert rows["flow image: linear, float32"]["worst"] < 1e-4
    assert rows["flow image: linear, 8 bits"]["worst"] <= 16 / 255 * 2**0.5 + 1e-4
    assert Image.open(tmp_path / "out" / "photographs.png").size == (5 * 64, 64)
    assert Image.open(tmp_path / "out" / "clips.png").size == (7 * 32 * 3, 2 * 32 * 3)


def test_a_row_measures_known_pixels_only():
    truth = torch.zeros(2, 2, 2)
    truth[:, 0, 0] = float("nan")
    estimate = torch.zeros(2, 2, 2)
    estimate[0, 1, 1] = 6.0
    row = compare("task", "method", estimate, truth)
    assert (row.mean, row.worst, row.outliers) == (pytest.approx(2), 6, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--frames", "a.png", "b.png"], ValueError, "belong together"),
        (["--num_frames", "1"], ValueError, "--num_frames 1"),
        (["--checkpoint", "none.pth"], FileNotFoundError, "no file none.pth"),
        (["--reference_dir", "none"], FileNotFoundError, "no --reference_dir file none/golden.npz"),
    ],
)
def test_what_would_fail_later_fails_at_once(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        eval_flow.main(["--output_dir", str(tmp_path / "out"), *options])


def test_sizes_that_do_not_fit_are_named_before_any_measurement(tmp_path, frames):
    (first, second), truth = frames
    Image.new("RGB", (48, 32)).save(second)
    flags = ["--output_dir", tmp_path / "out", "--frames", first, second, "--flow_gt", truth]
    with pytest.raises(ValueError, match="of 64x64, 48x32, 64x64 pixels"):
        eval_flow.read_photographs(eval_flow.parser().parse_args([*map(str, flags)]))
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, **blocks).save_pretrained(tmp_path / "halving")
    with pytest.raises(ValueError, match="--resolution 33: the autoencoder .*halving takes multiples of 2"):
        eval_flow.main(
            [*map(str, ["--output_dir", tmp_path / "out", "--vae", tmp_path / "halving"]), "--resolution=33"]
        )


PUBLISHED = """
from .inner import Inner

class UniMatch(Inner):
    pass
"""
INNER = """
import torch
import unimatch

class Inner(unimatch.UniMatch):
    def forward(self, *images, **settings):
        return {"flow_preds": [super(Inner, self).forward(*images, **settings)["flow_preds"][-1] + 1]}
"""


def test_the_published_code_is_imported_beside_ours_and_compared(read, tmp_path):
    package = tmp_path / "checkout" / "unimatch"
    package.mkdir(parents=True)
    (package / "unimatch.py").write_text(PUBLISHED)
    (package / "inner.py").write_text(INNER)
    options = ["--reference_repo", package.parent, "--configurations", "scale1", "--size", 32, 32, "--repeats", 1]
    bench_unimatch.main([*map(str, options), "--output_path", str(tmp_path / "bench.json")])
    rows = read(tmp_path, "bench.json")
    assert list(rows) == ["scale1, one way", "scale1, both ways"]
    assert rows["scale1, one way"]["mean_difference_px"] == pytest.approx(2**0.5, abs=1e-3)
    assert rows["scale1, one way"]["reference_s"] > 0


def test_a_missing_checkout_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="--reference_repo is a checkout"):
        bench_unimatch.main(["--reference_repo", str(tmp_path)])


def test_a_size_that_a_later_configuration_does_not_take_is_refused_at_once():
    with pytest.raises(ValueError, match="--size 48 64: both have to be multiples of 32"):
        bench_unimatch.main(["--size", "48", "64", "--configurations", "scale1", "scale2"])
