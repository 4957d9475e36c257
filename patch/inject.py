"""Adds LoRAs to networks, also to those without `add_adapter`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftConfig, inject_adapter_in_model
from torch import nn

from patch.network import lora_layers, network


def add_adapter(model, config: PeftConfig, adapter_name: str = "default", beside: bool = False) -> None:
    """Adds an adapter to any model, as `model.add_adapter` does where there is one (not in SVD and PixArt).

    beside: the other adapters stay active, and what is trainable stays so; by default the new one alone is both.
    Raises ValueError when the name is taken.
    """
    net = network(model)
    if adapter_name in getattr(net, "peft_config", {}):
        raise ValueError(f"The model has an adapter '{adapter_name}' already: choose another name.")
    if beside:
        with others_unchanged(net, adapter_name):
            inject(net, config, adapter_name)
        return
    inject(net, config, adapter_name)
    for layer in lora_layers(net):
        layer.set_adapter([adapter_name])


def inject(net: nn.Module, config: PeftConfig, adapter_name: str) -> None:
    """PEFT's own, which leaves the layers that it adds enabled where `disable_adapters` was called before."""
    disabled = any(layer.disable_adapters for layer in lora_layers(net))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what is wanted
        inject_adapter_in_model(config, net, adapter_name)
    for layer in lora_layers(net):
        layer._disable_adapters = disabled
    if hasattr(net, "set_adapter"):
        net._hf_peft_config_loaded = True


@contextmanager
def others_unchanged(net: nn.Module, adapter: str) -> Iterator[None]:
    """Leaves the others active and what is trainable trainable, where PEFT activates and trains the new adapter alone.

    PEFT also takes merged LoRAs out of the weights. They are active then instead: a layer with a merged LoRA would pass
    over the new one.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    active = {
        layer: list(dict.fromkeys([*layer.merged_adapters, *layer.active_adapters])) for layer in lora_layers(net)
    }
    yield
    for layer in lora_layers(net):
        layer._active_adapter = active.get(layer, []) + ([adapter] if adapter in layer.r else [])
    for parameter, flag in flags:
        parameter.requires_grad_(flag)


@contextmanager
def kept_merged(net: nn.Module) -> Iterator[None]:
    """Leaves merged what `fuse_lora` has merged, while a LoRA is added that acts on rows of its own."""
    merged = {layer: layer.merged_adapters for layer in lora_layers(net) if layer.merged_adapters}
    for layer in merged:
        layer.merged_adapters = []
    try:
        yield
    finally:
        for layer, adapters in merged.items():
            layer.merged_adapters = adapters
