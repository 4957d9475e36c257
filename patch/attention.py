"""The mathematics: self-attention plus attention to the partner's row, with the weights of the self-attention.

    h + Attn(h) + weight * post(Attn_joint(q = own row, k and v = partner's row))        (UniCon, arXiv 2410.11439)

Letters: R rows of a layer, L links (a row that reads another), N tokens, C channels.
"""

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from patch.lora import MaskedLora, base_of
from patch.post import cast_input, post_key
from patch.state import Links, rows_per_sample, scale_rows, spread

QUERY, MEMORY = 0, 1


class JointAttention(Attention):
    """`Attention` plus the joint attention of the pairs that are set; without pairs exactly `Attention`."""

    def forward(self, hidden_states, encoder_hidden_states=None, attention_mask=None, **kwargs):
        # Offloading hooks keep this method after the patch is gone; then neither `_duet` nor the class is there,
        # and `super()` without arguments would fail.
        context = getattr(self, "_duet", None)
        links = context.state.links if context is not None else None
        if links is None or encoder_hidden_states is not None or not is_joint(self, links):
            return Attention.forward(self, hidden_states, encoder_hidden_states, attention_mask, **kwargs)
        context.check_layer(hidden_states)
        if kwargs or not shares_projections(self):
            own = Attention.forward(self, hidden_states, None, attention_mask, **kwargs)
            return add_joint(self, own.clone(), hidden_states, None, links, attention_mask)
        return shared_attention(self, hidden_states, links, attention_mask)


def is_joint(attn: Attention, links: Links) -> bool:
    """Whether one of the links' adapters is in this layer: not every adapter is in the attention over time."""
    posts = getattr(attn, "joint_post", {})
    return any(post_key(fusion.name) in posts for fusion in links.fusions)


def shares_projections(attn: Attention) -> bool:
    """Whether self-attention can be computed here as the stock processor does, from projections made before."""
    plain = attn.group_norm is None and attn.spatial_norm is None and not attn.residual_connection
    stock = type(attn.processor) in (AttnProcessor2_0, AttnProcessor) and attn.rescale_output_factor == 1
    layers = (attn.to_q, attn.to_k, attn.to_v)
    return plain and stock and all(isinstance(a, MaskedLora) or not isinstance(a, BaseTunerLayer) for a in layers)


def shared_attention(attn, hidden, links: Links, mask):
    """Both attentions from one base projection of q, k and v. hidden: (R, N, C)"""
    layers = (attn.to_q, attn.to_k, attn.to_v)
    base = [base_of(layer)(hidden) for layer in layers]
    joint = joint_projections(attn, hidden, base, links)  # copies its rows, before the base is changed in place
    query, key, value = (with_self_adapters(a, b, hidden) for a, b in zip(layers, base, strict=True))
    own = project_out(attn, stock_attention(attn, query, key, value, mask))
    return add_joint(attn, own, hidden, joint, links, mask)


def add_joint(attn, own, hidden, joint, links: Links, mask):
    """Adds to `own`, (R, N, C), in place, what each reader gets from its source."""
    repeats = rows_per_sample(hidden, links.samples)
    query, key, value = joint or joint_projections(attn, hidden, (None, None, None), links)
    if mask is not None:
        mask = mask.index_select(0, spread(links.sources, repeats, mask.device))
    out = attend(attn, query, key, value, mask)  # (L, N, C)
    out = attn.to_out[1](joint_layer(attn.to_out[0], out, None, QUERY))
    readers = spread(links.readers, repeats, own.device)
    for (start, length), update in project_post(attn.joint_post, out, links, repeats):
        own.index_add_(0, readers.narrow(0, start, length), update.to(own.dtype))
    return own


def joint_projections(attn, hidden, base, links: Links):
    """q of the readers, k and v of the sources, each (L, N, C). base: the base's q, k and v of all rows, or `None`."""
    repeats = rows_per_sample(hidden, links.samples)
    readers = spread(links.readers, repeats, hidden.device)
    sources = spread(links.sources, repeats, hidden.device)
    asking, asked = hidden.index_select(0, readers), hidden.index_select(0, sources)
    query, key, value = base
    return (
        joint_layer(attn.to_q, asking, select(query, readers), QUERY),
        joint_layer(attn.to_k, asked, select(key, sources), MEMORY),
        joint_layer(attn.to_v, asked, select(value, sources), MEMORY),
    )


def joint_layer(layer: nn.Module, x: torch.Tensor, base: torch.Tensor | None, place: int) -> torch.Tensor:
    """base + joint adapters; never a self adapter."""
    base = base_of(layer)(x) if base is None else base
    return layer.add_joint(base, x, place) if isinstance(layer, MaskedLora) else base


def with_self_adapters(layer: nn.Module, base: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return layer.add_self(base, x) if isinstance(layer, MaskedLora) else base


def project_post(posts: nn.ModuleDict, out: torch.Tensor, links: Links, repeats: int):
    """Updates of the readers, each with the (start, length) of its rows."""
    updates = []
    for fusion in links.fusions:
        if post_key(fusion.name) not in posts:
            continue
        spans = [span and (span[0] * repeats, span[1] * repeats) for span in (fusion.x, fusion.y)]
        post = posts[post_key(fusion.name)]
        sides = post(*(cast_input(post, span and out.narrow(0, *span)) for span in spans))
        for samples, span, side in zip((fusion.x, fusion.y), spans, sides, strict=True):
            if span is not None:
                weight = None if links.weight is None else links.weight.narrow(0, *samples)
                updates.append((span, scale_rows(side, weight, repeats)))
    return updates


def attend(attn, query, key, value, mask):
    """softmax(scale * q k^T) v over heads, (R, N, C) -> (R, N, C)."""
    R, N, C = query.shape
    query, key, value = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    if mask is not None:
        mask = attn.prepare_attention_mask(mask, key.shape[2], R)
        mask = mask.view(R, attn.heads, -1, mask.shape[-1])
    # With the default scale the stock processor's own call, bit by bit.
    scale = None if attn.scale_qk else attn.scale
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).reshape(R, N, C).to(query.dtype)


def stock_attention(attn, query, key, value, mask):
    """Self-attention as the processor in place computes it."""
    if isinstance(attn.processor, AttnProcessor2_0):
        return attend(attn, query, key, value, mask)
    mask = attn.prepare_attention_mask(mask, key.shape[1], key.shape[0])
    query, key, value = (attn.head_to_batch_dim(t) for t in (query, key, value))
    return attn.batch_to_head_dim(torch.bmm(attn.get_attention_scores(query, key, mask), value))


def project_out(attn, out: torch.Tensor) -> torch.Tensor:
    return attn.to_out[1](attn.to_out[0](out))


def select(x: torch.Tensor | None, index: torch.Tensor) -> torch.Tensor | None:
    return None if x is None else x.index_select(0, index)


def noise_weight(t_x: torch.Tensor, t_y: torch.Tensor) -> torch.Tensor:
    """Weight of what x receives, by the noise levels of both sides: sigmoid(3 (t_y / (t_x + t_y) - 1/2)) (JointDiT).

    t_x, t_y: noise levels of any shape and unit, 0 for a given side; 1/2 where both are given. Swap them for y.
    """
    t_x, t_y = (torch.as_tensor(t).float() for t in (t_x, t_y))
    total = t_x + t_y
    share = torch.where(total > 0, t_y / total.clamp(min=torch.finfo(torch.float32).tiny), 0.5)
    return torch.sigmoid(3 * (share - 0.5))
