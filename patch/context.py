"""The one object that a patched model and its patched layers share."""

from dataclasses import replace

import torch

from patch.build import build_state, lay_out, stack_weights
from patch.state import CallState, JointSpec, Pair, Settings


class Context:
    """The one object that a patched model and its patched layers share.

    Attributes:
        settings, state: What the user asked for, and what the forward reads of it.
        joints: The joint adapters by name.
        managed: LoRAs of `add_joint` and `load`, which act only where pairs or masks say so.
        masked: LoRAs that go when the patch goes: the managed ones, and those that were given a mask.
        frozen: Names of the parameters that `add_joint` froze, for `remove_patch` to thaw.
        active_before: The LoRAs that were active when the patch came.
        hacked: The LoRAs that `hack_lora_forward` saw last.
    """

    def __init__(self, has_frames: bool, active_before: tuple[str, ...]):
        self.has_frames = has_frames
        self.temporal = False
        self.settings = Settings()
        self.state = CallState()
        self.joints: dict[str | None, JointSpec] = {}
        self.managed: frozenset[str] = frozenset()
        self.masked: frozenset[str] = frozenset()
        self.frozen: frozenset[str] = frozenset()
        self.active_before = active_before
        self.hacked: tuple[dict | None, tuple[str, ...]] | None = None

    def update(self, device: torch.device, **changes) -> None:
        """Replaces settings and state together."""
        self.settings = replace(self.settings, **changes)
        self.state = build_state(self.settings, self.joints, self.managed, device)

    def reweigh(self, device: torch.device, pairs: tuple[Pair, ...]) -> None:
        """The same pairs with other weights; everything else of the state stays."""
        self.settings = replace(self.settings, pairs=pairs)
        if self.state.links is not None:
            weight = stack_weights(lay_out(pairs)[0], device)
            self.state = replace(self.state, links=replace(self.state.links, weight=weight))

    def check(self, rows: int) -> None:
        """Raises when pairs or masks are for another batch than one of `rows` samples, or contradict each other."""
        if self.state.error is not None:
            raise ValueError(self.state.error)
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
