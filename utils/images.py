"""Images between files, PIL and tensors. Pixels are in [-1, 1] wherever a network sees them.

`to_rgb` says what an image shows; `read_image` and the pipelines call it, and `image_size` follows the same metadata.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch.nn import functional

from utils.files import is_file

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {TURNS[orientation] for orientation in (5, 6, 7, 8)}
LATE_CHUNKS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}  # of a PNG: those that may hold an orientation
GRAY_STEP = {"L;2": 85, "L;4": 17}  # what Pillow multiplies the values of 2 and 4 bits by
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
WHITE_IS_ZERO, SIGNED = 0, 2
EXIF_MARK = b"Exif\0\0"
RAW_PROFILES = ("Raw profile type APP1", "Raw profile type xmp")
XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
BAD_METADATA = (*DAMAGED, IndexError, KeyError, TypeError)


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB, see `to_rgb`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as an image.
    """
    with open_image(path) as image:
        return to_rgb(image)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` returns it, from the header alone where that says all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as an image.
    """
    with open_image(path) as image:
        if not _header_says_all(image, path):
            image.load()
        return image.size[::-1] if find_turn(image) in SIDEWAYS else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode of Pillow as 8-bit RGB without metadata: upright by them, transparent parts white.

    White is the largest value of the stored bits (65535 in the modes I;16 and I). Floats (mode F) count as [0, 1], or
    as [0, 255] where one is above 1.

    Raises:
        ValueError: Values lie outside of that range, or are not finite, or there is none.
        OSError: An image that is still in its file is damaged.
    """
    key = _transparent_value(image)  # before loading, while Pillow knows the bits of the file
    image.load()
    if 0 in image.size:
        raise ValueError(f"it is of {image.width}x{image.height} and has no pixel")
    turn = find_turn(image)
    image = _with_alpha(image, key)
    image = image if turn is None else image.transpose(turn)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()
    return image


def to_pixels(image: Image.Image) -> torch.Tensor:
    """An image, see `to_rgb`, as a tensor (3, H, W) in [-1, 1]."""
    values = torch.from_numpy(np.array(to_rgb(image)))
    return values.permute(2, 0, 1).float().div(127.5).sub(1)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """A tensor (3, H, W) in [-1, 1] as an image; values outside are clipped."""
    values = pixels.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def cover(pixels: torch.Tensor, size: tuple[int, int], nearest: bool = False) -> torch.Tensor:
    """Pixels (C, H, W) resized, shape kept, to cover (height, width), and the middle of that size cut out.

    nearest: As of `resize_pixels`.
    """
    found = tuple(pixels.shape[-2:])
    scale = max(due / side for due, side in zip(size, found, strict=True))
    covering = tuple(max(due, round(side * scale)) for due, side in zip(size, found, strict=True))
    resized = resize_pixels(pixels[None], covering, nearest)[0]
    top, left = ((side - due) // 2 for side, due in zip(covering, size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]]


def resize_pixels(pixels: torch.Tensor, size: tuple[int, int], nearest: bool = False) -> torch.Tensor:
    """Pixels (B, C, H, W) in [-1, 1] resized to (height, width); unchanged at that size.

    nearest: Whether each pixel takes the value of the nearest one; otherwise bilinear with antialiasing.
    """
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    if nearest:
        return functional.interpolate(pixels, size, mode="nearest-exact")
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True).clamp(-1, 1)


def resize_shorter(frames: torch.Tensor, resolution: int | None) -> torch.Tensor:
    """Pixels (F, 3, H, W) with the shorter side resized to `resolution`; unchanged without one."""
    H, W = frames.shape[-2:]
    if resolution is None or min(H, W) == resolution:
        return frames
    scale = resolution / min(H, W)
    return resize_pixels(frames, (round(H * scale), round(W * scale)))


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """The image of a file, as Pillow opens it; whatever it complains about inside becomes one sentence."""
    if not is_file(Path(path)):
        raise FileNotFoundError(f"There is no image {path}.")
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} cannot be read as an image: its format is not known; convert it to PNG or JPEG."
        ) from error
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read as an image: {str(error).rstrip('.')}.") from error


def _header_says_all(image: Image.Image, path: str | Path) -> bool:
    """Whether size and orientation of an image that was only opened are final."""
    if image.format == "PNG":
        return not speaks_late(path)
    return image.format in ("JPEG", "MPO", "WEBP")  # Pillow turns a TIFF itself, as it loads


def speaks_late(path: str | Path) -> bool:
    """Whether a PNG has metadata behind its pixels."""
    with open(path, "rb") as file:
        file.seek(8)
        behind = False
        while len(header := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", header)
            if behind and name in LATE_CHUNKS:
                return True
            behind = behind or name == b"IDAT"
            file.seek(length + 4, 1)
    return False


def find_turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, by its EXIF or XMP wherever Pillow finds them; unreadable ones say nothing."""
    try:
        # Of the base class: PNG's own would decode the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return TURNS.get(orientation or _orientation_of_profiles(image.info))
    except BAD_METADATA:
        return None


def _orientation_of_profiles(info: dict) -> int | None:
    """The orientation in places and spellings that Pillow passes over: profiles of ImageMagick, quotes of ExifTool."""
    profiles = [_raw_profile(info[key]) for key in RAW_PROFILES if key in info]
    for data in profiles:
        if data.startswith(EXIF_MARK):
            exif = Image.Exif()
            exif.load(data)
            return exif.get(ExifTags.Base.Orientation)
    texts = [info[key] for key in XMP_KEYS if key in info]
    for text in [*(text.encode() if isinstance(text, str) else text for text in texts), *profiles]:
        if found := XMP_ORIENTATION.search(text):
            return int(found[1])
    return None


def _raw_profile(text: str) -> bytes:
    """An empty line, a name, a length, and hexadecimal digits."""
    return bytes.fromhex("".join(text.split("\n")[3:]))


def _transparent_value(image: Image.Image):
    """The value or colour that an image without alpha calls transparent, scaled as Pillow scales the pixels."""
    key = image.info.get("transparency")
    rawmode = image.tile[0][3] if getattr(image, "tile", None) else None
    if image.mode == "L" and isinstance(key, int):
        return key * GRAY_STEP.get(rawmode, 1) if isinstance(rawmode, str) else key
    if image.mode == "RGB" and isinstance(key, tuple) and (rawmode == "RGB;16B" or max(key) > 255):
        return tuple(value >> 8 for value in key)
    return key


def _with_alpha(image: Image.Image, key) -> Image.Image:
    """RGB, or RGBA where the image has any transparency."""
    if image.mode.startswith(("I", "F")):
        gray = Image.fromarray(_to_8_bits(image))
        if key is None:
            return gray.convert("RGB")
        opaque = Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))
        return Image.merge("LA", (gray, opaque)).convert("RGBA")
    if image.mode == "La":
        return image.convert("LA").convert("RGBA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if key is not None:
        image = image.copy()
        image.info["transparency"] = key
    return image.convert("RGBA")


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Gray uint8 (H, W) of an image of more bits."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    white = _white(image, values, tags)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):
        raise ValueError(
            f"its values (mode {image.mode}) reach from {low:g} to {high:g} where black is 0 and white {white}; scale "
            "them to 8 bits"
        )
    values = white - values if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values
    return np.rint(values * np.float32(255 / white)).astype(np.uint8)


def _white(image: Image.Image, values: np.ndarray, tags) -> int:
    if image.mode == "F":
        return 1 if values.max() <= 1 else 255
    bits, signed = tags.get(BITS, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    # The mode I has 32 bits and serves for 16: in Pillow's PGM, its older PNG, and arrays that became images.
    return 65535 if bits > 16 else 2 ** (bits - signed) - 1
