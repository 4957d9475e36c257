"""The clip that a small base is fine-tuned on in the docs, and the script that does it."""

import re
import shlex

import numpy as np
import pytest

from benchmarks.draw_boat import FPS, SAIL, SIDE, main
from train_models import train_svd_trans, train_tiny_svd
from utils.arguments import REPOSITORY
from utils.video import read_video, to_frames


def test_a_boat_sails_to_the_right_at_the_size_of_the_small_base(tmp_path):
    main(["--output_path", str(tmp_path / "boat.mp4"), "--num_frames", "20"])
    video = read_video(tmp_path / "boat.mp4")
    assert video.fps == FPS and video.pixels.shape == (20, 3, SIDE, SIDE)
    frames = to_frames(video.pixels)
    sails = [np.nonzero(np.abs(frame.astype(int) - SAIL).max(axis=-1) < 40)[1] for frame in (frames[0], frames[-1])]
    assert min(map(len, sails)) > 50 and sails[1].mean() - sails[0].mean() > 10


@pytest.mark.parametrize("module", [train_tiny_svd, train_svd_trans])
def test_the_script_for_a_clip_has_flags_that_the_trainings_know(module):
    script = (REPOSITORY / "train_scripts/fine_tune_clip.sh").read_text().replace("\\\n", " ")
    name = module.__name__.split(".")[-1]
    command = re.search(rf"python train_models/{name}.py (.*)", script)[1].replace('"$frames"', "20")
    args = module.make_parser().parse_args(shlex.split(command))
    assert args.resume_from_checkpoint == "latest" and args.max_train_steps > 100
