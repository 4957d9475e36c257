"""The images of docs/video_diffusion.md show what the formulas and the training say."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.draw_video_diffusion import density, main, preconditioning, read_sheets, sampling_levels
from utils.diffusion.edm import EDM


@pytest.fixture
def train_dir(tmp_path):
    """Sheets of two clips after 10 and 20 steps; every row has one gray of its own."""
    folder = tmp_path / "train/validation"
    folder.mkdir(parents=True)
    for step in (10, 20):
        rows = (step + np.arange(4, dtype=np.uint8)).repeat(64)
        Image.fromarray(np.broadcast_to(rows[:, None, None], (256, 512, 3)).copy()).save(
            folder / f"{step:06d}_samples.png"
        )
    return folder.parent


def test_curves_are_those_of_the_formulas():
    sigma = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    values = preconditioning(sigma)
    torch.testing.assert_close(values["c_skip"], 1 / (sigma**2 + 1))
    torch.testing.assert_close(values["c_out"], -sigma / (sigma**2 + 1).sqrt())
    torch.testing.assert_close(values["c_in"], 1 / (sigma**2 + 1).sqrt())


def test_density_is_that_of_the_drawn_levels():
    edm = EDM(0.5, 1.4)
    drawn = edm.draw_sigmas(50_000, torch.Generator().manual_seed(0)).log()
    edges = torch.linspace(-3, 4, 15)
    shares = torch.histogram(drawn, edges).hist / len(drawn) / 0.5
    middles = (edges[:-1] + edges[1:]) / 2
    torch.testing.assert_close(shares, density(edm, middles.exp()), rtol=0, atol=0.01)


def test_levels_fall_evenly_in_the_seventh_root():
    levels = sampling_levels(80.0)
    roots = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 25)
    np.testing.assert_allclose(levels, roots**7, rtol=1e-4)


def test_rows_are_those_of_the_asked_steps_and_clips(train_dir):
    sheets = read_sheets(train_dir, [20], [1])
    assert list(sheets) == [20]
    assert sheets[20][:, 0, 0, 0].tolist() == [20, 21, 22, 23]


def test_both_images_are_written(train_dir, tmp_path):
    main(["--output_dir", str(tmp_path / "docs"), "--train_dir", str(train_dir)])
    pictures = {path.name: Image.open(path) for path in (tmp_path / "docs").iterdir()}
    assert set(pictures) == {"video_diffusion.png", "video_diffusion_formulas.png"}
    grays = set(np.asarray(pictures["video_diffusion.png"].convert("L")).flatten().tolist())
    assert {10, 12, 11, 13, 21, 23} <= grays, "truth of the first step and samples of both, of both clips"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "30"], "has no sheet of step 30, only of 10, 20"),
        (["--clips", "2"], "has 2 clips, counted from 0"),
    ],
)
def test_images_that_are_not_there_are_refused(train_dir, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        main(["--output_dir", str(tmp_path / "docs"), "--train_dir", str(train_dir), *arguments])
    assert not (tmp_path / "docs").exists()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train with --validation_steps"):
        main(["--output_dir", str(tmp_path / "docs"), "--train_dir", str(tmp_path)])
