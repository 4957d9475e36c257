"""Smaller LoRAs: of each layer's update B A the best approximation of a lower rank (Eckart and Young, 1936)."""

import torch

OWN_SCALES = ("rank_pattern", "alpha_pattern", "use_dora", "use_rslora")  # alpha / rank is not the one scale
NOTHING = 1e-6  # of the largest singular value


def cut_rank(config: dict, tensors: dict[str, torch.Tensor], rank: int) -> tuple[dict, dict[str, torch.Tensor]]:
    """Configuration and tensors of an adapter with LoRAs of at most this rank and the same scale.

    Output projections stay as they are. Raises ValueError when LoRAs of a larger rank have no single rank and scale.
    """
    lora = {role: _cut_fields(fields, rank) for role, fields in config["lora"].items()}
    kept = dict(tensors)
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        partner = key.removesuffix("lora_A.weight") + "lora_B.weight"
        kept[key], kept[partner] = _cut_product(tensors[key], tensors[partner], rank)
    ranks = {"rank": fields["r"], "alpha": fields["lora_alpha"]} if (fields := next(iter(lora.values()), None)) else {}
    return config | {"lora": lora} | ranks, kept


def _cut_fields(fields: dict, rank: int) -> dict:
    """The scale, alpha / rank, stays."""
    if fields["r"] <= rank:
        return fields
    if any(fields.get(option) for option in OWN_SCALES):
        raise ValueError("LoRAs with ranks of their own, DoRA or rsLoRA cannot be cut: load them as they are.")
    return fields | {"r": rank, "lora_alpha": fields["lora_alpha"] * rank / fields["r"]}


def _cut_product(A: torch.Tensor, B: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in, ...) and B (out, r, ...) of a lower rank, both equally large.

    Where the product has nothing, rows of A stay as they are beside zeros in B, as in a LoRA that is to be trained.
    """
    if len(A) <= rank:
        return A, B
    A, B = A.float(), B.float()
    right, R_A = torch.linalg.qr(A.flatten(1).T)
    left, R_B = torch.linalg.qr(B.flatten(1))
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T)
    count = min(rank, int((S > NOTHING * S[0]).sum()))
    root = S[:count].sqrt()
    new_A, new_B = A.flatten(1)[:rank].clone(), B.new_zeros(len(B), rank)
    new_A[:count] = (root[:, None] * Vh[:count]) @ right.T
    new_B[:, :count] = left @ (U[:, :count] * root)
    return new_A.reshape(rank, *A.shape[1:]), new_B.reshape(len(B), rank, *B.shape[2:])
