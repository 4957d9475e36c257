"""The forms of a UNet that `bench_patch.py` compares: they share the base's weights, each with its own adapters.

Rows are those of one image with guidance: two of x, and two of each condition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from peft import LoraConfig

import patch
from benchmarks.timing import Form
from models.tiny_sd import make_unet
from utils.pretrained import loading

TOKENS = 77
PAIR, ALONE = "base, 4 rows", "base, 2 rows"
ATTENTIONS, PROJECTIONS = ("attn1", "attn2"), ("to_q", "to_k", "to_v", "to_out.0")
NAMES = ("depth", "edge", "normal", "flow", "pose", "sketch", "parts", "colour")


class OwnProjections(AttnProcessor2_0):
    """The stock processor under another name, with which the joint attention projects for itself."""


@dataclass(frozen=True)
class Setting:
    """What all forms share: device, dtype, and the size of latents and adapters."""

    base: UNet2DConditionModel
    latent_size: int
    rank: int
    compiled: bool

    def inputs(self, rows: int) -> dict[str, torch.Tensor]:
        config, like = self.base.config, {"device": self.base.device, "dtype": self.base.dtype}
        return {
            "sample": torch.randn(rows, config.in_channels, self.latent_size, self.latent_size, **like),
            "timestep": torch.linspace(900, 100, rows, device=self.base.device),
            "encoder_hidden_states": torch.randn(rows, TOKENS, config.cross_attention_dim, **like),
        }

    def twin(self) -> UNet2DConditionModel:
        """Another network with the very weights of the base."""
        with torch.device("meta"):
            net = UNet2DConditionModel.from_config(self.base.config)
        net.load_state_dict(self.base.state_dict(), assign=True)
        return net.eval().requires_grad_(False)

    def call(self, net, inputs: dict) -> Callable[[], torch.Tensor]:
        run = torch.compile(net, fullgraph=True) if self.compiled else net

        def forward():
            with torch.no_grad():
                return run(**inputs, return_dict=False)[0]

        return forward

    def form(self, name: str, reference: str, net, inputs: dict, **changes) -> Form:
        return Form(name, reference, self.call(net, inputs), net=net, **changes)

    @torch.no_grad()
    def joint(self, conditions: int = 1) -> UNet2DConditionModel:
        net = self.twin()
        for name in NAMES[:conditions]:
            patch.add_joint(net, name, self.rank)
            for parameter in patch.joint_parameters(net, name):
                parameter.normal_(std=0.01)
        return net


def make_base(model: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """model: "sd15" or "tiny_sd", with random weights, or a folder of a pipeline."""
    torch.manual_seed(0)
    if model == "sd15":
        net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    elif model == "tiny_sd":
        net = make_unet()
    else:
        with loading(model):
            net = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    torch.nn.Module.to(net, device, dtype)  # diffusers' own `to` warns of every dtype
    return net.eval().requires_grad_(False)


def default_rank(model: str) -> int:
    """The rank that adapters of a model are trained with."""
    return 16 if Path(model).name == "tiny_sd" else 64


def pairs(direction: str = "both", conditions: int = 1) -> list[tuple]:
    """One x with guidance, samples 0 and 1, and its conditions, two samples each."""
    return [(i, 2 + 2 * c + i, NAMES[c], 1.0, direction) for c in range(conditions) for i in range(2)]


def rows_of(inputs: dict, rows: slice) -> dict:
    return {key: value[rows] for key, value in inputs.items()}


def inference_forms(setting: Setting) -> list[Form]:
    """One call with one pair and guidance: 4 rows, or 2 where the condition is given and was run before."""
    four, two, base = setting.inputs(4), setting.inputs(2), setting.twin()
    bare, joint, fused, cached = setting.joint(), setting.joint(), fused_joint(setting), fused_joint(setting)
    patch.set_pairs(joint, pairs())
    patch.set_pairs(fused, pairs())
    remember(cached, four)
    return [
        setting.form(PAIR, PAIR, base, four),
        setting.form(ALONE, ALONE, base, two),
        setting.form("patched, no pairs", PAIR, bare, four),
        setting.form("disabled", PAIR, joint, four, around=lambda: patch.disabled(joint)),
        setting.form("disabled, fused", PAIR, fused, four, around=lambda: patch.disabled(fused)),
        setting.form("joint", PAIR, joint, four),
        setting.form("joint, fused", PAIR, fused, four),
        setting.form("cached, fused", ALONE, cached, two),
    ]


def condition_forms(setting: Setting, conditions: int) -> list[Form]:
    """One call of x with several given conditions that were run before."""
    two, many = setting.inputs(2), fused_joint(setting, conditions)
    remember(many, setting.inputs(2 + 2 * conditions), conditions)
    return [
        setting.form(ALONE, ALONE, setting.twin(), two),
        setting.form(f"cached, fused, {conditions} conditions", ALONE, many, two),
    ]


def sampling_forms(setting: Setting) -> list[Form]:
    """A step of each mode, and what a given side costs once. The other side's rows are the first two."""
    four, two, base = setting.inputs(4), setting.inputs(2), setting.twin()
    pair, to_image, to_depth = (fused_joint(setting) for _ in range(3))
    patch.set_pairs(pair, pairs())
    return [
        setting.form(ALONE, ALONE, base, two),
        setting.form(PAIR, PAIR, base, four),
        setting.form("image and depth", PAIR, pair, four),
        setting.form("depth to image", ALONE, to_image, two, once=lambda: remember(to_image, four)),
        setting.form("image to depth", ALONE, to_depth, two, once=lambda: remember_image(to_depth, four)),
    ]


def training_forms(setting: Setting) -> list[Form]:
    """Steps of AdamW on two pairs, 4 rows: LoRAs alone, the joint adapter, and the same with projections of its own."""
    lora, joint, unshared = setting.twin(), setting.joint(), setting.joint()
    targets = [f"{attention}.{layer}" for attention in ATTENTIONS for layer in PROJECTIONS]
    patch.add_adapter(lora, LoraConfig(r=setting.rank, target_modules=targets))
    unshared.set_attn_processor(OwnProjections())
    for net in (joint, unshared):
        patch.set_pairs(net, pairs())
    reference, inputs = "base with LoRAs", setting.inputs(4)
    nets = {reference: lora, "joint": joint, "joint, projections of its own": unshared}
    return [Form(name, reference, training_step(net.train(), inputs), net=net) for name, net in nets.items()]


def training_step(net, inputs: dict) -> Callable:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-6)

    def step():
        net(**inputs, return_dict=False)[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def fused_joint(setting: Setting, conditions: int = 1) -> UNet2DConditionModel:
    net = setting.joint(conditions)
    patch.fuse(net)
    return net


@torch.no_grad()
def remember(net, inputs: dict, conditions: int = 1) -> None:
    """Runs the conditions once, all samples after the first two."""
    patch.set_pairs(net, pairs("x_reads_y", conditions))
    with patch.record(net, range(2, 2 + 2 * conditions)):
        net(**rows_of(inputs, slice(2, None)))


@torch.no_grad()
def remember_image(net, inputs: dict) -> None:
    """The same for given images."""
    patch.set_pairs(net, pairs("y_reads_x"))
    with patch.record(net, range(2)):
        net(**rows_of(inputs, slice(2)))


def parameter_counts(net) -> dict[str, int]:
    """trained: of the adapters. stored: in their files. kept: numbers that `fuse` and `record` hold in memory."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    joint = [p for name in patch.get_joints(net) for p in patch.joint_parameters(net, name)]
    kept = [buffer for name, buffer in net.named_buffers() if "joint_fused" in name or "joint_memory" in name]
    groups = {"trained": trained, "stored": joint or trained, "kept": kept}
    return {what: sum(tensor.numel() for tensor in tensors) for what, tensors in groups.items()}
