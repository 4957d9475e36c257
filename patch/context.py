"""What a patched model and its patched layers share. Only the methods here change it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from patch.build import build_state, reweigh
from patch.state import CallState, JointSpec, LoraPlaces, Mask, Pair, Settings


class Derived(Protocol):
    """Something computed from the network's weights: the matrices of `fuse`, the keys and values of `record`."""

    def check(self, net: nn.Module, everywhere: bool = False) -> None:
        """Computes it anew where weights have changed since, or raises ValueError. everywhere: see `Snapshot`."""

    def release(self) -> None:
        """Holds no memory of the weights any more: they are about to be moved."""


class Context:
    """The one object that a patched model and its patched layers share.

    Attributes:
        has_frames, temporal: Whether samples have frames, and whether the attention over time is patched too.
        settings, state: What the user asked for, and what the forward reads of it.
        joints: The joint adapters by name.
        managed: LoRAs of `add_joint` and `load`, which act only where pairs or masks say so.
        owned: LoRAs that go when the patch goes: the managed ones, and those that were given a mask.
        frozen: Names of the parameters that `add_joint` froze, for `remove_patch` to thaw.
        active_before: The LoRAs that were active when the patch came.
        places: The LoRAs that `hack_lora_forward` saw last, or `None`.
        fold, recording: What `fuse` and `record` have made, or `None`.
    """

    def __init__(self, has_frames: bool, active_before: Iterable[str]):
        self.has_frames = has_frames
        self.temporal = False
        self.settings = Settings()
        self.state = CallState()
        self.joints: dict[str | None, JointSpec] = {}
        self.managed: frozenset[str] = frozenset()
        self.owned: frozenset[str] = frozenset()
        self.frozen: frozenset[str] = frozenset()
        self.active_before = tuple(active_before)
        self.places: LoraPlaces | None = None
        self.fold: Derived | None = None
        self.recording: Derived | None = None

    def update(self, device: torch.device, **changes) -> None:
        """Replaces settings and state together."""
        settings = replace(self.settings, **changes)
        self.state = build_state(settings, self.joints, self.managed, device)
        self.settings = settings

    def reweigh(self, device: torch.device, pairs: tuple[Pair, ...]) -> None:
        """The same pairs with other weights; everything else of the state stays."""
        settings = replace(self.settings, pairs=pairs)
        if self.state.links is not None:
            self.state = replace(self.state, links=reweigh(self.state.links, settings, device))
        self.settings = settings

    def set_mask(self, device: torch.device, adapter: str, mask: Mask | None) -> None:
        """Gives a LoRA a mask, which makes it the patch's, or takes the mask away."""
        masks = {name: other for name, other in self.settings.masks.items() if name != adapter}
        if mask is not None:
            masks[adapter] = mask
            self.owned |= {adapter}
        self.update(device, masks=masks, given=(), recording=False)

    def manage(self, device: torch.device, adapter: str) -> None:
        """Lets a LoRA act only where pairs or masks say so."""
        self.managed |= {adapter}
        self.owned |= {adapter}
        self.update(device)

    def add_joint(self, spec: JointSpec) -> None:
        """Makes a joint adapter known. What is known of one of that name stays, except where it is."""
        self.joints[spec.name] = replace(self.joints.get(spec.name, spec), temporal=spec.temporal)

    def include_time(self) -> None:
        self.temporal = True

    def freeze(self, names: Iterable[str]) -> None:
        self.frozen |= set(names)

    def see_loras(self, places: LoraPlaces) -> None:
        """Remembers which LoRAs there are, and where."""
        self.places = places

    def keep_fold(self, fold: Derived | None) -> None:
        self.fold = fold

    def keep_recording(self, recording: Derived | None) -> None:
        self.recording = recording

    def derived(self) -> list[Derived]:
        return [derived for derived in (self.fold, self.recording) if derived is not None]

    def release(self) -> None:
        """To be called before the weights are moved."""
        for derived in self.derived():
            derived.release()

    def check(self, rows: int) -> None:
        """Raises when pairs or masks are for another batch than one of `rows` samples, or contradict each other."""
        if self.state.error is not None:
            raise ValueError(self.state.error)
        if self.fold is not None and torch.is_grad_enabled() and self.fold.trained:
            raise ValueError("A fused model does not train its adapters: call patch.unfuse, or use torch.no_grad().")
        samples = self.state.samples
        if samples is not None and samples != rows:
            raise ValueError(
                f"The pairs and masks are for {samples} samples, but the batch has {rows}: give one entry per sample, "
                "guidance copies included (batch_size for samples outside of all pairs)."
            )

    def check_layer(self, x: torch.Tensor) -> None:
        """The same in a layer, where only a model without frames has one row per sample."""
        if not self.has_frames or self.state.error is not None:
            self.check(x.shape[0])
