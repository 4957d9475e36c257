import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from utils.depth import (
    color_disparity,
    depth_size,
    disparity_to_metres,
    metres_to_disparity,
    normalize_disparity,
    read_depth,
    read_disparity,
    settle_kind,
    stored_kind,
    write_depth,
    write_disparity,
)
from utils.edges import canny_edges
from utils.files import replacing
from utils.images import image_size, read_image, to_image, to_pixels


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


def test_a_depth_image_of_the_wrong_kind_is_refused(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "eight.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "color.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="8 bits"):
        read_disparity(tmp_path / "eight.png", "metres")
    with pytest.raises(ValueError, match="coloured"):
        read_disparity(tmp_path / "color.png", "disparity")
    with pytest.raises(ValueError, match="cannot be read"):
        read_depth(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match="no depth image"):
        read_depth(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="metres or disparity, not 'feet'"):
        read_disparity(tmp_path / "eight.png", "feet")


def write_pfm(path, values):
    path.write_bytes(b"Pf\n%d %d\n-0.5\n" % values.shape[::-1] + values[::-1].astype("<f4").tobytes())


FLOATS = {
    "depth.tif": lambda path, values: Image.fromarray(values).save(path),
    "depth.tiff": lambda path, values: cv2.imwrite(str(path), values.astype(np.float64)),
    "depth.pfm": write_pfm,
    "depth.hdr": lambda path, values: cv2.imwrite(str(path), values),
}


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_metres_or_disparity_themselves(tmp_path, metres, name):
    path = tmp_path / name
    FLOATS[name](path, metres)
    tolerance = 0.01 if name == "depth.hdr" else 1e-7  # an HDR has 8 bits of mantissa
    np.testing.assert_allclose(read_depth(path), metres, tolerance)
    np.testing.assert_allclose(read_disparity(path, "disparity"), metres, tolerance)
    np.testing.assert_allclose(read_disparity(path, "metres"), 1 / metres, tolerance)
    assert depth_size(path) == metres.shape[::-1]


def test_unknown_floats_are_as_far_as_the_farthest_known_one(tmp_path):
    values = np.array([[2, 4, np.nan, -1, 0]], np.float32)
    Image.fromarray(values).save(tmp_path / "metres.tif")
    assert read_depth(tmp_path / "metres.tif").tolist() == [[2, 4, 0, 0, 0]]
    assert read_disparity(tmp_path / "metres.tif", "metres").tolist() == [[0.5, 0.25, 0.25, 0.25, 0.25]]
    write_pfm(tmp_path / "disparity.pfm", np.array([[2, 4, np.nan, np.inf]], np.float32))
    assert read_disparity(tmp_path / "disparity.pfm", "disparity").tolist() == [[2, 4, 2, 2]]
    write_pfm(tmp_path / "none.pfm", np.full((1, 2), np.inf, np.float32))
    write_depth(tmp_path / "none.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"none\.png has no known pixel: none is above 0"):
        read_disparity(tmp_path / "none.png", "metres")
    with pytest.raises(ValueError, match=r"none\.pfm has no known pixel"):
        read_disparity(tmp_path / "none.pfm", "disparity")


def test_a_depth_image_that_is_cut_is_refused(tmp_path, metres):
    write_depth(tmp_path / "depth.png", np.repeat(metres, 40, axis=0))
    (tmp_path / "depth.png").write_bytes((tmp_path / "depth.png").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"depth\.png cannot be read as an image"):
        read_depth(tmp_path / "depth.png")


def test_whole_numbers_of_32_bits_are_refused_in_one_sentence(tmp_path):
    Image.fromarray(np.array([[1, 70000]], np.int32)).save(tmp_path / "whole.tif")
    for read in (read_depth, lambda path: read_disparity(path, "disparity")):
        with pytest.raises(ValueError, match=r"whole\.tif holds int32; store depth in 8 or 16 bits"):
            read(tmp_path / "whole.tif")


def test_a_depth_image_of_three_equal_channels_keeps_its_16_bits(tmp_path, metres):
    millimetres = np.rint(metres * 1000).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), np.dstack([millimetres] * 3))
    (tmp_path / "depth.pgm").write_bytes(b"P5\n7 5\n40000\n" + millimetres.astype(">u2").tobytes())
    for name in ("depth.png", "depth.pgm"):
        np.testing.assert_allclose(read_depth(tmp_path / name), millimetres / 1000, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_depth_image_is_turned_as_an_image_is(tmp_path, suffix):
    values = np.arange(24, dtype=np.uint16).reshape(4, 6)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(values).save(path, exif=exif)
        read = read_depth(path)
        assert read.shape[::-1] == depth_size(path) == image_size(path)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        np.testing.assert_allclose(read * 1000, shown, rtol=1e-6)


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


def test_pixels_survive_the_way_to_an_image_and_back():
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


def test_files_say_what_they_hold_and_readers_believe_them(tmp_path, metres):
    write_depth(tmp_path / "metres.png", metres)
    write_disparity(tmp_path / "disparity.png", normalize_disparity(metres_to_disparity(metres)))
    assert Image.open(tmp_path / "metres.png").text["Depth kind"] == "millimetres"
    assert Image.open(tmp_path / "disparity.png").text["Depth kind"] == "disparity"
    for name in ("metres", "disparity"):
        assert stored_kind(tmp_path / f"{name}.png") == name
        for kind in ("metres", "disparity"):
            read = read_disparity(tmp_path / f"{name}.png", kind)
            assert np.corrcoef(read.flatten(), (1 / metres).flatten())[0, 1] > 0.999
    with pytest.raises(ValueError, match="says that it holds disparity, not metres"):
        read_depth(tmp_path / "disparity.png")


def test_a_file_that_says_its_kind_behind_its_pixels_is_believed(tmp_path):
    write_depth(tmp_path / "a.png", np.full((2, 2), 3.0))
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"tEXt") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    moved = data.replace(chunk, b"").replace(b"\0\0\0\0IEND", chunk + b"\0\0\0\0IEND")
    (tmp_path / "a.png").write_bytes(moved)
    assert stored_kind(tmp_path / "a.png") == "metres"


def test_an_assumption_about_a_silent_file_is_said_once(tmp_path, capsys):
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (2, 2), 9).save(tmp_path / "flat.png")
    write_depth(tmp_path / "told.png", np.ones((2, 2)))
    remedy = f"pass --depth_kind metres, {tmp_path.name}"
    for name in ("flat", "told", "deep", "deep"):
        kind = settle_kind(tmp_path / f"{name}.png", None, "disparity", remedy)
        assert kind == ("metres" if name == "told" else "disparity")
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'deep.png'} does not say what it holds and is read as disparity; {remedy}."
    ]
    assert settle_kind(tmp_path / "deep.png", "metres", "disparity", remedy) == "metres"
    assert capsys.readouterr().err == ""
    assert settle_kind(tmp_path / "told.png", "disparity", "disparity", remedy) == "metres"
    assert "told.png says that it holds millimetres, and is read as that" in capsys.readouterr().err
