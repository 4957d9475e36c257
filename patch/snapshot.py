"""Detects that weights have changed since something was computed from them.

PyTorch counts the changes of a tensor that are made in place, but not those made through `.data`, which moving averages
use. So values are compared too, all of a small tensor and some of a large one: at each call for weights in the CPU's
memory, for others only on request, since a forward must not wait for numbers from the device.
"""

from collections.abc import Iterable

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

WHOLE = 4096  # numbers in a tensor that is compared as a whole
PLACES = 64  # numbers that are compared of a larger one
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Views = dict[torch.dtype, list[torch.Tensor] | list[np.ndarray]]


class Snapshot:
    """Parameters and LoRA scales at one moment.

    A copy or a pickle keeps the values alone, and compares them with the copied parameters.
    """

    def __init__(self, modules: Iterable[nn.Module], layers: Iterable[LoraLayer]):
        """modules: their own parameters count, not their children's. layers: their scales and what is merged count."""
        self.places = [
            (module._parameters, key)
            for module in dict.fromkeys(modules)
            for key, value in module._parameters.items()
            if not (value is None or value.is_meta or is_traceable_wrapper_subclass(value))  # offloaded or quantised
        ]
        self.layers = list(layers)
        self.scales = self.read_scales()
        parameters = self.read_parameters()
        self.versions, self.addresses = self.read_versions(parameters), read_addresses(parameters)
        self.views = view_values(parameters)
        self.values = read_values(self.views)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"versions": None, "addresses": None, "views": None}

    def changed(self, everywhere: bool = False) -> bool:
        """Whether anything is different now. Weights that an offloading hook has taken away count as unchanged.

        everywhere: also compares values that are not in the CPU's memory.
        """
        if self.scales != self.read_scales():
            return True
        parameters = self.read_parameters()
        if any(parameter is None for parameter in parameters):  # pruned or parametrised
            return True
        if any(parameter.is_meta for parameter in parameters):
            return False
        versions, addresses = self.read_versions(parameters), read_addresses(parameters)
        if self.versions is not None and versions != self.versions:
            return True
        moved = self.views is None or addresses != self.addresses  # or copied
        if moved:
            self.versions, self.addresses, self.views = versions, addresses, view_values(parameters)
        if not (moved or everywhere or all(parameter.is_cpu for parameter in parameters)):
            return False
        values = read_values(self.views)
        return values.keys() != self.values.keys() or any(
            not np.array_equal(values[key], self.values[key]) for key in values
        )

    def release(self) -> None:
        """Lets go of the memory, for parameters that are about to be moved."""
        self.views = None

    def read_parameters(self) -> list[nn.Parameter | None]:
        return [parameters.get(key) for parameters, key in self.places]

    def read_versions(self, parameters: list[nn.Parameter]) -> list[int]:
        """How often each parameter was changed in place, and which layers the LoRAs are around."""
        counts = [0 if parameter.is_inference() else parameter._version for parameter in parameters]
        return counts + [id(layer.base_layer) for layer in self.layers]

    def read_scales(self) -> list[tuple]:
        return [
            (tuple(layer.scaling.items()), tuple(layer.merged_adapters), layer.disable_adapters)
            for layer in self.layers
        ]


def read_addresses(parameters: list[nn.Parameter]) -> list[int]:
    return [parameter.data_ptr() for parameter in parameters]


def view_values(parameters: list[nn.Parameter]) -> Views:
    """The numbers to compare, as integers, by dtype: views of the parameters."""
    views = {}
    for parameter in parameters:
        some = view_some(parameter.detach())
        views.setdefault(parameter.dtype, []).append(some.numpy() if some.is_cpu else some)
    return views


def read_values(views: Views) -> dict[torch.dtype, np.ndarray]:
    return {
        dtype: np.concatenate(some) if isinstance(some[0], np.ndarray) else torch.cat(some).cpu().numpy()
        for dtype, some in views.items()
    }


def view_some(tensor: torch.Tensor) -> torch.Tensor:
    """Some numbers of a tensor as integers, (n,), without a copy."""
    held = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    size = min(tensor.numel(), held)
    count = size if size <= WHOLE else PLACES
    spread = torch.as_strided(tensor, (count,), (max(1, size // max(1, count)),), tensor.storage_offset())
    return spread.view(BITS[tensor.element_size()])
