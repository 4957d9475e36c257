"""Forms in which pipelines return images and videos."""

from utils.commands.settings import check

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_output_type(output_type: str) -> None:
    """Raises ValueError for one that is unknown."""
    check("output_type", output_type, str, choices=OUTPUT_TYPES)
