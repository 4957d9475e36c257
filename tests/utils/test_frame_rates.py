"""A file plays at the rate that was asked for, or the rate is refused before any work."""

import math

import numpy as np
import pytest

from utils.formats.frame_rates import FRAME_RATES, check_fps
from utils.video import index_frames, write_gif, write_video

WRITERS = {".mp4": write_video, ".gif": write_gif}
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_ends_of_the_range_are_played_at_their_rate(suffix, tmp_path):
    for fps in (*FRAME_RATES[suffix], 0.5, 12.5, 25):
        WRITERS[suffix](tmp_path / f"a{suffix}", FRAMES, fps)
        index = index_frames(tmp_path / f"a{suffix}")
        assert len(index) == 4 and index.fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("fps", [0, -1, 1e-4, 0.0005, 1e5, math.nan, math.inf])
def test_rates_that_no_file_holds_are_refused(suffix, fps, tmp_path):
    low, high = FRAME_RATES[suffix]
    for refuse in (check_fps, lambda fps, path: WRITERS[suffix](path, FRAMES, fps)):
        with pytest.raises(ValueError, match=f"fps .* no rate that {suffix} files hold: pass {low:g} to {high:g}"):
            refuse(fps, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_gif_does_not_play_slower_than_asked_for(tmp_path):
    with pytest.raises(ValueError, match="fps 60 .* pass 0.01 to 50"):
        write_gif(tmp_path / "a.gif", FRAMES, 60)
    with pytest.raises(ValueError, match="videos are written as .mp4 or .gif"):
        check_fps(8, tmp_path / "a.avi")
