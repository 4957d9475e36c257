"""The fast path for inference, beside `patch/lora.py` and `patch/attention.py`: the same sums with plain matrices.

Everything here is made of buffers that no state dict holds; the weights that they come from stay as they are.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from patch.post import post_key
from patch.state import Fusion, Rows, rows_per_sample


class ThinLora(nn.Module):
    """A LoRA as a pair of thin matrices, with its scale in the second, added to the base's output in one call."""

    def __init__(self, down: torch.Tensor, up: torch.Tensor):
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, x: torch.Tensor, base: torch.Tensor, in_place: bool = False) -> torch.Tensor:
        """base + LoRA(x), both (n, ..., C); in place, `base` may be some rows of a larger tensor."""
        thin, flat = F.linear(x, self.down).flatten(0, -2), base.flatten(0, -2)
        up = self.up.t().to(thin.dtype)  # as autocast has made the other two
        return flat.addmm_(thin, up).view(base.shape) if in_place else torch.addmm(flat, thin, up).view(base.shape)


class Folded(nn.ModuleDict):
    """Matrices by adapter or output projection; made_with: the LoRAs' scales in them, and what was merged then."""

    made_with: tuple[dict[str, float], tuple[str, ...]] = ({}, ())


class Matrix(nn.Module):
    """A linear layer with others folded into it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


def fast_form(module: nn.Module, key: str, layer: nn.Module) -> nn.Module | None:
    """What `patch.fuse` has made of an adapter in a LoRA layer, or of an output projection in an attention.

    layer: the one whose scales are folded in. Before an eager call they are brought up to date; a compiled model goes
    step by step where they have changed.
    """
    forms = module._modules.get("joint_fused")
    if forms is None or key not in forms:
        return None
    if torch.compiler.is_compiling() and not same_scales(layer, *forms.made_with):
        return None
    return forms[key]


def same_scales(layer: nn.Module, scales: dict[str, float], merged: tuple[str, ...]) -> bool:
    if not scales:
        return True
    return tuple(layer.merged_adapters) == merged and all(layer.scaling.get(a) == s for a, s in scales.items())


def add_thin_(layer: nn.Module, adapter: str, rows: Rows, result: torch.Tensor, x: torch.Tensor) -> bool:
    """Adds a thin pair to its rows of `result` in place; `False` where it has to be done step by step."""
    form = fast_form(layer, adapter, layer)
    if not isinstance(form, ThinLora) or rows.span is None or rows.weight is not None:
        return False
    form(rows.take(x), rows.take(result), in_place=True)
    return True


def merged_output(layer: nn.Module, x: torch.Tensor, rows: dict[str, Rows | None]) -> torch.Tensor | None:
    """Each adapter's rows through its merged matrix, all others through the base; `None` where that cannot be."""
    if trains(layer.base_layer):
        return None
    forms = {adapter: fast_form(layer, adapter, layer) for adapter in rows}
    if not rows or not all(isinstance(form, Matrix) for form in forms.values()):
        return None
    if not all(acts is not None and acts.span is not None and acts.weight is None for acts in rows.values()):
        return None
    spans = sorted((*acts.span, adapter) for adapter, acts in rows.items())
    if any(start + length > after for (start, length, _), (after, *_) in pairwise(spans)):
        return None
    total = next(iter(rows.values())).total
    repeats, end, parts = rows_per_sample(x, total), 0, []
    for start, length, adapter in [*spans, (total, 0, None)]:
        if start > end:
            parts.append(layer.base_layer(x.narrow(0, end * repeats, (start - end) * repeats)))
        if length:
            parts.append(forms[adapter](x.narrow(0, start * repeats, length * repeats)))
        end = start + length
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def folded_post(attn: nn.Module, fusion: Fusion) -> nn.Module | None:
    """The output projection with the attention's own in it; `None` where a mask changes what is in it."""
    out = attn.to_out[0]
    form = fast_form(attn, post_key(fusion.name), out)
    usual = all(reads is None or reads.plain for reads in (fusion.x, fusion.y))
    return form if usual and not trains(getattr(out, "base_layer", out)) else None


def trains(linear: nn.Module) -> bool:
    """Whether its gradient is asked for, which would miss what goes through a matrix in its place."""
    return torch.is_grad_enabled() and linear.weight.requires_grad
