"""What a base is made for, read from its configurations, and the sizes of results that follow from it."""

from collections.abc import Callable
from dataclasses import dataclass

from diffusers import AutoencoderKL, DDPMScheduler, StableVideoDiffusionPipeline, UNet2DConditionModel

from utils.latents import side_factor, side_multiple
from utils.pretrained import loading

MAX_RATIO = 8  # of the longer side to the shorter one, up to which results keep the shape of what is given


@dataclass(frozen=True)
class Layout:
    """What a base is made for.

    Attributes:
        multiple: Of the sides that are chosen for its results.
        side: Shorter side in pixels that it was trained with.
        num_frames: Frames that it samples at once; None for images.
        asked_multiple: Of the sides that may be asked for: smaller where the UNet pads. None: `multiple`.
    """

    multiple: int
    side: int
    num_frames: int | None
    asked_multiple: int | None = None

    @classmethod
    def read(cls, base: str, flag: str, needed: type | None = None) -> "Layout":
        """Of a folder or hub name, without its weights.

        Args:
            flag: What the user passed it by.
            needed: The class of pipelines that it has to fit.

        Raises:
            FileNotFoundError, ValueError: There is none, or it is of another kind.
        """
        with loading(base, needed, flag):
            # Reading a configuration needs no class of its own.
            unet = UNet2DConditionModel.load_config(base, subfolder="unet")
            vae = AutoencoderKL.load_config(base, subfolder="vae")
        return cls._made_for(unet, vae, unet.get("num_frames"), pads=unet["_class_name"] == "UNet2DConditionModel")

    @classmethod
    def of(cls, pipe) -> "Layout":
        """Of a pipeline."""
        video = isinstance(pipe, StableVideoDiffusionPipeline)
        config = pipe.unet.config
        return cls._made_for(config, pipe.vae.config, config.num_frames if video else None, pads=not video)

    @classmethod
    def _made_for(cls, unet, vae, num_frames: int | None, pads: bool) -> "Layout":
        size, factor = unet["sample_size"], side_factor(vae)
        side = size if isinstance(size, int) else min(size)
        return cls(side_multiple(unet, vae), side * factor, num_frames, factor if pads else None)

    def check_sides(self, height: int | None, width: int | None) -> None:
        """Raises ValueError for a side that is asked for and that the base does not divide."""
        check_sides(height, width, self.asked_multiple or self.multiple)

    def target_size(self, height: int | None, width: int | None, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the results from what has this (height, width).

        A missing side keeps the shape of what is given. Without both a video has the model's own number of pixels, and
        an image its own shorter side.

        Raises:
            ValueError: The base does not divide a side, or a missing one would be far longer than the other.
        """
        self.check_sides(height, width)
        if self.num_frames is None or height or width:
            check_ratio(size, height, width)
        return scale_size(size, height, width, self.multiple, self.own_scale)

    def own_scale(self, size: tuple[int, int]) -> float:
        """What brings this (height, width) to the model's own size."""
        return self.side / (min(size) if self.num_frames is None else (size[0] * size[1]) ** 0.5)


def check_sides(height: int | None, width: int | None, multiple: int) -> None:
    """Raises ValueError for a side that is asked for and no multiple of that number."""
    for name, side in (("height", height), ("width", width)):
        if side and side % multiple:
            near = max(1, round(side / multiple)) * multiple
            raise ValueError(f"--{name} {side} is not a multiple of {multiple}, as the model needs: pass {near}, say.")


def check_ratio(size: tuple[int, int], height: int | None, width: int | None) -> None:
    """Raises ValueError where results would keep the shape of what has this (height, width), and it is too long."""
    if not (height and width) and max(size) > MAX_RATIO * min(size):
        raise ValueError(
            f"What is given has {size[1]}x{size[0]} pixels, one side more than {MAX_RATIO} times the other: pass "
            "--height and --width, to which it is cropped."
        )


def scale_size(
    size: tuple[int, int],
    height: int | None,
    width: int | None,
    multiple: int,
    own_scale: Callable[[tuple[int, int]], float],
) -> tuple[int, int]:
    """Height and width of the results from what has this (height, width), where `multiple` divides them.

    Args:
        height, width: As asked for; a missing one keeps the shape.
        own_scale: What brings a (height, width) to the model's own size, where neither is asked for.
    """
    H, W = size
    scale = height / H if height else width / W if width else own_scale(size)
    rounded = [max(1, round(side * scale / multiple)) * multiple for side in size]
    return height or rounded[0], width or rounded[1]


def check_steps(base: str, flag: str, **steps: int | None) -> None:
    """Raises ValueError for more denoising steps than a base has noise levels, from its configuration.

    Args:
        flag: What the user passed the base by.
        steps: By their flag.
    """
    most = read_scheduler(base, flag).get("num_train_timesteps", 1000)
    for name, number in steps.items():
        if number is not None and number > most:
            raise ValueError(f"--{name} {number} is more than the {most} noise levels of {base}: pass {most} or less.")


def read_scheduler(base: str, flag: str) -> dict:
    """The configuration of the scheduler of a folder or hub name, which was passed by a flag."""
    with loading(base, None, flag):
        return DDPMScheduler.load_config(base, subfolder="scheduler")
