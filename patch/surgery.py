"""Puts the patch into a model and takes it out again."""

from diffusers.models.attention_processor import Attention
from peft.tuners.lora import LoraLayer
from torch import nn

from patch.attention import JointAttention
from patch.call import check_call
from patch.context import Context
from patch.lora import PLAIN
from patch.merging import FuseLora
from patch.network import (
    has_frames,
    is_patched,
    label,
    lora_layers,
    network,
    patched_attentions,
    patched_network,
    refuse_offloaded,
    self_attentions,
)
from patch.post import build_post, post_key
from patch.pretrained import SavePretrained
from patch.state import JointSpec, is_joint_lora, lora_name

POST_RANK = 128


def apply_patch(model, temporal: bool = False) -> nn.Module:
    """Prepares every spatial self-attention of a model, or of a pipeline's model, for the joint attention.

    The output stays bit-equal; a second call is harmless. Returns the model.

    temporal: also the attention over time of SVD and of motion modules.
    Raises ValueError when the model has no such block, is offloaded, or has another patch on these layers.
    """
    net = network(model)
    refuse_offloaded(net)
    context = net.__dict__.get("_duet") or Context(has_frames(net), active_lora_names(net))
    layers = [(path, attn) for path, attn in self_attentions(net, temporal) if "_duet" not in attn.__dict__]
    if not layers and not is_patched(net):
        raise ValueError(f"{type(net).__name__} has no BasicTransformerBlock with self-attention: nothing to patch.")
    for path, attn in layers:
        # The class alone may be a leftover: another patch that put it back after remove_patch.
        if type(attn) not in (Attention, JointAttention) or "forward" in attn.__dict__:
            raise ValueError(f"Another patch has replaced {path}: remove it, or apply it after patch.apply_patch.")
    for _, attn in layers:
        attn.__class__ = JointAttention
        attn._duet = context
    if not is_patched(net):
        net._duet = context
        net.register_forward_pre_hook(check_call, with_kwargs=True)
        net.save_pretrained = SavePretrained(net)
        if hasattr(net, "fuse_lora"):
            net.fuse_lora = FuseLora(net)
    if temporal:
        context.include_time()
    return model if isinstance(model, nn.Module) else net


def initialize_joint_layers(model, name: str | None = None, post: str = "fuse", post_rank: int = POST_RANK) -> None:
    """Gives every patched self-attention the zero-initialised output projection of a joint adapter.

    name: the adapter's, `None` the unnamed one. post: "fuse" (2C -> post_rank -> 2C on what both sides read),
    "conv" (C -> C for each side), "conv_fuse" (2C -> 2C) or "aligned" (for each side what it read and the partner's
    value at the same position -> post_rank -> C: for pairs that are aligned by pixel). Called again with the same
    arguments it changes nothing.
    """
    net = patched_network(model)
    refuse_offloaded(net)
    check_name(name)
    add_posts(net, JointSpec(name, post, post_rank, net._duet.temporal))


def remove_patch(model) -> nn.Module:
    """Takes the patch out: outputs, state-dict keys, classes and attributes are the base's again.

    Adapters that the patch added, loaded or masked go with it; a user's other LoRAs stay. Without a patch it does
    nothing. Returns the model.
    """
    net = network(model)
    context = net.__dict__.get("_duet")
    if context is not None:
        delete_adapters(net, owned_adapters(net), context.active_before)
        for module in net.modules():
            _restore(module)
        for key in [key for key, hook in net._forward_pre_hooks.items() if hook is check_call]:
            del net._forward_pre_hooks[key], net._forward_pre_hooks_with_kwargs[key]
        for method in ("save_pretrained", "fuse_lora"):
            net.__dict__.pop(method, None)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name.replace(".base_layer", "") in context.frozen)
    return model if isinstance(model, nn.Module) else net


def _restore(module: nn.Module) -> None:
    if module.__dict__.pop("_duet", None) is None:
        return
    for child in ("joint_post", "joint_memory", "joint_fused"):
        module._modules.pop(child, None)
    if type(module) is JointAttention:
        module.__class__ = Attention
    elif type(module) in PLAIN:
        module.__class__ = PLAIN[type(module)]


def drop_memory(net: nn.Module) -> None:
    """Frees the keys and values of given samples."""
    for _, attn in patched_attentions(net):
        attn._modules.pop("joint_memory", None)
    net._duet.keep_recording(None)


def check_name(name: str | None) -> None:
    if name is not None and not (isinstance(name, str) and name.replace("-", "_").isidentifier()):
        raise ValueError(f"name={name!r} cannot name an adapter: use letters, digits, '_' and '-', no digit first.")


def owned_adapters(net: nn.Module) -> set[str]:
    """LoRAs that belong to the patch: added, loaded or masked by it, or with the role joint."""
    context = net._duet
    joint = {lora_name(name, "y") for name in {pair.name for pair in context.settings.pairs}}
    return {a for a in getattr(net, "peft_config", {}) if is_joint_lora(a) or a in context.owned | joint}


def delete_adapters(net: nn.Module, adapters: set[str], active_before: tuple[str, ...]) -> None:
    """Deletes LoRAs and unwraps the layers that have none left (PEFT leaves the wrappers)."""
    for path, layer in [(p, m) for p, m in net.named_modules() if isinstance(m, LoraLayer)]:
        mine = [adapter for adapter in adapters if adapter in layer.r]
        left = [name for name in layer.r if name not in adapters]
        active = [name for name in layer.active_adapters if name in left]
        layer._active_adapter = active or [name for name in active_before if name in left]
        for adapter in mine:
            layer.delete_adapter(adapter)
        if mine and not left:
            parent, _, child = path.rpartition(".")
            setattr(net.get_submodule(parent), child, layer.base_layer)
    for adapter in adapters:
        net.peft_config.pop(adapter, None)
    if adapters and not net.peft_config:
        del net.peft_config
        net.__dict__.pop("_hf_peft_config_loaded", None)


def active_lora_names(net: nn.Module) -> tuple[str, ...]:
    return tuple(next((layer.active_adapters for layer in lora_layers(net)), ()))


def add_posts(net: nn.Module, spec: JointSpec) -> None:
    """Makes a joint adapter known and adds its output projections where they are missing."""
    known = net._duet.joints.get(spec.name, spec)
    if net._duet.fold is not None and spec.name not in net._duet.joints:
        raise ValueError(f"The model is fused: call patch.unfuse before adding the adapter {label(spec.name)}.")
    if (known.post, known.post_rank) != (spec.post, spec.post_rank):
        raise ValueError(
            f"The joint adapter {label(spec.name)} exists with post='{known.post}' and post_rank={known.post_rank}: "
            "choose another name."
        )
    key = post_key(spec.name)
    for _, attn in self_attentions(net, spec.temporal):
        posts = getattr(attn, "joint_post", {})
        if key not in posts:
            weight = attn.to_q.weight
            post = build_post(spec.post, attn, spec.post_rank)
            if not posts:
                attn.joint_post = nn.ModuleDict()
            attn.joint_post[key] = post.to(weight.device, weight.dtype).train(attn.training)
    net._duet.add_joint(spec)
