"""Several ControlNets over one Stable Video Diffusion as one model, as pipelines keep and save it."""

from collections.abc import Sequence
from pathlib import Path

from diffusers import ModelMixin
from torch import nn

from models.svd_controlnet import ControlNetSVD


class MultiControlNetSVD(ModelMixin):
    """ControlNets whose residuals a pipeline adds, in `nets`.

    In a folder the first one lies in it, the others beside it, with _1, _2 and so on behind its name.
    """

    def __init__(self, controlnets: Sequence[ControlNetSVD]):
        super().__init__()
        self.nets = nn.ModuleList(controlnets)

    def save_pretrained(self, save_directory: str | Path, **options) -> None:
        for number, net in enumerate(self.nets):
            net.save_pretrained(_place(save_directory, number), **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_path: str | Path, **options) -> "MultiControlNetSVD":
        places = [Path(pretrained_model_path)]
        while (following := _place(pretrained_model_path, len(places))).is_dir():
            places.append(following)
        return cls([ControlNetSVD.from_pretrained(place, **options) for place in places])


def _place(folder: str | Path, number: int) -> Path:
    return Path(f"{folder}_{number}" if number else folder)


def list_controlnets(controlnet: ControlNetSVD | MultiControlNetSVD | None) -> list[ControlNetSVD]:
    """Those of a pipeline, in order."""
    if controlnet is None:
        return []
    return list(controlnet.nets) if isinstance(controlnet, MultiControlNetSVD) else [controlnet]
