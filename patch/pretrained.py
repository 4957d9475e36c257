"""`save_pretrained` of a patched model writes the base model.

PEFT puts each weight that it wraps under `base_layer`; a folder saved like that cannot be loaded any more.
"""

import inspect

from peft.tuners.lora import LoraLayer
from torch import nn


class SavePretrained:
    """Stands on a patched model in place of its method; an object, so that copies and pickles save themselves."""

    def __init__(self, net: nn.Module):
        self.net = net

    @property
    def __signature__(self) -> inspect.Signature:
        """Pipelines look for the arguments that a model's method takes."""
        return inspect.signature(type(self.net).save_pretrained.__get__(self.net))

    def __call__(self, *args, **kwargs):
        handle = self.net.register_state_dict_post_hook(keep_base)
        try:
            return type(self.net).save_pretrained(self.net, *args, **kwargs)
        finally:
            handle.remove()


def keep_base(net: nn.Module, state_dict: dict, prefix: str, _) -> None:
    """Leaves the base's weights in `state_dict`, under the base's names and in their order."""
    layers = {f"{prefix}{path}." for path, module in net.named_modules() if isinstance(module, LoraLayer)}
    entries = list(state_dict.items())
    state_dict.clear()
    for key, value in entries:
        wrapper = next((layer for layer in layers if key.startswith(layer)), None)
        if wrapper is not None and key.startswith(f"{wrapper}base_layer."):
            state_dict[key.replace(".base_layer.", ".")] = value
        elif wrapper is None and ".joint_post." not in key:
            state_dict[key] = value
