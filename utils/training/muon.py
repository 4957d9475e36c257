"""Muon: momentum whose matrices are made orthogonal before the step, beside AdamW for what is no matrix.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; steps as long as AdamW's: arXiv 2502.16982, eq. 4.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c of a X + b (X Xᵀ) X + c (X Xᵀ)² X: singular values go to about 1
NEWTON_SCHULZ_STEPS = 5
RMS = 0.2  # root mean square of an AdamW update, about
END_LAYERS = {"conv_in", "conv_out", "patch_embedding"}  # first and last convolutions of UNets and image encoders


class Muon(torch.optim.Optimizer):
    """Muon for groups with `matrices=True`, AdamW for all others.

    A convolution (out, in, k...) is taken as the matrix (out, in k...). An update of Muon has the root mean square
    `RMS` x lr, whatever the shape.

    Args:
        params: Optimizer groups; `matrices` is False by default.
        lr: Of groups without their own.
        betas, eps: Of AdamW.
        momentum: Of Muon, with Nesterov's step ahead.
        weight_decay: Of both, times lr.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, momentum=0.95, weight_decay=1e-2):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "matrices": False})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._step_matrices if group["matrices"] else self._step_others)(group, parameters)
        return loss

    def _step_matrices(self, group: dict, parameters: list[nn.Parameter]) -> None:
        averages = self._state(parameters, "momentum_buffer")
        gradients = [p.grad for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        for indices in _by_shape(ahead).values():
            stacked = torch.stack([ahead[i].flatten(1) for i in indices])
            updates = orthogonalize(stacked) * (-group["lr"] * RMS * max(stacked.shape[1:]) ** 0.5)
            for index, update in zip(indices, updates, strict=True):
                parameters[index].add_(update.view_as(parameters[index]))

    def _step_others(self, group: dict, parameters: list[nn.Parameter]) -> None:
        means, squares = self._state(parameters, "exp_avg"), self._state(parameters, "exp_avg_sq")
        gradients, (beta1, beta2) = [p.grad for p in parameters], group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        for parameter, mean, square in zip(parameters, means, squares, strict=True):
            state = self.state[parameter]
            state["step"] = state.get("step", 0) + 1
            spread = square.div(1 - beta2 ** state["step"]).sqrt_().add_(group["eps"])
            parameter.addcdiv_(mean, spread, value=-group["lr"] / (1 - beta1 ** state["step"]))

    def _state(self, parameters: list[nn.Parameter], name: str) -> list[torch.Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (B, M, N) with the same singular vectors and all singular values between about 0.7 and 1.2."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        squared = x @ x.mT
        x = a * x + (b * squared + c * squared @ squared) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def split_groups(model: nn.Module, groups: Iterable, learning_rate: float, matrix_rate: float) -> list[dict]:
    """Optimizer groups (or parameters) of a model, each split into matrices, for Muon, and the others.

    Biases, norms, embeddings and the first and last convolutions are no matrices here; those of LoRA are. A group's own
    learning rate scales `matrix_rate` by as much as it differs from `learning_rate`, unless that is 0.
    """
    matrices = _matrices(model)
    groups = list(groups)
    loose = [p for p in groups if not isinstance(p, dict)]
    found = [{"params": loose}] if loose else []
    found += [group for group in groups if isinstance(group, dict)]
    split = []
    for group in found:
        rate = group.get("lr", learning_rate)
        others = [p for p in group["params"] if id(p) not in matrices]
        chosen = [p for p in group["params"] if id(p) in matrices]
        if others:
            split.append({**group, "params": others, "lr": rate, "matrices": False})
        if chosen:
            ratio = rate / learning_rate if learning_rate else 1.0
            split.append({**group, "params": chosen, "lr": matrix_rate * ratio, "matrices": True})
    return split


def _matrices(model: nn.Module) -> set[int]:
    """The ids of the parameters that are matrices to Muon."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or not END_LAYERS.isdisjoint(name.split(".")):
            continue
        found |= {id(p) for p in module.parameters(recurse=False) if p.ndim >= 2}
    return found


def _by_shape(tensors: list[torch.Tensor]) -> dict[tuple[int, int], list[int]]:
    """Indices of the tensors of each shape (out, in k...)."""
    found = defaultdict(list)
    for index, tensor in enumerate(tensors):
        found[tensor.shape[0], tensor[0].numel()].append(index)
    return found
