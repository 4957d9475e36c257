"""What the denoising of an image and its conditions starts from."""

from dataclasses import dataclass

import torch

from pipelines.image_sides import ImageSide
from pipelines.rows import Joint, Rows
from utils.diffusion.guidance import Guidance


@dataclass(frozen=True, eq=False)
class JointInputs:
    """What the denoising starts from.

    Attributes:
        sides: The image, and its conditions.
        texts: Text embeddings (B, N, C) of each side, by prediction of the guidance.
        guidance: From the predictions of a sample to one.
        joint: Who reads whom.
    """

    sides: tuple[ImageSide, ...]
    texts: tuple[dict[str, torch.Tensor], ...]
    guidance: Guidance
    joint: Joint

    def text_of(self, rows: Rows) -> torch.Tensor:
        """Text embeddings of all rows, (rows, N, C)."""
        return torch.cat([self.texts[side][term] for side, term in rows.slots])


def child_generator(generator, number: int):
    """A generator that depends on the state of another and leaves it alone.

    So the noise of conditions does not change that of the image.
    """
    if generator is None:
        return None
    if isinstance(generator, list):
        return [child_generator(one, number) for one in generator]
    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    seed = torch.randint(2**62, (), generator=copy, device=generator.device).item()
    return copy.manual_seed(seed + number)
