"""Every place where an image says how it is turned; `read_image` and `image_size` agree."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.png_files import chunk, png
from utils.images import image_size, read_image, to_rgb

W, H = 6, 4
ORIENTATIONS = range(1, 9)
# Where the upper left corner of what is stored lies when it is shown.
CORNERS = {1: "ul", 2: "ur", 3: "lr", 4: "ll", 5: "ul", 6: "ur", 7: "lr", 8: "ll"}


def corner() -> np.ndarray:
    """Gray (H, W), white in the upper left corner."""
    pixels = np.zeros((H, W), np.uint8)
    pixels[:2, :2] = 255
    return pixels


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


def raw_profile(orientation: int) -> str:
    data = exif(orientation)
    return f"\nexif\n{len(data):8}\n{data.hex()}\n"


def xmp(orientation: int) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'


def itxt(key: str, text: str) -> bytes:
    return chunk(b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode())


def profile(kind: str, data: bytes) -> bytes:
    """A raw profile as ImageMagick writes it."""
    hexed = f"\n{kind}\n{len(data):8}\n{data.hex()}\n".encode()
    return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(hexed))


def quoted(orientation: int) -> str:
    """XMP with the quotes of ExifTool."""
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><r tiff:Orientation='{orientation}'/></x:xmpmeta>"


def png_with(before: bytes = b"", behind: bytes = b"") -> bytes:
    return png(8, 0, [row.tobytes() for row in corner()], W, before, behind)


def ztxt(orientation: int) -> bytes:
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(orientation).encode()))


def text(orientation: int) -> bytes:
    return chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(orientation).encode())


def saved(format: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(corner()).convert("RGB").save(stream, format, **options)
    return stream.getvalue()


PLACES = {
    "png eXIf before the pixels": lambda o: png_with(chunk(b"eXIf", exif(o)[6:])),
    "png eXIf behind the pixels": lambda o: png_with(behind=chunk(b"eXIf", exif(o)[6:])),
    "png raw profile before the pixels": lambda o: png_with(text(o)),
    "png raw profile behind the pixels": lambda o: png_with(behind=text(o)),
    "png raw profile compressed": lambda o: png_with(ztxt(o)),
    "png raw profile compressed, behind the pixels": lambda o: png_with(behind=ztxt(o)),
    "png xmp before the pixels": lambda o: png_with(itxt("XML:com.adobe.xmp", xmp(o))),
    "png xmp behind the pixels": lambda o: png_with(behind=itxt("XML:com.adobe.xmp", xmp(o))),
    "png profile APP1 before the pixels": lambda o: png_with(profile("APP1", exif(o))),
    "png profile APP1 behind the pixels": lambda o: png_with(behind=profile("APP1", exif(o))),
    "png profile APP1 of xmp": lambda o: png_with(profile("APP1", xmp(o).encode())),
    "png profile xmp": lambda o: png_with(profile("xmp", xmp(o).encode())),
    "png xmp in single quotes": lambda o: png_with(itxt("XML:com.adobe.xmp", quoted(o))),
    "jpeg xmp in single quotes": lambda o: saved("JPEG", xmp=quoted(o).encode(), quality=95, subsampling=0),
    "jpeg exif": lambda o: saved("JPEG", exif=exif(o), quality=95, subsampling=0),
    "jpeg xmp": lambda o: saved("JPEG", xmp=xmp(o).encode(), quality=95, subsampling=0),
    "webp exif": lambda o: saved("WEBP", exif=exif(o), lossless=True),
    "webp xmp": lambda o: saved("WEBP", xmp=xmp(o).encode(), lossless=True),
    "tiff tag": lambda o: saved("TIFF", tiffinfo={274: o}),
    "tiff tag, compressed": lambda o: saved("TIFF", tiffinfo={274: o}, compression="tiff_lzw"),
    "tiff xmp": lambda o: saved("TIFF", tiffinfo={700: xmp(o).encode()}),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_orientation_turns_image_and_size_alike_wherever_it_lies(tmp_path, place):
    for orientation in ORIENTATIONS:
        (tmp_path / "image").write_bytes(PLACES[place](orientation))
        image = read_image(tmp_path / "image")
        assert image.size == image_size(tmp_path / "image") == ((H, W) if orientation > 4 else (W, H))
        pixels = np.asarray(image)[..., 0]
        shown = {"ul": pixels[0, 0], "ur": pixels[0, -1], "ll": pixels[-1, 0], "lr": pixels[-1, -1]}
        assert {name for name, value in shown.items() if value > 127} == {CORNERS[orientation]}
        assert to_rgb(image).tobytes() == image.tobytes()  # and not turned again


def test_the_size_of_an_ordinary_png_comes_without_its_pixels(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png_with(chunk(b"tIME", bytes(7)), chunk(b"tIME", bytes(7))))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    assert image_size(tmp_path / "a.png") == (W, H)


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"eXIf", b"garbage"),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nwxyz\n"),
        chunk(b"tEXt", b"Raw profile type exif\0"),
        chunk(b"tEXt", b"Raw profile type APP1\0\nAPP1\n 4\nwxyz\n"),
        chunk(b"tEXt", b"Raw profile type APP1\0\nAPP1\n 8\n457869660000ffff\n"),
    ],
)
def test_metadata_that_cannot_be_read_turn_nothing(tmp_path, metadata):
    for data in (png_with(metadata), png_with(behind=metadata)):
        (tmp_path / "a.png").write_bytes(data)
        assert read_image(tmp_path / "a.png").size == image_size(tmp_path / "a.png") == (W, H)
