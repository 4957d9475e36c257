"""Sheets of clips with their flow, and the examples of the documentation."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.numbered_clips import numbered
from utils.data import annotate_flow
from utils.data.show_clips import main
from utils.video import write_video

PAGE = (Path(__file__).parents[2] / "docs" / "video_data.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SIZE = ["--num_frames", "4", "--height", "32", "--width", "40", "--columns", "3"]


def test_a_sheet_has_rows_of_frames_flow_and_arrows(panda, tmp_path, capsys):
    annotate_flow.main(["--train_data_dir", str(panda), "--output_dir", str(tmp_path / "flow")])
    flags = ["--train_data_dir", str(panda), "--output_dir", str(tmp_path / "sheets"), *SIZE]
    main([*flags, "--flow_dir", str(tmp_path / "flow")])
    assert "4 frames of 40x32 at 8 fps, 'clip 1', flow" in capsys.readouterr().out
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [path.name for path in sheets] == ["00000_0000000_00000.png", "00000_0000000_00001.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (3 * 40, 3 * 32)
    with pytest.raises(FileExistsError, match="00000_0000000_00000.png exists"):
        main(flags)


def test_flow_that_the_data_set_brings_is_drawn_too(procedural, tmp_path):
    for name, flags, rows in (("plain", [], 1), ("flow", ["--flow"], 3)):
        main(["--train_data_dir", str(procedural), "--output_dir", str(tmp_path / name), *SIZE, *flags])
        with Image.open(tmp_path / name / "videos_0000000.png") as sheet:
            assert sheet.size == (3 * 40, rows * 32)


def test_clips_of_one_name_do_not_replace_each_others_sheet(video, tmp_path):
    rows = [{"video_path": str(video), "text": text} for text in ("one", "two")]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"2 clips would share .*a\.png"):
        main(["--train_data_dir", str(tmp_path / "list.json"), "--output_dir", str(tmp_path / "sheets"), *SIZE])


def test_the_examples_of_the_documentation_run(procedural, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clips").symlink_to(procedural)
    write_video(tmp_path / "clip.mp4", numbered(40), fps=8)
    for block in BLOCKS:
        exec(block, {})  # noqa: S102
    assert (tmp_path / "sheet.png").is_file()
