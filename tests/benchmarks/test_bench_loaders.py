"""Loaders and flow backends are timed in one table."""

import numpy as np
import pytest

from benchmarks.bench_loaders import main
from utils.video import write_video


def test_every_loader_and_backend_gets_a_line(read, tmp_path, capsys):
    video = tmp_path / "a.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8), 8)
    flags = ["--num_frames", "2", "--height", "64", "--width", "64", "--repeats", "1"]
    main(["--output_dir", str(tmp_path / "out"), "--video", str(video), *flags])
    rows = read(tmp_path / "out")
    assert [name.split(":")[0] for name in rows] == ["loader"] * 8 + ["backend"] * 4
    assert all(row["seconds"] > 0 for row in rows.values())
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in rows)
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        main(["--output_dir", str(tmp_path / "out")])
