"""Fewer tokens of several frames: those of other frames that are most like one of the middle frame are merged into it.

Bipartite matching of token merging (ToMe, arXiv 2210.09461) across frames (VidToMe, arXiv 2312.10656). A key that
stands for s tokens has ln s added to its scores, so that equal tokens may be merged without any change.

Letters: K frames, N tokens, C channels, M tokens that are left.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class Matched:
    """Which tokens of K frames are merged into tokens of the middle frame.

    Attributes:
        kept: (M - N,) indices among the tokens of the other frames, all frames one after the other.
        merged: (m,) the other indices there.
        into: (m,) the token of the middle frame that each is merged into.
        sizes: (N,) how many tokens each token of the middle frame stands for.
        middle: Number of the middle frame.
    """

    kept: torch.Tensor
    merged: torch.Tensor
    into: torch.Tensor
    sizes: torch.Tensor
    middle: int

    def merge(self, x: torch.Tensor) -> torch.Tensor:
        """(K, N, C) -> (M, C): the means of the middle frame's tokens with what is merged into them, and the others."""
        others = other_frames(x, self.middle)
        sums = x[self.middle].index_add(0, self.into, others.index_select(0, self.merged))
        means = sums / self.sizes.to(x)[:, None]
        return torch.cat([means, others.index_select(0, self.kept)])

    @property
    def bias(self) -> torch.Tensor:
        """(M,), to add to the scores of each token."""
        return torch.cat([self.sizes.log(), self.sizes.new_zeros(len(self.kept))])


def match_tokens(hidden: torch.Tensor, share: float) -> Matched:
    """Which tokens of K frames (K, N, C) are merged.

    Args:
        share: Of the tokens of all frames but the middle one, 0 to 1; those with the largest cosine are taken.
    """
    K, N, _ = hidden.shape
    middle = (K - 1) // 2
    tokens = F.normalize(hidden.detach().float(), dim=-1)
    others = other_frames(tokens, middle)
    # Frame by frame, since all scores at once would be the memory that merging saves.
    best = [(part @ tokens[middle].T).max(dim=-1) for part in others.split(N)]
    scores, into = (torch.cat([getattr(one, name) for one in best]) for name in ("values", "indices"))
    order = scores.argsort(descending=True, stable=True)
    merged, kept = order.split([round(share * len(order)), len(order) - round(share * len(order))])
    into = into.index_select(0, merged)
    sizes = torch.ones(N, device=hidden.device).index_add(0, into, torch.ones(len(into), device=hidden.device))
    return Matched(kept, merged, into, sizes, middle)


def other_frames(x: torch.Tensor, middle: int) -> torch.Tensor:
    """(K, N, C) -> ((K - 1) N, C) without the middle frame."""
    return torch.cat([x[:middle], x[middle + 1 :]]).flatten(0, 1)
