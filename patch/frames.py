"""Self-attention across frames: a sample reads the tokens of all frames of its video.

    Attn(q_i, [k_1 ... k_K], [v_1 ... v_K])       for frame i of K        (extended attention of TokenFlow, 2307.10373)

No weights are new. With `merge` the keys and values of a video are fewer (`tokens.py`).
"""

import torch

from patch.softmax import attend, stock_attention
from patch.state import FrameGroups
from patch.tokens import match_tokens


def attend_frames(attn, query, key, value, hidden, frames: FrameGroups) -> torch.Tensor:
    """Attention of all samples, (R, N, C): in groups across frames, elsewhere each sample to itself.

    hidden: (R, N, C), what query, key and value were projected from.
    """
    parts = [
        attend_video(attn, *(rows.take(x) for x in (query, key, value, hidden)), frames.merge) for rows in frames.groups
    ]
    if frames.others is not None:
        parts += [stock_attention(attn, *(frames.others.take(x) for x in (query, key, value)), None)]
    out = torch.cat(parts)
    return out if frames.order is None else out.index_select(0, frames.order)


def attend_video(attn, query, key, value, hidden, merge: float) -> torch.Tensor:
    """Attention of K frames to one another. All (K, N, C) -> (K, N, C)"""
    K, N, C = query.shape
    bias = None
    if merge and K > 1:
        matched = match_tokens(hidden, merge)
        key, value, bias = matched.merge(key), matched.merge(value), matched.bias
    key, value = (x.reshape(1, -1, C) for x in (key, value))  # (1, M, C)
    return attend(attn, query.reshape(1, K * N, C), key, value, None, bias).view(K, N, C)


def refuse_frames(mask, kwargs: dict, shares: bool, processor) -> None:
    """Raises where something else than the stock processor would compute the self-attention."""
    if mask is not None or kwargs:
        raise ValueError(
            "Attention across frames takes no attention mask and no arguments of a processor: remove them."
        )
    if not shares:
        raise ValueError(
            f"Attention across frames needs the stock attention processor, not {type(processor).__name__}: call "
            "set_default_attn_processor, and undo slicing or fusing, before the model runs with frames."
        )
