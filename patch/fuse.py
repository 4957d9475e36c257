"""Folds LoRAs and output projections into plain matrices for inference, and takes that back.

- A LoRA whose base projection is needed anyway, as q, k and v of the joint attention, stays a pair of thin matrices.
- `y_lora` elsewhere becomes a second matrix for the rows of y, unless its layer is wide for its rank: a thin pair costs
  2 rank / width of the layer; a second matrix costs the memory traffic of its weights, and wide layers see few tokens.
- The attention's output projection with its LoRA and the first matrix of `post` become one: per role a thin matrix for
  "fuse" and "aligned", one C x C for "conv", two for "conv_fuse".
"""

from itertools import chain, product

import torch
from torch import nn

from patch.adapters import joint_parameters
from patch.call import hack_lora_forward
from patch.fast import Folded, Matrix, ThinLora
from patch.lora import LAYERS, MaskedLinear, base_of
from patch.network import patched_attentions, patched_network, refuse_offloaded
from patch.post import ConvPost, FoldedConvPost, is_cast, post_key
from patch.snapshot import Snapshot
from patch.state import ROLES, lora_name

# On one core with half of the rows y and rank 64, base layers of width 320, 640 and 1280 take 1.23, 1.13 and 1.07 times
# their time with a thin pair, and 1.06, 1.06 and 1.09 with a second matrix (1.12 and 1.27 at 16 tokens).
MERGED_FROM = 1 / 8  # of the layer's arithmetic


@torch.no_grad()
def fuse(model) -> None:
    """Folds all joint adapters into plain matrices, for inference: the same outputs in less time.

    The weights stay as they are, and so do saving and `state_dict`. Where weights or scales change later, the matrices
    are computed anew at the next call of the model (when it is compiled: when pairs or masks are set, or by
    `hack_lora_forward`). What a mask makes different from what the pairs say runs step by step.
    Raises ValueError when the model is fused, offloaded in parts, or has no joint adapter; training a fused model and
    adding adapters to it raise too.
    """
    net = patched_network(model)
    if not net._duet.joints:
        raise ValueError("There is nothing to fuse: call patch.add_joint or patch.load first.")
    if net._duet.fold is not None:
        raise ValueError("The model is fused already: call patch.unfuse first.")
    refuse_offloaded(net)
    hack_lora_forward(net)
    fold = Fold()
    fold.renew(net)
    net._duet.keep_fold(fold)


def unfuse(model) -> None:
    """Takes `fuse` back: outputs are bit by bit what they were before."""
    net = patched_network(model)
    if net._duet.fold is None:
        raise ValueError("The model is not fused: call patch.fuse first.")
    drop_folded(net)
    net._duet.keep_fold(None)


class Fold:
    """The matrices of a fused model, which follow the weights."""

    def __init__(self):
        self.snapshot: Snapshot | None = None
        self.parameters: tuple[nn.Parameter, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether an adapter that is folded is to be trained."""
        return any(parameter.requires_grad for parameter in self.parameters)

    def check(self, net: nn.Module, everywhere: bool = False) -> None:
        if self.snapshot.changed(everywhere):
            self.renew(net)

    @torch.no_grad()
    def renew(self, net: nn.Module) -> None:
        if any(is_cast(module) for module in net.modules()):
            raise ValueError(
                "The weights of a fused model are cast layer by layer (enable_layerwise_casting): call patch.unfuse "
                "first."
            )
        refuse_offloaded(net)
        drop_folded(net)
        names = list(net._duet.joints)
        attentions = [attn for _, attn in patched_attentions(net)]
        shared = {getattr(attn, name) for attn in attentions for name in LAYERS}
        layers = [module for module in net.modules() if isinstance(module, MaskedLinear)]
        sources = [fuse_layer(layer, names, shared=layer in shared) for layer in layers]
        sources += [fuse_posts(attn, names) for attn in attentions]
        self.snapshot = Snapshot(chain.from_iterable(sources), layers)
        self.parameters = tuple(parameter for name in names for parameter in joint_parameters(net, name))

    def release(self) -> None:
        self.snapshot.release()


def drop_folded(net: nn.Module) -> None:
    for module in net.modules():
        module._modules.pop("joint_fused", None)


def fuse_layer(layer: MaskedLinear, names: list[str | None], shared: bool) -> list[nn.Module]:
    """Returns the modules whose weights are folded.

    shared: the base's output is needed for y too, so that merging would save nothing.
    """
    forms, sources = {}, []
    for name, role in product(names, ROLES):
        adapter = lora_name(name, role)
        if is_plain(layer, adapter):
            worth_merging = role == "y" and not shared and is_narrow(layer, adapter)
            forms[adapter] = merge(layer, adapter) if worth_merging else thin(layer, adapter)
            sources += [layer.lora_A[adapter], layer.lora_B[adapter]]
            sources += layer.get_base_layer().modules() if worth_merging else []
    if forms:
        layer.joint_fused = folded(forms, layer, list(forms))
    return sources


def is_plain(layer: MaskedLinear, adapter: str) -> bool:
    """Whether a LoRA is nothing but two matrices."""
    usual = adapter in layer.lora_A and adapter not in layer.lora_variant and adapter not in layer.merged_adapters
    return usual and layer.lora_B[adapter].bias is None


def is_narrow(layer: MaskedLinear, adapter: str) -> bool:
    return 2 * layer.r[adapter] >= MERGED_FROM * layer.get_base_layer().out_features


def thin(layer: MaskedLinear, adapter: str) -> ThinLora:
    dtype = layer.get_base_layer().weight.dtype
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return ThinLora(down.detach().to(dtype, copy=True), (layer.scaling[adapter] * up).to(dtype))


def merge(layer: MaskedLinear, adapter: str) -> Matrix:
    base = layer.get_base_layer()
    return Matrix(
        merged_weight(layer, adapter).to(base.weight.dtype), None if base.bias is None else base.bias.detach()
    )


def merged_weight(layer: nn.Module, adapter: str) -> torch.Tensor:
    """The base's matrix with a LoRA in it, where the layer has it: (out, in) in float32."""
    weight = base_of(layer).weight.float()
    if not (isinstance(layer, MaskedLinear) and adapter in layer.lora_A):
        return weight
    down, up = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
    return weight + layer.scaling[adapter] * (up @ down)


def fuse_posts(attn: nn.Module, names: list[str | None]) -> list[nn.Module]:
    forms, inside, out = {}, [], attn.to_out[0]
    sources = [*base_of(out).modules()]
    for name in names:
        adapters = [lora_name(name, role) for role in ("xy", "yx")]
        present = [adapter for adapter in adapters if isinstance(out, MaskedLinear) and adapter in out.lora_A]
        if post_key(name) in getattr(attn, "joint_post", {}) and all(is_plain(out, adapter) for adapter in present):
            projections = [merged_weight(out, adapter) for adapter in adapters]
            post = attn.joint_post[post_key(name)]
            forms[post_key(name)] = fold(post, *projections, base_of(out))
            inside += present
            sources += post.modules()
            sources += [part[adapter] for adapter in present for part in (out.lora_A, out.lora_B)]
    if forms:
        attn.joint_fused = folded(forms, out, inside)
    return sources


def folded(forms: dict[str, nn.Module], layer: nn.Module, adapters: list[str]) -> Folded:
    """layer: whose LoRAs `adapters` are in the matrices."""
    made = Folded(forms)
    made.made_with = ({name: layer.scaling[name] for name in adapters}, tuple(getattr(layer, "merged_adapters", ())))
    return made


def fold(post: nn.Module, out_x: torch.Tensor, out_y: torch.Tensor, base: nn.Linear) -> nn.Module:
    """An output projection of the attention's result before `to_out`. out_x, out_y: (C, inner), of each role."""

    def after(linear: nn.Linear, out: torch.Tensor) -> Matrix:
        weight = linear.weight.float()
        bias = None if base.bias is None else (weight @ base.bias.float()).to(base.weight.dtype)
        return Matrix((weight @ out).to(base.weight.dtype), bias)

    if isinstance(post, ConvPost):
        return FoldedConvPost(after(post.proj, out_x), after(post.proj, out_y))
    folded = type(post).__new__(type(post))
    nn.Module.__init__(folded)
    for name, linear in post.named_children():
        side = post.READS.get(name)
        copied = Matrix(linear.weight.detach().to(base.weight.dtype, copy=True))
        setattr(folded, name, copied if side is None else after(linear, out_x if side == "x" else out_y))
    return folded
