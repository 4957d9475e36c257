"""What an image shows, in every mode of Pillow: shades, colours, transparent parts."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.png_files import chunk, png
from utils.images import image_size, read_image, to_pixels, to_rgb

W, H = 6, 4
RAMP = np.array([[0, 65, 130, 194, 255]], np.uint8)


def gray(path) -> list[int]:
    """The first row, which is gray."""
    pixels = np.asarray(read_image(path))[0]
    assert (pixels == pixels[:, :1]).all()
    return pixels[:, 0].tolist()


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


def test_files_that_are_missing_or_no_image_are_named(tmp_path):
    (tmp_path / "text.png").write_text("text")
    for read in (read_image, image_size):
        with pytest.raises(FileNotFoundError, match=r"There is no image .*none\.png"):
            read(tmp_path / "none.png")
        with pytest.raises(FileNotFoundError, match="There is no image"):
            read(tmp_path / ("a" * 300))
        with pytest.raises(ValueError, match=r"text\.png cannot be read as an image: .* convert it to PNG or JPEG"):
            read(tmp_path / "text.png")


DEEP = RAMP.astype(np.uint16) * 257


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_of_gray_keep_their_shades(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"deep.{suffix}")
    assert gray(tmp_path / f"deep.{suffix}") == RAMP[0].tolist()


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I"])
def test_all_modes_of_16_bits_keep_their_shades(mode):
    order = {"I": "<i4", "I;16B": ">u2"}.get(mode, "<u2")
    image = Image.frombytes(mode, DEEP.shape[::-1], DEEP.astype(order).tobytes())
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == RAMP[0].tolist()


def test_a_pgm_of_16_bits_keeps_its_shades(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5\n5 1\n65535\n" + DEEP.astype(">u2").tobytes())
    assert gray(tmp_path / "deep.pgm") == RAMP[0].tolist()


def tiff(tags: dict[int, tuple[int, int]], pixels: bytes) -> bytes:
    """A TIFF of one strip of 5 x 1 pixels; tags (type, value) beside the usual ones."""
    usual = {256: (3, 5), 257: (3, 1), 259: (3, 1), 262: (3, 1), 273: (4, 0), 277: (3, 1), 279: (4, len(pixels))}
    tags = dict(sorted((usual | tags).items()))
    offset = 8 + 2 + 12 * len(tags) + 4
    tags[273] = (4, offset)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + pixels


def test_white_of_a_tiff_is_the_largest_value_of_its_bits(tmp_path):
    twelve = np.array([0, 65 * 16, 130 * 16, 194 * 16, 4095])
    packed = "".join(f"{value:012b}" for value in twelve) + "0000"
    files = {
        "12 bits": tiff({258: (3, 12)}, int(packed, 2).to_bytes(8)),
        "signed": tiff({258: (3, 16), 339: (3, 2)}, (RAMP.astype(int) * 32767 // 255).astype("<i2").tobytes()),
        "white is 0": tiff({258: (3, 16), 262: (3, 0)}, (65535 - DEEP).astype("<u2").tobytes()),
    }
    for name, data in files.items():
        (tmp_path / "a.tif").write_bytes(data)
        assert np.abs(np.array(gray(tmp_path / "a.tif")) - RAMP[0]).max() <= 1, name


@pytest.mark.parametrize("white", [1, 255])
def test_floats_are_shares_of_white_or_of_255(tmp_path, white):
    Image.fromarray(RAMP.astype(np.float32) / 255 * white).save(tmp_path / "float.tif")
    assert gray(tmp_path / "float.tif") == RAMP[0].tolist()


@pytest.mark.parametrize("values", [[0, 256.5], [-0.5, 0.5], [0, np.nan], [0, np.inf]])
def test_floats_outside_of_both_ranges_are_refused(tmp_path, values):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif cannot be read as an image: its values \(mode F\) reach from"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "whole.tif")
    with pytest.raises(ValueError, match=r"whole\.tif .* reach from 0 to 70000 where black is 0 and white 65535"):
        read_image(tmp_path / "whole.tif")


def test_16_bits_of_colour_keep_their_shades(tmp_path):
    row = np.repeat(DEEP[0], 3).astype(">u2").tobytes()
    (tmp_path / "deep.png").write_bytes(png(16, 2, [row], 5))
    assert gray(tmp_path / "deep.png") == RAMP[0].tolist()


COLORS = np.array([[(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (10, 128, 60)]], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "P", "PA"])
def test_all_modes_of_colours_show_their_colours(mode):
    image = Image.fromarray(COLORS)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(image)
    elif mode in ("P", "PA"):
        image = image.quantize(8).convert(mode)
    else:
        image = (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)
    assert image.mode == mode
    error = np.abs(np.asarray(to_rgb(image)).astype(int) - COLORS).max()
    assert error <= (25 if mode == "LAB" else 4)  # 8 bits of a and b are coarse for full colours


@pytest.mark.parametrize(
    ("mode", "value", "shown"),
    [
        ("1", 1, 255),
        ("L", 65, 65),
        ("LA", (0, 0), 255),
        ("LA", (65, 255), 65),
        ("La", (0, 0), 255),
        ("La", (65, 255), 65),
        ("RGBA", (0, 0, 0, 0), 255),
        ("RGBa", (0, 0, 0, 0), 255),
    ],
)
def test_transparent_parts_of_any_mode_are_white(mode, value, shown):
    image = Image.frombytes(mode, (1, 1), bytes(value)) if isinstance(value, tuple) else Image.new(mode, (1, 1), value)
    assert to_rgb(image).getpixel((0, 0)) == (shown, shown, shown)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_transparent_entries_of_a_palette_are_white(tmp_path, transparency):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 10, 10, 20, 20, 20, 30, 30, 30])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert gray(tmp_path / "a.png") == [10, 255, 30]
    with_alpha = Image.frombytes("P", (2, 1), bytes([0, 1]))
    with_alpha.putpalette([10, 10, 10, 255, 20, 20, 20, 0], "RGBA")
    assert np.asarray(to_rgb(with_alpha))[0, :, 0].tolist() == [10, 255]
    indexed = Image.frombytes("PA", (2, 1), bytes([0, 255, 1, 0]))
    indexed.putpalette([10, 10, 10, 20, 20, 20])
    assert np.asarray(to_rgb(indexed))[0, :, 0].tolist() == [10, 255]


@pytest.mark.parametrize(
    ("bits", "row", "width", "shown"),
    [
        (1, b"\xa0", 3, [255, 0, 255]),
        (2, b"\x18", 3, [0, 255, 170]),
        (4, b"\x01\x20", 3, [0, 255, 34]),
        (8, b"\x00\x01\x02", 3, [0, 255, 2]),
        (16, b"\x00\x00\x00\x01\x80\x80", 3, [0, 255, 128]),
    ],
)
def test_the_transparent_shade_of_a_gray_png_is_white_at_any_depth(tmp_path, bits, row, width, shown):
    key = chunk(b"tRNS", struct.pack(">H", 1))
    (tmp_path / "a.png").write_bytes(png(bits, 0, [row], width, key))
    assert gray(tmp_path / "a.png") == shown
    assert np.asarray(to_rgb(Image.open(tmp_path / "a.png")))[0, :, 0].tolist() == shown


@pytest.mark.parametrize("key", [(0x1234, 0, 0), (0x12, 0, 0), (65535, 0, 0)])
def test_the_transparent_colour_of_a_png_of_16_bits_is_white(tmp_path, key):
    row = struct.pack(">6H", *key, 0, 0, 65535)
    (tmp_path / "a.png").write_bytes(png(16, 2, [row], 2, chunk(b"tRNS", struct.pack(">3H", *key))))
    assert np.asarray(read_image(tmp_path / "a.png"))[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_what_is_read_keeps_no_metadata_and_leaves_the_image_alone():
    image = Image.new("RGB", (W, H))
    image.info |= {"exif": exif(6), "transparency": (0, 0, 0)}
    before = dict(image.info)
    shown = to_rgb(image)
    assert (shown.size, shown.getpixel((0, 0)), shown.info) == ((H, W), (255, 255, 255), {})
    assert image.info == before and image.size == (W, H)
    assert torch.equal(to_pixels(image), to_pixels(shown))
