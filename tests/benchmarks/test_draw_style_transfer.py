"""Videos in another style, as the docs show them."""

import pytest
from PIL import Image

from benchmarks.draw_style_transfer import FRAMES, SCALE, SIDE, main, recolored
from utils.arguments import REPOSITORY
from utils.scenes import sample_scene


@pytest.mark.parametrize("seed", [2_600_000, 2_600_005])
def test_all_things_of_a_recolored_scene_have_colors_that_they_had_not(seed):
    scene = sample_scene(seed)
    other = recolored(scene)
    colors = [solid.color for solid in other.objects]
    assert len(set(colors)) == len(scene.objects) and not set(colors) & {solid.color for solid in scene.objects}
    assert other.floor != scene.floor and other.wall != scene.wall
    assert [(solid.shape, solid.x, solid.z) for solid in other.objects] == [
        (solid.shape, solid.x, solid.z) for solid in scene.objects
    ]


def test_the_sheet_shows_source_control_and_both_videos_and_the_command_prints_their_errors(tmp_path, capsys):
    path = main(["--output_dir", str(tmp_path), "--seeds", "2600009", "--num_inference_steps", "1"])
    with Image.open(path) as sheet:
        assert sheet.width == SCALE * FRAMES * SIDE and sheet.height // (SCALE * SIDE) == 4
        assert sheet.convert("RGB").getpixel((1, SCALE * SIDE + 1)) == (255, 255, 255)  # wall in the segmentation
    printed = capsys.readouterr().out
    assert "2600009, 'a large red sphere" in printed and "mean of 1: first frame" in printed


def test_the_docs_show_the_sheet():
    with Image.open(REPOSITORY / "docs/style_transfer.png") as sheet:
        assert sheet.width % FRAMES == 0
    assert "(style_transfer.png)" in (REPOSITORY / "docs/svd_controlnet.md").read_text()
