"""Checks before each call of a patched model: what other functions did to its LoRAs and weights since the last one."""

from collections.abc import Iterable

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from patch.context import Context
from patch.lora import MASKED, refuse_fused_projections
from patch.network import find_loras, label, patched_attentions, patched_network
from patch.state import ROLES, lora_name


def hack_lora_forward(model) -> None:
    """Lets LoRA layers obey a mask per sample and keeps the joint ones out of self-attention.

    Setting pairs or a mask does it too. At its next call the model also picks up LoRAs that were added later, and
    folds weights anew that have changed since `fuse`; a compiled model does not: call this again for either.
    """
    net = patched_network(model)
    pick_up_loras(net)
    if net._duet.fold is not None:
        net._duet.fold.check(net, everywhere=True)


def pick_up_loras(net: nn.Module) -> None:
    """Where LoRAs were added or removed: swaps the classes of new layers, and folds a fused model anew."""
    context = net._duet
    if context.places is not None and context.places.stand(getattr(net, "peft_config", {})):
        return
    for module in net.modules():
        if type(module) in MASKED:
            module.__class__ = MASKED[type(module)]
            module._duet = context
    unwrap_posts(net)
    context.see_loras(find_loras(net))
    if context.fold is not None:
        context.fold.renew(net)


def unwrap_posts(net: nn.Module) -> None:
    """Removes the wrappers that deleted LoRAs have left on the patch's own layers."""
    for _, attn in patched_attentions(net):
        for post in getattr(attn, "joint_post", {}).values():
            for name, layer in post.named_children():
                if isinstance(layer, LoraLayer) and not layer.r:
                    setattr(post, name, layer.get_base_layer())


def check_call(net: nn.Module, args: tuple, kwargs: dict) -> None:
    """Hook before each call: picks up what has changed, and raises ValueError where pairs or masks cannot be obeyed."""
    context = net._duet
    sample = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
    if torch.compiler.is_compiling():  # a traced call cannot change classes
        if context.has_frames:  # without them its layers check themselves, and this would be a graph of its own
            context.check(sample.shape[0])
        return
    if context.places is not None:
        pick_up_loras(net)
    context.check(sample.shape[0])
    if not context.state.idle:
        check_present(context, {pair.name for pair in context.settings.pairs})
        check_masked(context)
        check_stray(context)
        check_reached(context)
        for derived in context.derived():
            derived.check(net)


def check_stray(context: Context) -> None:
    """Raises where PEFT has put a LoRA on the patch's own layers, as it does with names like "proj"."""
    for path in context.places.stray:
        raise ValueError(
            f"A LoRA sits on {path}, an output projection of the patch: delete it, and give full paths as its "
            "target_modules."
        )


def check_present(context: Context, names: Iterable[str | None]) -> None:
    """Raises where LoRAs of joint adapters are gone."""
    known = context.places.adapters
    for name in names:
        if context.managed.intersection(lora_name(name, role) for role in ROLES) - known:
            raise ValueError(
                f"LoRAs of the joint adapter {label(name)} are gone, as after unload_lora or delete_adapters: call "
                "patch.remove_patch and load it again."
            )


def check_masked(context: Context) -> None:
    """Raises where a LoRA that has a mask is gone."""
    for adapter in context.settings.masks:
        if adapter not in context.places.adapters:
            raise ValueError(
                f"The LoRA '{adapter}' is gone, as after unload_lora or delete_adapters, but has a mask: add it again, "
                f"or call patch.set_patch_lora_mask(model, '{adapter}', None)."
            )


def check_reached(context: Context) -> None:
    """Raises where diffusers or PEFT passes over a LoRA that pairs or masks restrict to rows of the batch."""
    for layer in context.places.layers:
        for adapter in layer.merged_adapters:
            if context.state.acts_on_rows(adapter):
                raise ValueError(
                    f"The LoRA '{adapter}' is merged into the weights, where it acts on all rows of the batch: call "
                    "unfuse_lora before setting pairs or a mask for it."
                )
    for attn in context.places.attentions:
        refuse_fused_projections(attn)
    for block in context.places.blocks:
        if block._chunk_size is not None and block._chunk_dim == 0:
            raise ValueError(
                "enable_forward_chunking over the batch (dim=0) hides from LoRAs of the feed-forward layers which "
                "sample a row belongs to: use dim=1, or call disable_forward_chunking."
            )
