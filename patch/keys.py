"""State-dict keys of a patched model: the base's own weights keep the base's names.

PEFT puts each weight that it wraps under `base_layer`, and a folder saved like that cannot be loaded any more. With
these two hooks `save_pretrained` of a patched model writes a folder that is the base model to everyone else, and a
state dict loads into a patched model with either name.
"""

from torch import nn

WRAPPED = ".base_layer."


def add_key_hooks(net: nn.Module) -> None:
    net.register_state_dict_post_hook(hide_wrappers)
    net.register_load_state_dict_pre_hook(find_wrappers)


def remove_key_hooks(net: nn.Module) -> None:
    for hooks, ours in ((net._state_dict_hooks, hide_wrappers), (net._load_state_dict_pre_hooks, find_wrappers)):
        for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) is ours]:
            del hooks[key]


def hide_wrappers(net: nn.Module, state_dict: dict, prefix: str, _) -> None:
    """`….to_q.base_layer.weight` -> `….to_q.weight`, in the same order."""
    entries = list(state_dict.items())
    state_dict.clear()
    for key, value in entries:
        state_dict[key.replace(WRAPPED, ".") if key.startswith(prefix) else key] = value


def find_wrappers(net: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """The way back, for the layers that are wrapped now."""
    wrapped = (f"{prefix}{name}" for name, _ in net.named_parameters() if WRAPPED in name)
    for key in wrapped:
        plain = key.replace(WRAPPED, ".")
        if plain in state_dict and key not in state_dict:
            state_dict[key] = state_dict.pop(plain)
