"""The LoRAs of a joint adapter."""

from numbers import Integral

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn

from patch.call import hack_lora_forward
from patch.control import check_maskable, device_of
from patch.inject import add_adapter, kept_merged
from patch.network import blocks, is_patched, label, lora_layers, network, own_layers, patched_network, posts_of
from patch.post import check_post
from patch.state import ROLES, JointSpec, is_weight, lora_name
from patch.surgery import add_posts, apply_patch, check_name

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
Y_LAYERS = ("attention", "all")


def joint_lora_targets(model) -> list[str]:
    """Full paths of the q, k, v and out projections of every patched self-attention."""
    net = patched_network(model)
    return role_targets(net, "xy", net._duet.temporal)


def self_lora_targets(model) -> list[str]:
    """The same for self- and cross-attention of every patched block: the layers of `y_lora`."""
    net = patched_network(model)
    return role_targets(net, "y", net._duet.temporal)


def role_targets(net: nn.Module, role: str, temporal: bool) -> list[str]:
    paths = [f"{path}.attn1" for path, _ in blocks(net, temporal)]
    if role == "y":
        paths += [f"{path}.attn2" for path, block in blocks(net, temporal) if block.attn2 is not None]
    return [f"{path}.{layer}" for path in paths for layer in PROJECTIONS]


def y_targets(net: nn.Module, y_layers: str, temporal: bool) -> list[str]:
    """Full paths of the layers that `y_lora` adapts. y_layers: see `add_joint`."""
    return role_targets(net, "y", temporal) if y_layers == "attention" else own_layers(net)


def add_joint(
    model,
    name: str | None = None,
    rank: int = 64,
    alpha: float | None = None,
    post: str = "fuse",
    post_rank: int | None = None,
    lora_dropout: float = 0.0,
    temporal: bool = False,
    y_layers: str = "attention",
) -> nn.Module:
    """Patches a model or pipeline and adds a joint adapter to train; outputs stay bit-equal. Returns the model.

    The adapter is the LoRAs `{name}_xy_lora` and `{name}_yx_lora` on the joint attention, `{name}_y_lora` on layers of
    y, and the output projection. They act only on the rows that `set_pairs` or a mask gives them. They are trainable
    (`joint_parameters`); everything else, other adapters included, is frozen.

    alpha: LoRA's scale times rank, by default `rank`. post, post_rank: see `initialize_joint_layers`; post_rank is by
    default twice the rank. temporal: also the attention over time (see `apply_patch`). y_layers: "attention", self- and
    cross-attention of y as in UniCon, or "all", every linear layer and convolution of y: more weights and time, for a y
    that looks unlike the images of the base.
    Raises ValueError for a name that is taken or a value without meaning, and leaves the model alone.
    """
    alpha = rank if alpha is None else alpha
    post_rank = 2 * rank if post_rank is None else post_rank
    check_options(rank, post_rank, alpha, lora_dropout, y_layers)
    net = patched_with_joint(model, JointSpec(name, post, post_rank, temporal))
    trainable = {n.replace(".base_layer", "") for n, p in net.named_parameters() if p.requires_grad}
    targets = {role: role_targets(net, role, temporal) for role in ROLES} | {"y": y_targets(net, y_layers, temporal)}
    for role in ROLES:
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=lora_dropout, target_modules=targets[role])
        add_managed(net, config, lora_name(name, role))
    net.requires_grad_(False)
    for parameter in joint_parameters(net, name):
        parameter.requires_grad_(True)
    net._duet.freeze(trainable)
    return model if isinstance(model, nn.Module) else net


def check_options(rank: int, post_rank: int, alpha: float, lora_dropout: float, y_layers: str) -> None:
    check_rank(rank)
    check_rank(post_rank, "post_rank")
    if not is_weight(alpha):
        raise ValueError(f"alpha={alpha!r} is no finite number: give LoRA's scale times rank.")
    if not (is_weight(lora_dropout) and 0 <= lora_dropout < 1):
        raise ValueError(f"lora_dropout={lora_dropout!r} is no probability: give a number from 0 to below 1.")
    check_y_layers(y_layers)


def check_y_layers(y_layers: str) -> None:
    if y_layers not in Y_LAYERS:
        raise ValueError(f"y_layers={y_layers!r} is unknown: choose one of {', '.join(Y_LAYERS)}.")


def check_rank(rank: int, what: str = "rank") -> None:
    if not isinstance(rank, Integral):
        raise ValueError(f"{what}={rank!r} is no whole number: choose 1 or more.")
    if rank < 1:
        raise ValueError(f"{what}={rank} is too small: choose 1 or more.")


def joint_parameters(model, name: str | None = None) -> list[nn.Parameter]:
    """The parameters of a joint adapter, those of its LoRAs and of its output projections, as a list."""
    net = patched_network(model)
    if name not in net._duet.joints:
        raise ValueError(f"There is no joint adapter {label(name)}: call patch.add_joint first.")
    adapters = [lora_name(name, role) for role in ROLES]
    loras = [p for layer in lora_layers(net) for adapter in adapters for p in lora_tensors(layer, adapter).values()]
    return loras + [parameter for post in posts_of(net, name) for parameter in post.parameters()]


def lora_tensors(layer: LoraLayer, adapter: str) -> dict[str, nn.Parameter]:
    """PEFT's parameters of one adapter in one layer, by their name without the adapter's."""
    found = {}
    for part in layer.adapter_layer_names:
        entries = getattr(layer, part)
        if adapter in entries:
            entry = entries[adapter]
            named = entry.named_parameters() if isinstance(entry, nn.Module) else [("", entry)]
            found |= {".".join(filter(None, (part, key))): parameter for key, parameter in named}
    return found


def patched_with_joint(model, spec: JointSpec) -> nn.Module:
    """A patched network with a new joint adapter that has no LoRAs yet."""
    net = network(model)
    check_name(spec.name)
    check_post(spec.post)
    taken = {lora_name(spec.name, role) for role in ROLES} & set(getattr(net, "peft_config", {}))
    if taken or (is_patched(net) and spec.name in net._duet.joints):
        raise ValueError(f"The model has a joint adapter {label(spec.name)} already: choose another name.")
    apply_patch(net, temporal=spec.temporal)
    add_posts(net, spec)
    return net


def add_managed(net: nn.Module, config: LoraConfig, adapter: str) -> None:
    """Adds a LoRA that acts only where pairs or masks say so, and leaves the others active, merged and trainable."""
    with kept_merged(net):
        add_adapter(net, config, adapter, beside=True)
    net._duet.manage(device_of(net), adapter)
    hack_lora_forward(net)
    check_maskable(net, adapter)
