"""The forms of a UNet that `bench_patch.py` compares: they share the base's weights, each with its own adapters."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from peft import LoraConfig

import patch
from benchmarks.timing import Form
from models.tiny_sd import make_unet

TOKENS = 77
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

    @torch.no_grad()
    def joint(self, *names: str) -> UNet2DConditionModel:
        net = self.twin()
        for name in names:
            patch.add_joint(net, name, self.rank)
            for parameter in patch.joint_parameters(net, name):
                parameter.normal_(std=0.01)
        return net


def make_base(model: str, device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    """model: "sd15" or "tiny_sd", with random weights, or a folder of a pipeline."""
    torch.manual_seed(0)
    if model == "sd15":
        net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    elif model == "tiny_sd":
        net = make_unet()
    else:
        net = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    return net.to(device, dtype).eval().requires_grad_(False)


def pairs(direction: str = "both", conditions: int = 1) -> list[tuple]:
    """One x with guidance, samples 0 and 1, and its conditions, two samples each."""
    return [(i, 2 + 2 * c + i, NAMES[c], 1.0, direction) for c in range(conditions) for i in range(2)]


def rows_of(inputs: dict, rows: slice) -> dict:
    return {key: value[rows] for key, value in inputs.items()}


def inference_forms(setting: Setting, conditions: int) -> tuple[list[Form], dict[str, torch.nn.Module]]:
    """Forms of one call with one pair and guidance, 4 rows, and the network of each."""
    four, base = setting.inputs(4), setting.twin()
    joint, fused, cached = setting.joint(NAMES[0]), setting.joint(NAMES[0]), setting.joint(NAMES[0])
    patch.fuse(fused)
    patch.fuse(cached)
    patch.set_pairs(fused, pairs())
    remember(cached, four)
    nets = {"patched, no pairs": joint, "disabled": joint, "joint": joint, "joint, fused": fused, "cached": cached}
    run = {id(net): setting.call(net, four) for net in (base, joint, fused)}
    two = rows_of(four, slice(2))
    off = ExitStack()  # left again when the next form is prepared
    forms = [
        Form("base, 4 rows", "base, 4 rows", run[id(base)]),
        Form("base, 2 rows", "base, 2 rows", setting.call(base, two)),
        Form("patched, no pairs", "base, 4 rows", run[id(joint)], lambda: patch.clear_pairs(joint)),
        Form("disabled", "base, 4 rows", run[id(joint)], lambda: off.enter_context(separate(joint))),
        Form("joint", "base, 4 rows", run[id(joint)], lambda: (off.close(), patch.set_pairs(joint, pairs()))),
        Form("joint, fused", "base, 4 rows", run[id(fused)]),
        Form("cached", "base, 2 rows", setting.call(cached, two)),
    ]
    if conditions > 1:
        many = setting.joint(*NAMES[:conditions])
        patch.fuse(many)
        remember(many, setting.inputs(2 + 2 * conditions), conditions)
        nets[f"cached, {conditions} conditions"] = many
        forms.append(Form(f"cached, {conditions} conditions", "base, 2 rows", setting.call(many, two)))
    return forms, {"base, 4 rows": base, "base, 2 rows": base, **nets}


def separate(net):
    patch.set_pairs(net, pairs())
    return patch.disabled(net)


@torch.no_grad()
def remember(net, inputs: dict, conditions: int = 1) -> None:
    """Records the conditions, all samples after the first two."""
    patch.set_pairs(net, pairs("x_reads_y", conditions))
    with patch.record(net, range(2, 2 + 2 * conditions)):
        net(**rows_of(inputs, slice(2, None)))


def sampling_forms(setting: Setting, steps: int) -> list[Form]:
    """Whole runs of one picture with guidance, what a given condition costs included."""
    four, base, net = setting.inputs(4), setting.twin(), setting.joint(NAMES[0])
    patch.fuse(net)
    two = rows_of(four, slice(2))
    calls = {rows: setting.call(base, inputs) for rows, inputs in ((4, four), (2, two))}
    joint, alone = setting.call(net, four), setting.call(net, two)

    def repeated(call: Callable) -> Callable:
        return lambda: [call() for _ in range(steps)]

    def given_once():
        remember(net, four)
        for _ in range(steps):
            alone()

    return [
        Form("image alone, base", "image alone, base", repeated(calls[2])),
        Form("pair, base", "pair, base", repeated(calls[4])),
        Form("pair, joint", "pair, base", repeated(joint), lambda: patch.set_pairs(net, pairs())),
        Form("depth to image", "image alone, base", given_once),
        Form("depth to image, not cached", "image alone, base", repeated(joint), lambda: one_way(net)),
    ]


def one_way(net) -> None:
    patch.set_pairs(net, pairs("x_reads_y"))


def training_forms(setting: Setting) -> list[Form]:
    """Steps of AdamW on one pair with another, 4 rows: LoRAs alone, the joint adapter, and it with projections of its own."""
    inputs = setting.inputs(4)
    lora, joint, unshared = setting.twin(), setting.joint(NAMES[0]), setting.joint(NAMES[0])
    targets = [
        f"{attention}.{layer}" for attention in ("attn1", "attn2") for layer in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    patch.add_adapter(lora, LoraConfig(r=setting.rank, target_modules=targets))
    unshared.set_attn_processor(OwnProjections())
    for net in (joint, unshared):
        patch.set_pairs(net, pairs())
    reference = "base with LoRAs"
    nets = {reference: lora, "joint": joint, "joint, projections of its own": unshared}
    return [Form(name, reference, training_step(net.train(), inputs)) for name, net in nets.items()]


def training_step(net, inputs: dict) -> Callable:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-6)

    def step():
        net(**inputs, return_dict=False)[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def parameter_counts(net) -> dict[str, int]:
    """Millions of parameters: of joint adapters, which are trained and saved, and of what `fuse` and `record` keep."""
    context = getattr(net, "_duet", None)
    trained = sum(p.numel() for name in (context.joints if context else ()) for p in patch.joint_parameters(net, name))
    kept = {
        part: sum(t.numel() for name, t in net.named_buffers() if f"joint_{part}" in name)
        for part in ("fused", "memory")
    }
    return {"trained": trained, **kept}
