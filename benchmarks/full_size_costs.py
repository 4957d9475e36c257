"""Count memory and hours of trainings at full size, from shapes alone: nothing is run, and nothing is measured.

python -m benchmarks.full_size_costs

Networks are built without memory (PyTorch's fake tensors) and called once, forwards and backwards. Memory: weights in
float32, as the trainings hold them, with the copy in 16 bits that mixed precision computes with; of what is trained
also gradient and the two moments of AdamW; what the forward keeps for the backward, in the two bytes of
--mixed_precision fp16 or bf16. Autoencoder and text or image encoder are
out of the way with --cache_latents or encode one sample at a time, and are not counted; neither is what an allocator
wastes: leave 2 to 3 GB for both. Hours: multiplications and additions over the card's dense peak in 16 bits times
--utilization, which is an assumption.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel, UNetSpatioTemporalConditionModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import patch
from benchmarks.timing import count_flops
from models.onnx_networks import RANDOM_SIZES
from utils.arguments import make_parser, parse_args, positive_float, positive_int, run_script
from utils.weights.lora import add_lora

CHECKPOINTED = ("ResnetBlock2D", "BasicTransformerBlock", "SpatioTemporalResBlock")  # as diffusers does
CARDS = {"24 GB": 71e12, "80 GB": 312e12}  # dense peak of 16 bits with 32-bit sums: RTX 3090, A100
WEIGHT = 6  # bytes of a weight: float32, and the copy in 16 bits that mixed precision computes with
STATE = 12  # further bytes of one that is trained: gradient and two moments
GB = 1e9


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        make: Makes the network on the meta device and returns it with the numbers that are trained.
        inputs: From a batch to the network's arguments.
        steps: Optimizer steps.
        samples: Samples of a step, over all of its accumulated batches.
        batch: Samples at once.
    """

    make: Callable[[], tuple[nn.Module, list[nn.Parameter]]]
    inputs: Callable[[int], dict]
    steps: int
    samples: int
    batch: int


@dataclass(frozen=True)
class Costs:
    """Bytes and operations of one sample; `held` counts once, whatever the batch."""

    held: int
    kept: int
    kept_checkpointed: int
    flops: int


class Kept:
    """Bytes of what autograd keeps, by storage, without parameters."""

    def __init__(self, network: nn.Module):
        self.seen = {p.untyped_storage()._cdata for p in network.parameters()}
        self.alive = []  # a storage that is freed could lend its address to another one
        self.total = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.alive.append(storage)
            self.total += storage.nbytes()
        return tensor


def main(argv=None) -> list[str]:
    """Runs the command and returns the lines of its table."""
    args = parse_args(parser(), argv)
    table = ["| training | at once | weights and state | kept, plain | kept, checkpointed | "]
    table[0] += " | ".join(f"hours, {card}" for card in CARDS) + " |"
    table += ["|---" * (5 + len(CARDS)) + "|"]
    for name, job in jobs(args).items():
        costs = count(job)
        sizes = [costs.held, job.batch * costs.kept, job.batch * costs.kept_checkpointed]
        cells = [name, str(job.batch), *(f"{size / GB:.1f} GB" for size in sizes)]
        work = 4 / 3 * costs.flops * job.samples * job.steps  # a checkpointed forward is computed twice
        cells += [f"{work / (peak * args.utilization) / 3600:.0f}" for peak in CARDS.values()]
        table += [f"| {' | '.join(cells)} |"]
    print("\n".join(table))
    return table


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--utilization", type=positive_float, default=0.15, help="share of the card's peak that a training reaches")
    add("--steps", type=positive_int, nargs=2, default=[20000, 5000], metavar=("IMAGES", "VIDEOS"), help="steps")
    add("--resolution", type=positive_int, default=512, help="side of the images")
    add(
        "--video_size", type=positive_int, nargs=3, default=[14, 320, 512], metavar=("F", "H", "W"), help="of the clips"
    )
    return result


def jobs(args) -> dict[str, Job]:
    """The trainings of docs/real_models.md."""
    images, videos = args.steps
    frames, height, width = args.video_size
    image, video = image_inputs(args.resolution // 8), video_inputs(frames, height // 8, width // 8)
    return {
        "depth adapter, Stable Diffusion 1.5": Job(joint_image, image, images, 16, 4),
        "LoRA over time, Stable Video Diffusion": Job(video_lora, video, videos, 8, 1),
        "all layers over time, Stable Video Diffusion": Job(video_temporal, video, videos, 8, 1),
    }


def joint_image() -> tuple[nn.Module, list[nn.Parameter]]:
    unet = build(UNet2DConditionModel, "sd15")
    patch.add_joint(unet, "depth", rank=64)
    patch.set_pairs(unet, [(0, 1, "depth")])
    return unet, patch.joint_parameters(unet, "depth")


def video_lora() -> tuple[nn.Module, list[nn.Parameter]]:
    unet = build(UNetSpatioTemporalConditionModel, "svd")
    return unet, add_lora(unet, 16, None, "temporal")


def video_temporal() -> tuple[nn.Module, list[nn.Parameter]]:
    unet = build(UNetSpatioTemporalConditionModel, "svd").requires_grad_(False)
    trained = [p for name, p in unet.named_parameters() if "temporal" in name or "time_mixer" in name]
    for parameter in trained:
        parameter.requires_grad_(True)
    return unet, trained


def build(kind: type[nn.Module], size: str) -> nn.Module:
    return kind(**RANDOM_SIZES[size]["unet"][1])


def image_inputs(side: int) -> Callable[[int], dict]:
    """Of pairs: rows of x, then of y."""

    def make(pairs: int) -> dict:
        rows = 2 * pairs
        latents, text = torch.randn(rows, 4, side, side), torch.randn(rows, 77, 768)
        return {"sample": latents, "timestep": torch.ones(rows), "encoder_hidden_states": text}

    return make


def video_inputs(frames: int, height: int, width: int) -> Callable[[int], dict]:
    def make(clips: int) -> dict:
        latents, image = torch.randn(clips, frames, 8, height, width), torch.randn(clips, 1, 1024)
        return {
            "sample": latents,
            "timestep": torch.ones(clips),
            "encoder_hidden_states": image,
            "added_time_ids": torch.randn(clips, 3),
        }

    return make


def count(job: Job) -> Costs:
    """Costs of a sample of a training."""
    with torch.device("meta"):
        network, trained = job.make()
    network.train()
    held = WEIGHT * sum(p.numel() for p in network.parameters()) + STATE * sum(p.numel() for p in trained)
    with FakeTensorMode():
        stand_in(network)
        inputs = job.inputs(1)
        kept, checkpointed = count_kept(network, inputs)
        flops = count_flops(lambda: network(**inputs).sample.sum().backward())
    return Costs(held, kept // 2, checkpointed // 2, flops)


def stand_in(network: nn.Module) -> None:
    """Parameters of the meta device become fake ones of the CPU, whose attention keeps no matrix of all tokens."""
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(torch.empty(value.shape), requires_grad=value.requires_grad)


def count_kept(network: nn.Module, inputs: dict) -> tuple[int, int]:
    """Bytes that a forward keeps in float32: plain; and with its blocks checkpointed, with the largest of them."""
    kept, blocks, entered = Kept(network), [], []

    def enter(module, arguments, keywords):
        known = [*arguments, *keywords.values()]
        given = sum(a.untyped_storage().nbytes() for a in known[:1] if isinstance(a, torch.Tensor))
        entered.append((kept.total, given))

    def leave(module, arguments, output):
        before, given = entered.pop()
        if not entered:
            blocks.append((kept.total - before, given))

    chosen: Sequence[nn.Module] = [m for m in network.modules() if type(m).__name__ in CHECKPOINTED]
    handles = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in chosen]
    handles += [m.register_forward_hook(leave) for m in chosen]
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        network(**inputs)
    for handle in handles:
        handle.remove()
    inside, given = (sum(values) for values in zip(*blocks, strict=True))
    return kept.total, kept.total - inside + given + max(size for size, _ in blocks)


if __name__ == "__main__":
    run_script(main)
