"""What the denoising of an image and its conditions starts from, and what is known of their adapters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from pipelines.image_sides import ImageSide
from pipelines.rows import Joint, Rows
from utils.diffusion.guidance import Guidance
from utils.latents import LatentScale


@dataclass(frozen=True)
class AdapterPair:
    """How an adapter was trained, which sampling has to know besides its weights.

    Attributes:
        trigger: Words that begin the prompts of its condition.
        latent_scale: Between the latents of the VAE and those that the network sees.
        one_way: Whether it was also trained with sides that do not read the other; if not, both always read.
        one_step: Whether it estimates its condition in one step and samples nothing (`pipelines/one_step.py`).
        lora: Whether it is a plain LoRA on the base, which estimates, and has no joint attention.
    """

    trigger: str = ""
    latent_scale: LatentScale = field(default_factory=LatentScale)
    one_way: bool = True
    one_step: bool = False
    lora: bool = False


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


def check_sampled(pairs: Mapping[str, AdapterPair], names: Iterable[str]) -> None:
    """Raises ValueError where an adapter was not trained to sample."""
    if single := [name for name in names if pairs[name].one_step]:
        raise ValueError(
            f"The adapter {single[0]!r} was trained for estimation in one step and samples nothing: call "
            "pipelines.one_step.estimate_condition, or load another."
        )


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
