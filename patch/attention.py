"""The mathematics: self-attention plus attention to the partner's row, with the weights of the self-attention.

    h + Attn(h) + weight * post(Attn_joint(q = own row, k and v = partner's row))        (UniCon, arXiv 2410.11439)

Where samples are frames of one video, self-attention reads the other frames too (`frames.py`).

The post "aligned" also takes the value v of the partner's token at the reader's own position: post(Attn_joint(...), v).

Letters: R rows of a layer, L of them that read (L links), N tokens, C channels.
"""

from typing import NamedTuple

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from patch.fast import folded_post
from patch.frames import attend_frames, refuse_frames
from patch.lora import LAYERS, MaskedLora, base_of, loras_disabled, refuse_fused_projections
from patch.post import cast_input, post_key
from patch.softmax import attend, stock_attention
from patch.state import FrameGroups, Fusion, Links, Reads, Rows


class JointAttention(Attention):
    """`Attention` plus the joint attention of the pairs and the attention across the frames that are set; without
    either exactly `Attention`."""

    def forward(self, hidden_states, encoder_hidden_states=None, attention_mask=None, **kwargs):
        context = getattr(self, "_duet", None)
        if context is None:
            # Offloading hooks keep this method after the patch is gone, where `super()` would fail.
            return Attention.forward(self, hidden_states, encoder_hidden_states, attention_mask, **kwargs)
        links, frames = context.state.links, context.state.frames
        if encoder_hidden_states is not None or (frames is None and (links is None or not is_joint(self, links))):
            return super().forward(hidden_states, encoder_hidden_states, attention_mask, **kwargs)
        context.check_layer(hidden_states)
        if links is not None and (not is_joint(self, links) or loras_disabled(adapted_layers(self), context.places)):
            links = None
        if frames is not None:
            refuse_frames(attention_mask, kwargs, shares_projections(self), self.processor)
        elif links is None:
            return super().forward(hidden_states, None, attention_mask, **kwargs)
        refuse_fused_projections(self)
        if kwargs or not shares_projections(self):
            own = super().forward(hidden_states, None, attention_mask, **kwargs)
            updates = joint_updates(self, hidden_states, (None, None, None), links, attention_mask)
            return add_updates(own.clone(), updates)
        return shared_attention(self, hidden_states, links, attention_mask, frames)

    def _apply(self, fn, recurse=True):
        context = getattr(self, "_duet", None)
        if context is not None:
            context.release()
        return super()._apply(fn, recurse)


def is_joint(attn: Attention, links: Links) -> bool:
    """Whether one of the links' adapters is in this layer: not every adapter is in the attention over time."""
    posts = getattr(attn, "joint_post", {})
    return any(post_key(fusion.name) in posts for fusion in links.fusions)


def adapted_layers(attn: Attention) -> list[nn.Module]:
    """The layers that a joint LoRA is for."""
    return [*(getattr(attn, name) for name in LAYERS), attn.to_out[0]]


def shares_projections(attn: Attention) -> bool:
    """Whether self-attention can be computed here as the stock processor does, from projections made before."""
    plain = attn.group_norm is None and attn.spatial_norm is None and not attn.residual_connection
    stock = type(attn.processor) in (AttnProcessor2_0, AttnProcessor) and attn.rescale_output_factor == 1
    layers = [getattr(attn, name) for name in LAYERS]
    return plain and stock and all(isinstance(a, MaskedLora) or not isinstance(a, BaseTunerLayer) for a in layers)


def shared_attention(attn, hidden, links: Links | None, mask, frames: FrameGroups | None):
    """Both attentions from one base projection of q, k and v. hidden: (R, N, C)"""
    layers = [getattr(attn, name) for name in LAYERS]
    base = [base_of(layer)(hidden) for layer in layers]
    # First, as self adapters change the base in place.
    updates = [] if links is None else joint_updates(attn, hidden, base, links, mask)
    query, key, value = (with_self_adapters(a, b, hidden) for a, b in zip(layers, base, strict=True))
    if frames is None:
        out = stock_attention(attn, query, key, value, mask)
    else:
        out = attend_frames(attn, query, key, value, hidden, frames)
    return add_updates(project_out(attn, out), updates)


def joint_updates(attn, hidden, base, links: Links, mask) -> list[tuple[Rows, torch.Tensor]]:
    """What readers get from their sources, (L, N, C) each. base: the base's q, k and v of all rows, or `None`."""
    updates = []
    for fusion in links.fusions:
        if post_key(fusion.name) not in attn.joint_post:
            continue
        sides = (fusion.x, fusion.y)
        outs = [reads and read(attn, reads, hidden, base, mask) for reads in sides]
        if links.recording:
            continue
        projected = project_post(attn, fusion, outs)
        updates += [(r.readers, update) for r, update in zip(sides, projected, strict=True) if update is not None]
    return updates


def add_updates(own: torch.Tensor, updates: list[tuple[Rows, torch.Tensor]]) -> torch.Tensor:
    for rows, update in updates:
        own = rows.add_(own, update)
    return own


class Read(NamedTuple):
    """What readers got from their sources, and the sources' values, both (L, N, C)."""

    out: torch.Tensor
    values: torch.Tensor


def read(attn, reads: Reads, hidden, base, mask) -> Read | None:
    """Attention of the readers to their sources; `None` where the sources are only recorded."""
    if reads.sources is None:
        key, value, mask = attn.joint_memory.get(reads.slot)
    else:
        asked = reads.sources.take(hidden)
        key, value = (
            joint_layer(layer, asked, take(reads.sources, b), reads.memory)
            for layer, b in zip((attn.to_k, attn.to_v), base[1:], strict=True)
        )
        mask = take(reads.sources, mask)
    if reads.readers is None:
        return attn.joint_memory.put(reads.slot, key, value, mask)
    query = joint_layer(attn.to_q, reads.readers.take(hidden), take(reads.readers, base[0]), reads.query)
    return Read(attend(attn, query, key, value, mask), value)


def joint_layer(layer: nn.Module, x: torch.Tensor, base: torch.Tensor | None, adapters: dict[str, Rows]):
    """base + joint adapters; never a self adapter. base: the base's output for x, or `None`; it is left as it is."""
    result = base_of(layer)(x) if base is None else base
    if isinstance(layer, MaskedLora):
        result = layer.add_joint(result, x, adapters)
    return result.clone() if result is base else result  # self adapters change the base in place


def with_self_adapters(layer: nn.Module, base: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return layer.add_self(base, x) if isinstance(layer, MaskedLora) else base


def project_post(attn, fusion: Fusion, sides: list[Read | None]) -> tuple[torch.Tensor | None, ...]:
    """Output projections of what x and y read, the attention's own first; only "aligned" needs the values too."""
    outs, values = zip(*(side or (None, None) for side in sides), strict=True)
    post = folded_post(attn, fusion)
    if post is None:
        post = attn.joint_post[post_key(fusion.name)]
        queries = [reads and reads.query for reads in (fusion.x, fusion.y)]
        outs = [cast_input(post, project_read(attn, *side)) for side in zip(outs, queries, strict=True)]
        values = [cast_input(post, value) for value in values] if post.ALIGNED else values
    return post(*outs, *values) if post.ALIGNED else post(*outs)


def project_read(attn, out: torch.Tensor | None, adapters: dict[str, Rows] | None) -> torch.Tensor | None:
    return None if out is None else attn.to_out[1](joint_layer(attn.to_out[0], out, None, adapters))


def project_out(attn, out: torch.Tensor) -> torch.Tensor:
    return attn.to_out[1](attn.to_out[0](out))


def take(rows: Rows, x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else rows.take(x)


def noise_weight(t_x: torch.Tensor, t_y: torch.Tensor) -> torch.Tensor:
    """Weight of what x receives, by the noise levels of both sides: sigmoid(3 (t_y / (t_x + t_y) - 1/2)) (JointDiT).

    t_x, t_y: noise levels of any shape and unit, 0 for a given side; 1/2 where both are given. Swap them for y.
    """
    t_x, t_y = (torch.as_tensor(t).float() for t in (t_x, t_y))
    total = t_x + t_y
    share = torch.where(total > 0, t_y / total.clamp(min=torch.finfo(torch.float32).tiny), 0.5)
    return torch.sigmoid(3 * (share - 0.5))
