"""Finds parts of a network: the network itself in its wrappers, its blocks, attentions and LoRA layers."""

from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel, TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from patch.attention import JointAttention
from patch.lora import LAYERS
from patch.post import is_cast, post_key
from patch.state import LoraPlaces

FUSED = ("to_qkv", "to_kv", "to_added_qkv")  # copies that fuse_qkv_projections leaves behind
FEED_FORWARD = ("ff", "ff_in")
OVER_TIME = (TransformerTemporalModel, AnimateDiffTransformer3D)


def network(model) -> nn.Module:
    """The network inside a pipeline, `get_peft_model`, `torch.compile` or a distributed wrapper."""
    if hasattr(model, "components"):  # a pipeline, recognised without importing all of diffusers' pipelines
        found = getattr(model, "unet", None) or getattr(model, "transformer", None)
        if found is None:
            raise ValueError(f"{type(model).__name__} has neither a unet nor a transformer to patch.")
        return network(found)
    if isinstance(model, PeftModel):
        return network(model.get_base_model())
    for wrapper in ("_orig_mod", "module"):
        if isinstance(getattr(model, wrapper, None), nn.Module):
            return network(getattr(model, wrapper))
    if not isinstance(model, nn.Module):
        raise ValueError(f"Expected a model or a pipeline, not {type(model).__name__}.")
    return model


def is_patched(net: nn.Module) -> bool:
    return "_duet" in net.__dict__


def patched_network(model) -> nn.Module:
    net = network(model)
    if not is_patched(net):
        raise ValueError(f"{type(net).__name__} is not patched: call patch.apply_patch first.")
    return net


def get_joints(model) -> tuple[str | None, ...]:
    """Names of the joint adapters of a model or pipeline, `None` for the one without a name; none without a patch."""
    net = network(model)
    return tuple(net._duet.joints) if is_patched(net) else ()


def refuse_offloaded(net: nn.Module) -> None:
    """Hooks on parts of the model hold weights and methods that a patch would miss; one on the whole is no obstacle."""
    for path, module in net.named_modules():
        if is_cast(module):
            raise ValueError(
                "The model's weights are cast layer by layer (enable_layerwise_casting): patch it and add its adapters "
                "first, then enable the casting."
            )
        registry = getattr(module, "_diffusers_hook", None)
        grouped = registry is not None and any("offload" in name for name in registry.hooks)
        if grouped or (path and hasattr(module, "_hf_hook")):
            raise ValueError(
                "The model is offloaded in parts (sequential or group offload, or a device_map): patch it and add its "
                "adapters first, then enable the offloading."
            )


def has_frames(net: nn.Module) -> bool:
    timed = (TransformerSpatioTemporalModel, *OVER_TIME)
    return any(isinstance(module, timed) for module in net.modules())


def blocks(net: nn.Module, temporal: bool) -> list[tuple[str, nn.Module]]:
    """The blocks with a self-attention, by path; those over time only with `temporal`."""
    prefixes = tuple(f"{path}." for path, module in net.named_modules() if isinstance(module, OVER_TIME))
    found = []
    for path, module in net.named_modules():
        spatial = isinstance(module, BasicTransformerBlock) and not path.startswith(prefixes)
        timed = isinstance(module, TemporalBasicTransformerBlock) or (
            isinstance(module, BasicTransformerBlock) and not spatial
        )
        if (spatial or (timed and temporal)) and not getattr(module, "only_cross_attention", False):
            found.append((path, module))
    return found


def self_attentions(net: nn.Module, temporal: bool) -> list[tuple[str, Attention]]:
    return [(f"{path}.attn1", block.attn1) for path, block in blocks(net, temporal)]


def patched_attentions(net: nn.Module) -> list[tuple[str, JointAttention]]:
    return [(path, attn) for path, attn in net.named_modules() if isinstance(attn, JointAttention)]


def posts_of(net: nn.Module, name: str | None) -> list[nn.Module]:
    """The output projections of a joint adapter, one for each patched self-attention that has it."""
    layers = [getattr(attn, "joint_post", {}) for _, attn in patched_attentions(net)]
    return [posts[post_key(name)] for posts in layers if post_key(name) in posts]


def lora_layers(net: nn.Module) -> list[LoraLayer]:
    return [module for module in net.modules() if isinstance(module, LoraLayer)]


def own_layers(model) -> list[str]:
    """Full paths of a model's own linear layers and convolutions: none of an adapter's or of the patch's."""
    found = set()
    for name, module in network(model).named_modules():
        parts = name.removesuffix(".base_layer").split(".")
        added = any(part.startswith(("lora_", "joint_")) or part in FUSED for part in parts)
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and not added:
            found.add(".".join(parts))
    return sorted(found)


def find_loras(net: nn.Module) -> LoraPlaces:
    """The LoRAs of a network, by a search of all modules; `LoraPlaces.stand` says whether they are still there."""
    modules = list(net.modules())
    attentions = [module for module in modules if isinstance(module, Attention)]
    blocks = [module for module in modules if isinstance(module, BasicTransformerBlock | TemporalBasicTransformerBlock)]
    parents = [module._modules for module in modules if not isinstance(module, LoraLayer)]
    stray = [path for path, module in net.named_modules() if isinstance(module, LoraLayer) and ".joint_post." in path]
    return LoraPlaces(
        configs=dict(getattr(net, "peft_config", {})),
        children=tuple((kin, key, each) for kin in parents for key, each in kin.items() if isinstance(each, LoraLayer)),
        stray=tuple(stray),
        attentions=tuple(a for a in attentions if any(isinstance(getattr(a, key, None), LoraLayer) for key in LAYERS)),
        blocks=tuple(
            b for b in blocks if any(lora_layers(getattr(b, key, None) or nn.Identity()) for key in FEED_FORWARD)
        ),
    )


def label(name: str | None) -> str:
    return f"'{name}'" if name else "without a name"
