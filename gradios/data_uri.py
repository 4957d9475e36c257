"""Images inside of HTML and JSON."""

import base64
import io

from PIL import Image


def data_uri(image: Image.Image, kind: str = "png", **options) -> str:
    """An image as a data URI.

    Args:
        kind: png, jpeg or webp.
        options: Of `Image.save`.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
