"""Images between files, PIL and tensors. Pixels are in [-1, 1] wherever a network sees them."""

from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.nn import functional


def read_image(path: str | Path) -> Image.Image:
    """Read a picture as RGB, turned as its EXIF says; transparent parts become white.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a picture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no image {path}.")
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` turns it, from its header alone.

    Raises:
        ValueError: It cannot be read as a picture.
    """
    try:
        with Image.open(path) as image:
            # Without the first condition a PNG would be decoded.
            turned = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error


def to_pixels(image: Image.Image) -> torch.Tensor:
    """An RGB picture as a tensor (3, H, W) in [-1, 1]."""
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return values.permute(2, 0, 1).float().div(127.5).sub(1)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """A tensor (3, H, W) in [-1, 1] as a picture; values outside are clipped."""
    values = pixels.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def cover(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pixels (C, H, W) resized, shape kept, to cover (height, width), and the middle of that size cut out; bilinear with antialiasing."""
    found = tuple(pixels.shape[-2:])
    if found == tuple(size):
        return pixels
    scale = max(due / side for due, side in zip(size, found, strict=True))
    covering = [max(due, round(side * scale)) for due, side in zip(size, found, strict=True)]
    resized = functional.interpolate(pixels[None], covering, mode="bilinear", antialias=True)[0]
    top, left = ((side - due) // 2 for side, due in zip(covering, size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]].clamp(-1, 1)
