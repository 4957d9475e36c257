"""PEFT's LoRA layers, with rows of their own for each adapter.

The class of a layer is swapped and nothing else changes: weights, names and PEFT's own methods stay as they are.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import Attention
from peft.tuners.lora import layer as peft_layer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from patch.fast import ThinLora, add_thin_, fast_form, merged_output
from patch.post import is_cast
from patch.state import CallState, LoraPlaces, Rows, is_joint_lora

LAYERS = ("to_q", "to_k", "to_v")


class MaskedLora:
    """A LoRA layer whose own forward is base + self adapters; the joint attention asks for base + joint adapters."""

    def forward(
        self, x: torch.Tensor | None = None, *args, input: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        x = input if x is None else x  # UNetMotionModel names it
        state = self._duet.state
        if state.idle and not kwargs and state.managed.issuperset(self.lora_A.keys()):
            return self.base_layer(x, *args)  # first of all, since a GPU waits for questions
        if self.disable_adapters or "adapter_names" in kwargs or not self._is_masked(state):
            return super().forward(x, *args, **kwargs)
        self._duet.check_layer(x)
        acting = {adapter: state.rows.get(adapter) for adapter in self._self_adapters(state)}
        fast = merged_output(self, x, acting) if "joint_fused" in self._modules else None
        if fast is not None:
            return fast
        return self.add_self(self.base_layer(x, *args, **kwargs), x)

    def add_self(self, result: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Adds the self adapters to the base's `result`, which has to be a fresh tensor."""
        state = self._duet.state
        for adapter in self._self_adapters(state):
            result = self._add_(adapter, state.rows.get(adapter), result, x)
        return result

    def add_joint(self, base: torch.Tensor, x: torch.Tensor, adapters: dict[str, Rows]) -> torch.Tensor:
        """`base` plus the joint adapters, each on its rows of x; `base` itself is left as it is."""
        result = base
        for adapter, rows in adapters.items():
            if adapter not in self.lora_A or self.disable_adapters:
                continue
            if rows.whole:
                result = self._plus(adapter, result, x)
            else:
                result = self._add_(adapter, rows, result.clone() if result is base else result, x)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        refuse_merging(self, adapter_names)
        super().merge(safe_merge=safe_merge, adapter_names=adapter_names)

    def scale_layer(self, scale: float) -> None:
        with self._only_users():
            super().scale_layer(scale)

    def unscale_layer(self, scale: float | None = None) -> None:
        with self._only_users():
            super().unscale_layer(scale)

    @contextmanager
    def _only_users(self) -> Iterator[None]:
        """The scale of a call or of `fuse_lora` is for the user's LoRAs, not for those of pairs and masks."""
        active = self._active_adapter
        self._active_adapter = [a for a in self.active_adapters if not self._duet.state.acts_on_rows(a)]
        try:
            yield
        finally:
            self._active_adapter = active

    def _is_masked(self, state: CallState) -> bool:
        return any(state.acts_on_rows(adapter) for adapter in self.lora_A)

    def _self_adapters(self, state: CallState) -> list[str]:
        """PEFT's active ones in PEFT's order, then those that a mask makes active."""
        if self.disable_adapters:
            return []
        active = [name for name in self.active_adapters if name in state.rows or name not in state.managed]
        names = active + [name for name in self.lora_A if name in state.rows and name not in active]
        return [n for n in names if n in self.lora_A and not is_joint_lora(n) and n not in self.merged_adapters]

    def _add_(self, adapter: str, rows: Rows | None, result: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if rows is None:
            return self._plus(adapter, result, x)
        if len(rows) == 0:
            return result
        if add_thin_(self, adapter, rows, result, x):
            return result
        base = rows.take(result) if adapter in self.lora_variant else None
        return rows.add_(result, self._delta(adapter, rows.take(x), base))

    def _plus(self, adapter: str, base: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        fast = fast_form(self, adapter, self)
        if isinstance(fast, ThinLora):
            return fast(x, base)
        return (base + self._delta(adapter, x, base)).to(base.dtype)

    def _delta(self, adapter: str, x: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
        lora_A, lora_B = self.lora_A[adapter], self.lora_B[adapter]
        if not is_cast(lora_A):
            x = self._cast_input_dtype(x, lora_A.weight.dtype)
        if adapter in self.lora_variant:
            return self.lora_variant[adapter].forward(self, active_adapter=adapter, x=x, result=base) - base
        return lora_B(lora_A(self.lora_dropout[adapter](x))) * self.scaling[adapter]


class MaskedLinear(MaskedLora, peft_layer.Linear):
    pass


class MaskedConv2d(MaskedLora, peft_layer.Conv2d):
    pass


class MaskedConv3d(MaskedLora, peft_layer.Conv3d):
    pass


MASKED = {
    peft_layer.Linear: MaskedLinear,
    peft_layer.Conv2d: MaskedConv2d,
    peft_layer.Conv3d: MaskedConv3d,
}
PLAIN = {masked: plain for plain, masked in MASKED.items()}


def refuse_merging(layer: MaskedLora, adapter_names: list[str] | None) -> None:
    """Raises ValueError where a LoRA that is to be merged (`None`: the active ones) acts on some rows of the batch."""
    state = layer._duet.state
    names = [name for name in adapter_names or layer.active_adapters if name in layer.lora_A]
    for name in filter(state.acts_on_rows, names):
        ours = is_joint_lora(name) or name in state.managed
        call = f"take its mask away with patch.set_patch_lora_mask(model, '{name}', None)"
        raise ValueError(
            f"Adapter '{name}' acts on some rows of the batch only and cannot be merged into the weights: "
            f"{'pass the adapter_names of your own LoRAs' if ours else call}."
        )


def base_of(linear: nn.Module) -> nn.Module:
    """The model's own layer under PEFT's."""
    return linear.get_base_layer() if isinstance(linear, peft_layer.LoraLayer) else linear


def loras_disabled(layers: Iterable[nn.Module], places: LoraPlaces) -> bool:
    """Whether disable_adapters or disable_lora was called: on these layers, or on others where these have no LoRA."""
    own = [layer for layer in layers if isinstance(layer, BaseTunerLayer)] or places.layers[:1]
    return bool(own) and all(layer.disable_adapters for layer in own)


def refuse_fused_projections(attn: Attention) -> None:
    """Raises where a processor of `fuse_qkv_projections` leaves out LoRAs on q, k or v."""
    layers = (getattr(attn, name, None) for name in LAYERS)
    if type(attn.processor).__name__.startswith("Fused") and any(isinstance(each, BaseTunerLayer) for each in layers):
        raise ValueError(
            "fuse_qkv_projections leaves out the LoRAs of q, k and v: call unfuse_qkv_projections before the model "
            "runs with pairs or masks."
        )
