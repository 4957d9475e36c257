"""What the README shows at its top."""

import torch
from PIL import Image

from benchmarks.draw_preview import GAP, PANEL, TEXT, WORDS, compose, scaled
from utils.arguments import REPOSITORY


def test_a_frame_has_all_panels_in_their_order_above_their_words():
    colors = [(40 * number, 0, 0) for number in range(len(WORDS))]
    frame = compose([Image.new("RGB", (64, 64), color) for color in colors])
    assert frame.size == (len(WORDS) * (PANEL + GAP) - GAP, PANEL + TEXT)
    middles = [(number * (PANEL + GAP) + PANEL // 2, PANEL // 2) for number in range(len(WORDS))]
    assert [frame.getpixel(place) for place in middles] == colors


def test_a_point_in_the_middle_of_its_frame_stays_in_the_middle():
    assert scaled(torch.tensor([31.5, 31.5])).tolist() == [(4 * PANEL - 1) / 2] * 2


def test_the_preview_of_the_readme_moves_and_is_small():
    path = REPOSITORY / "docs/preview.webp"
    assert "(docs/preview.webp)" in (REPOSITORY / "README.md").read_text()
    with Image.open(path) as preview:
        assert preview.n_frames > 8
    assert path.stat().st_size < 2e6
