"""Smaller LoRAs: of each layer's update B A the best approximation of a lower rank (Eckart and Young, 1936)."""

import torch


def cut_rank(config: dict, tensors: dict[str, torch.Tensor], rank: int) -> tuple[dict, dict[str, torch.Tensor]]:
    """Configuration and tensors of an adapter whose LoRAs have at most this rank, at the same scale. Output projections stay."""
    lora = {role: _cut_fields(fields, rank) for role, fields in config["lora"].items()}
    kept = dict(tensors)
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        partner = key.removesuffix("lora_A.weight") + "lora_B.weight"
        kept[key], kept[partner] = _cut_product(tensors[key], tensors[partner], rank)
    first = next(iter(lora.values()))
    return config | {"lora": lora, "rank": first["r"], "alpha": first["lora_alpha"]}, kept


def _cut_fields(fields: dict, rank: int) -> dict:
    """alpha / rank, the scale, stays."""
    if fields["rank_pattern"] or fields["alpha_pattern"] or fields["use_dora"] or fields["use_rslora"]:
        raise ValueError("LoRAs with ranks of their own, DoRA or rsLoRA cannot be cut: load them as they are.")
    r = min(rank, fields["r"])
    return fields | {"r": r, "lora_alpha": fields["lora_alpha"] * r / fields["r"]}


def _cut_product(A: torch.Tensor, B: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in, ...) and B (out, r, ...) of a lower rank, both equally large."""
    if len(A) <= rank:
        return A, B
    right, R_A = torch.linalg.qr(A.float().flatten(1).T)
    left, R_B = torch.linalg.qr(B.float().flatten(1))
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T)
    count = min(rank, len(S))  # of a layer narrower than the rank the rest stays zero
    root = S[:count].sqrt()
    new_A, new_B = A.new_zeros(rank, right.shape[0]), B.new_zeros(len(B), rank)
    new_A[:count] = (root[:, None] * Vh[:count]) @ right.T
    new_B[:, :count] = left @ (U[:, :count] * root)
    return new_A.reshape(rank, *A.shape[1:]), new_B.reshape(len(B), rank, *B.shape[2:])
