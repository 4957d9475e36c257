import numpy as np
import pytest
import torch
from PIL import Image

from utils.depth import (
    color_disparity,
    disparity_to_metres,
    metres_to_disparity,
    normalize_disparity,
    read_depth,
    read_disparity,
    write_depth,
    write_disparity,
)
from utils.edges import canny_edges
from utils.files import replacing
from utils.images import read_image, to_image, to_pixels


@pytest.fixture
def metres():
    return np.random.default_rng(0).uniform(0.5, 40, (5, 7)).astype(np.float32)


def test_metres_survive_a_file_to_half_a_millimetre(tmp_path, metres):
    write_depth(tmp_path / "depth.png", metres)
    np.testing.assert_allclose(read_depth(tmp_path / "depth.png"), metres, atol=0.000501)
    assert Image.open(tmp_path / "depth.png").mode == "I;16"


def test_unknown_and_infinite_depth_have_values_of_their_own(tmp_path):
    write_depth(tmp_path / "depth.png", np.array([[0.0, np.nan, np.inf, 100.0, 2.0]]))
    depth = read_depth(tmp_path / "depth.png")
    np.testing.assert_allclose(depth, [[0, 0, 65.535, 65.535, 2]])
    np.testing.assert_allclose(metres_to_disparity(depth)[0, :2], 1 / 65.535)


def test_metres_survive_normalised_disparity_when_the_range_is_known(metres):
    disparity = normalize_disparity(metres_to_disparity(metres))
    assert (disparity.min(), disparity.max()) == (-1, 1)
    assert disparity.flat[metres.argmin()] == 1
    np.testing.assert_allclose(disparity_to_metres(disparity, metres.min(), metres.max()), metres, rtol=1e-4)


def test_normalised_disparity_does_not_depend_on_an_affine_map(metres):
    disparity = metres_to_disparity(metres)
    np.testing.assert_allclose(normalize_disparity(3 * disparity + 2), normalize_disparity(disparity), atol=1e-5)
    assert not normalize_disparity(np.full((2, 2), 3.0)).any()


def test_disparity_survives_a_file(tmp_path):
    disparity = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    write_disparity(tmp_path / "d.png", disparity)
    np.testing.assert_allclose(read_disparity(tmp_path / "d.png", "disparity") * 2 - 1, disparity, atol=2e-5)


def test_a_depth_picture_of_the_wrong_kind_is_refused(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "eight.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "color.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="8 bits"):
        read_disparity(tmp_path / "eight.png", "metres")
    with pytest.raises(ValueError, match="coloured"):
        read_disparity(tmp_path / "color.png", "disparity")
    with pytest.raises(ValueError, match="cannot be read"):
        read_depth(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match="no depth picture"):
        read_depth(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="metres or disparity, not 'feet'"):
        read_disparity(tmp_path / "eight.png", "feet")


def test_near_is_red_and_far_is_blue():
    picture = np.asarray(color_disparity(np.array([[1.0, -1.0]]))).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] and picture[0, 1, 2] > picture[0, 1, 0]


def test_edges_lie_where_the_image_changes():
    pixels = torch.full((3, 32, 32), -1.0)
    pixels[:, :, 16:] = 1
    edges = canny_edges(pixels)
    assert edges.shape == pixels.shape and set(edges.unique().tolist()) == {-1.0, 1.0}
    columns = (edges[0] == 1).any(0).nonzero().flatten().tolist()
    assert columns and set(columns) <= {15, 16}


def test_pixels_survive_the_way_to_a_picture_and_back():
    values = torch.randint(0, 256, (3, 6, 5)).float() / 127.5 - 1
    torch.testing.assert_close(to_pixels(to_image(values)), values)


def test_transparent_parts_become_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png").getpixel((0, 0)) == (255, 255, 255)


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="cut.png cannot be read"):
        read_image(tmp_path / "cut.png")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.txt", "old")]
