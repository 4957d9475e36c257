"""Adapters of images with conditions: how they were trained, which sampling has to know, and their loading."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import patch
from utils.diffusion.one_step import ONE_STEP
from utils.latents import LatentScale
from utils.weights.lora import is_lora, load_lora
from utils.weights.model_kinds import describe, read_estimator


@dataclass(frozen=True)
class AdapterPair:
    """How an adapter was trained, which sampling has to know besides its weights.

    Attributes:
        trigger: Words that begin the prompts of its condition.
        latent_scale: Between the latents of the VAE and those that the network sees.
        one_way: Whether it was also trained with sides that do not read the other; if not, both always read.
        one_step: Whether it is a LoRA without joint attention, which estimates its condition in one step and samples
            nothing (`pipelines/one_step.py`).
    """

    trigger: str = ""
    latent_scale: LatentScale = field(default_factory=LatentScale)
    one_way: bool = True
    one_step: bool = False


class ImageAdapters:
    """The part of a pipeline that loads adapters into its `unet`, and knows by name how they were trained."""

    adapter_pairs: dict[str, AdapterPair]

    def load_adapter_pair(self, path, name: str | None = None, trigger: str | None = None) -> str:
        """Loads a joint adapter (see `patch.load`) with what its header says of its training, and returns its name.

        A LoRA of `train_depth_image.py --objective one_step` estimates its condition (`pipelines/one_step.py`).

        name, trigger: Needed for a published adapter, which holds neither.

        Raises:
            ValueError: It cannot be loaded, or not beside what is loaded: such a LoRA needs a pipeline of its own.
        """
        estimator, loaded = read_estimator(path), [*patch.get_joints(self.unet), *self.estimators()]
        if loaded and (estimator or self.estimators()):
            raise ValueError(f"This pipeline has the adapter {loaded[0]}: load {path} into another one.")
        if is_lora(path) and not estimator:
            raise ValueError(f"{path} is {describe(path)}; an adapter of train_depth_image.py is needed.")
        if estimator:
            return self._load_estimator(path, name or estimator["condition"], trigger, estimator)
        config = patch.read_config(path, name)
        name = name or config["name"]
        if name is None:
            raise ValueError(f"The adapter in {path} has no name of its own: pass one, such as name='depth'.")
        if (config.get("training") or {}).get("objective") == ONE_STEP:
            raise ValueError(f"{path} is of an earlier training of one step: train a LoRA with --objective one_step.")
        training = patch.load(self, path, name).get("training") or {}
        trigger = training.get("trigger", "") if trigger is None else trigger
        scale = LatentScale.read(training.get("latent_scale", {}))
        self.register_adapter_pair(name, trigger, scale, one_way=training.get("one_way_share", 0) > 0)
        return name

    def _load_estimator(self, path, name: str, trigger: str | None, training: dict) -> str:
        if trigger is not None:
            raise ValueError(f"{path} estimates its condition and reads no prompt: leave the trigger {trigger!r} out.")
        if not name.isidentifier():
            raise ValueError(f"name={name!r} cannot name an adapter: use letters, digits and '_', no digit first.")
        load_lora(self.unet, path, name)
        scale = LatentScale.read(training.get("latent_scale", {}))
        self.adapter_pairs[name] = AdapterPair(latent_scale=scale, one_step=True)
        return name

    def register_adapter_pair(
        self, name: str, trigger: str = "", latent_scale: LatentScale | None = None, one_way: bool = True
    ) -> None:
        """Says how a joint adapter that is in the network already was trained: needed after `patch.load` alone."""
        self.adapter_pairs[name] = AdapterPair(trigger, latent_scale or LatentScale(), one_way)

    def estimators(self) -> list[str]:
        """LoRAs in the network that estimate their condition."""
        held = getattr(self.unet, "peft_config", {})
        return [name for name, pair in self.adapter_pairs.items() if pair.one_step and name in held]

    def known_adapters(self) -> list[str]:
        """Adapters of the network; raises where it is not known how one was trained."""
        loaded = [*patch.get_joints(self.unet), *self.estimators()]
        for name in loaded:
            if name not in self.adapter_pairs:
                raise ValueError(
                    f"It is not known how the adapter {name!r} was trained: load it with pipe.load_adapter_pair, or "
                    "call pipe.register_adapter_pair with its trigger word and latent scale."
                )
        return loaded


def check_sampled(pairs: Mapping[str, AdapterPair], names: Iterable[str]) -> None:
    """Raises ValueError where an adapter was not trained to sample."""
    if single := [name for name in names if pairs[name].one_step]:
        raise ValueError(
            f"The adapter {single[0]!r} was trained for estimation in one step and samples nothing: call "
            "pipelines.one_step.estimate_condition, or load another."
        )
