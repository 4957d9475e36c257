"""Sets the pairs of a batch and the masks of its adapters: before a call, and left alone until after backward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import index as as_integer

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from patch.call import check_present, hack_lora_forward
from patch.lora import MaskedLora
from patch.network import label, lora_layers, patched_network, posts_of
from patch.state import Mask, Pair, is_joint_lora, is_weight, joint_name
from patch.surgery import drop_memory


def set_pairs(model, pairs: Sequence[Pair | tuple], batch_size: int | None = None) -> None:
    """Sets the samples of the batch that are generated together; an empty list removes all pairs.

    pairs: `(x, y)`, `(x, y, name)`, `(x, y, name, weight)`, `(x, y, name, weight, direction)` or `Pair`, where x and y
    are indices in the batch. Guidance copies are further pairs. LoRAs of the adapters follow from the pairs unless
    they have a mask: `{name}_xy_lora` where x reads, `{name}_yx_lora` where y reads, `{name}_y_lora` on y.
    batch_size: needed only when the last samples of the batch are in no pair.
    Raises ValueError for an unknown adapter or an impossible pair; a batch of another size raises when the model runs.
    """
    net = patched_network(model)
    pairs = tuple(pair if isinstance(pair, Pair) else _pair(pair) for pair in pairs)
    for pair in pairs:
        _check_known(net, pair.name)
    needed = 1 + max((max(pair.x, pair.y) for pair in pairs), default=-1)
    if batch_size is not None and batch_size < needed:
        raise ValueError(f"batch_size={batch_size} is too small for pairs that name sample {needed - 1}.")
    hack_lora_forward(net)
    check_present(net._duet, {pair.name for pair in pairs})
    drop_memory(net)
    net._duet.update(device_of(net), pairs=pairs, samples=batch_size or needed, given=(), recording=False)


def clear_pairs(model) -> None:
    """Removes all pairs; masks stay."""
    set_pairs(model, ())


def set_pair_weights(model, weights: Sequence, weights_y: Sequence | None = None) -> None:
    """Replaces the weights of the pairs that are set, in their order, and those of their y sides (by default the same).

    For weights that change from step to step give tensors at every step, the first included: then a compiled model
    is not compiled again.
    """
    net = patched_network(model)
    pairs = net._duet.settings.pairs
    weights_y = weights if weights_y is None else weights_y
    if not len(weights) == len(weights_y) == len(pairs):
        raise ValueError(f"{len(weights)} and {len(weights_y)} weights were given for {len(pairs)} pairs.")
    pairs = tuple(
        Pair(p.x, p.y, p.name, w, p.direction, w_y) for p, w, w_y in zip(pairs, weights, weights_y, strict=True)
    )
    net._duet.reweigh(device_of(net), pairs)


def get_pairs(model) -> tuple[Pair, ...]:
    """The pairs that are set."""
    return patched_network(model)._duet.settings.pairs


def set_joint_attention_mask(model, mask: Sequence[int] | None) -> None:
    """Sets pairs by one entry per sample, 1 for an x and 0 for a y: the k-th x with the k-th y. `None` removes them."""
    if mask is None:
        clear_pairs(model)
        return
    values = mask_values(mask, "The joint attention mask")
    if not set(values) <= {0, 1}:
        raise ValueError(
            f"The joint attention mask {list(values)} has other entries than 0 and 1: give 1 for an x, 0 for a y."
        )
    x = [i for i, value in enumerate(values) if value]
    y = [i for i, value in enumerate(values) if not value]
    if len(x) != len(y):
        raise ValueError(f"The joint attention mask has {len(x)} x and {len(y)} y samples: each x needs its y.")
    set_pairs(model, list(zip(x, y, strict=True)), batch_size=len(values))


def set_patch_lora_mask(model, adapter: str, mask: Sequence | None, kv_mask: Sequence | None = None) -> None:
    """Gives a LoRA one weight per sample of the batch, guidance copies included, and activates it beside the others.

    mask: finite numbers, factors of the adapter's update; 0 leaves a sample alone.

    A self adapter acts on the samples of its mask; with `None` on all, as in PEFT. A joint adapter changes q and out of
    the samples of its mask and the k and v that they read; with `None` those of the pairs.
    kv_mask: the samples whose own k and v the joint adapter changes instead, whoever reads them.
    Raises ValueError for an unknown adapter or a mask that is no list of finite numbers.
    """
    net = patched_network(model)
    known = list(getattr(net, "peft_config", {}))
    if mask is None and adapter in net._duet.settings.masks:  # also of an adapter that is gone
        drop_memory(net)
        net._duet.set_mask(device_of(net), adapter, None)
        return
    if adapter not in known:
        raise ValueError(f"There is no adapter '{adapter}': the model has {', '.join(known) or 'none'}.")
    hack_lora_forward(net)
    check_maskable(net, adapter)
    if mask is not None:
        mask = _mask(adapter, mask, kv_mask)
        _activate(net, adapter)
    drop_memory(net)
    net._duet.set_mask(device_of(net), adapter, mask)


def set_frames(model, groups: Sequence[Sequence[int]], batch_size: int | None = None, merge: float = 0.0) -> None:
    """Sets the samples of the batch that are frames of one video; an empty list takes the attention across them away.

    In each patched self-attention a sample of a group reads the tokens of all of its group. The joint attention of
    pairs stays as it is, and other samples attend to themselves.

    patch.set_frames(unet, [(0, 1, 2), (3, 4, 5)])     # three frames, and their unconditional predictions

    groups: indices in the batch, each in one group at most.
    batch_size: needed only when the last samples of the batch are in no group.
    merge: share of the tokens of other frames, 0 to 1, that are merged into those of the middle frame of their group:
        less memory and time.
    Raises ValueError for impossible groups, and for a model whose samples have frames of their own.
    """
    net = patched_network(model)
    groups = tuple(tuple(map(as_integer, group)) for group in groups)
    needed = check_frames(net._duet, groups, merge)
    if batch_size is not None and batch_size < needed:
        raise ValueError(f"batch_size={batch_size} is too small for frames that name sample {needed - 1}.")
    hack_lora_forward(net)
    drop_memory(net)
    frames = {"frames": groups, "frame_samples": batch_size or needed, "merge": float(merge)}
    net._duet.update(device_of(net), **frames, given=(), recording=False)


def clear_frames(model) -> None:
    """Takes the attention across frames away; pairs and masks stay."""
    set_frames(model, ())


def check_frames(context, groups: tuple[tuple[int, ...], ...], merge: float) -> int:
    """Raises for impossible groups; returns how many samples they need."""
    if context.has_frames and groups:
        raise ValueError("The samples of this model have frames of their own: attention across samples is for images.")
    samples = [sample for group in groups for sample in group]
    if not all(groups) or len(set(samples)) != len(samples) or min(samples, default=0) < 0:
        raise ValueError(
            f"groups={[list(group) for group in groups]} has an empty group, a negative sample or one twice: name each "
            "sample once, counted from 0."
        )
    if not is_weight(merge) or not 0 <= merge <= 1:
        raise ValueError(f"merge={merge!r} is a share of tokens: pass a number from 0 to 1.")
    return 1 + max(samples, default=-1)


@contextmanager
def disabled(model) -> Iterator[None]:
    """Switches the joint attention off and keeps masks and `y_lora`: x and y as two separate models."""
    net = patched_network(model)
    before = net._duet.settings.enabled
    net._duet.update(device_of(net), enabled=False)
    try:
        yield
    finally:
        net._duet.update(device_of(net), enabled=before)


def _mask(adapter: str, mask: Sequence, kv_mask: Sequence | None) -> Mask:
    rows = mask_values(mask, f"The mask of '{adapter}'")
    kv = None if kv_mask is None else mask_values(kv_mask, f"The kv_mask of '{adapter}'")
    if kv is not None and len(kv) != len(rows):
        raise ValueError(f"mask has {len(rows)} entries and kv_mask {len(kv)}: both need one per sample.")
    return Mask(rows, kv)


def mask_values(mask: Sequence, what: str) -> tuple[float, ...]:
    """The entries of a mask: a list, tuple, array or tensor of finite numbers. what: begins the sentence otherwise."""
    entries = mask.tolist() if hasattr(mask, "tolist") else mask
    if isinstance(entries, list | tuple):
        numbers = [entry.item() if getattr(entry, "ndim", None) == 0 else entry for entry in entries]
        if numbers and all(is_weight(number) for number in numbers):
            return tuple(float(number) for number in numbers)
    raise ValueError(f"{what} is {mask!r}: give a list with one finite number for each sample of the batch.")


def device_of(net: nn.Module) -> torch.device:
    """Where the model runs: its parameters' device, or the one that an offloading hook moves it to."""
    hooked = getattr(getattr(net, "_hf_hook", None), "execution_device", None)
    if hooked is not None:
        return torch.device(hooked)
    device = next(net.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def check_maskable(net: nn.Module, adapter: str) -> None:
    """Raises where an adapter sits on layers that cannot tell samples apart."""
    layers = [(p, m) for p, m in net.named_modules() if isinstance(m, LoraLayer) and adapter in m.r]
    if not layers:
        raise ValueError(f"Adapter '{adapter}' is no LoRA: only LoRA layers obey a mask.")
    for path, layer in layers:
        if not isinstance(layer, MaskedLora):
            raise ValueError(
                f"Adapter '{adapter}' sits on {path}, a {type(layer).__module__}.{type(layer).__name__}, which cannot "
                "obey a mask: use LoRA on unquantised linear and convolution layers."
            )


def _activate(net: nn.Module, adapter: str) -> None:
    """As PEFT's set_adapter, active and trainable, but beside the adapters that are active already."""
    layers = [layer for layer in lora_layers(net) if adapter in layer.r]
    for layer in layers:
        if adapter not in layer.active_adapters:
            layer._active_adapter = [*layer.active_adapters, adapter]
            layer.set_requires_grad(adapter)
    if is_joint_lora(adapter) and adapter not in net._duet.managed:
        # PEFT has frozen the output projection together with the base.
        trained = any(layer.lora_A[adapter].weight.requires_grad for layer in layers)
        for post in posts_of(net, joint_name(adapter)):
            post.requires_grad_(trained)


def _pair(values: tuple) -> Pair:
    if not 2 <= len(values) <= 6:
        raise ValueError(f"{values} is no pair: give (x, y), then name, weight and direction, or a patch.Pair.")
    return Pair(*values)


def _check_known(net: nn.Module, name: str | None) -> None:
    known = net._duet.joints
    if not known:
        raise ValueError("The model has no joint layers: call patch.initialize_joint_layers or patch.add_joint first.")
    if name not in known:
        raise ValueError(f"There is no joint adapter {label(name)}: the model has {', '.join(map(label, known))}.")
