"""Attention of projected queries, keys and values, as the stock processors of diffusers compute it."""

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0


def attend(attn, query, key, value, mask, bias=None):
    """softmax(scale * q k^T + bias) v over heads, (R, N, C) -> (R, N, C). bias: (tokens of the keys,), or `None`."""
    R, N, C = query.shape
    query, key, value = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    if mask is not None:
        mask = attn.prepare_attention_mask(mask, key.shape[2], R)
        mask = mask.view(R, attn.heads, -1, mask.shape[-1])
    if bias is not None:
        mask = bias.to(query)[None, None, None]
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
