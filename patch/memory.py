"""Runs a given side once: each layer keeps the keys and values that others read from it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import index as as_integer

import torch
from torch import nn

from patch.attention import is_joint
from patch.call import hack_lora_forward
from patch.context import Context
from patch.control import device_of
from patch.lora import loras_disabled
from patch.network import lora_layers, patched_attentions, patched_network
from patch.snapshot import Snapshot
from patch.surgery import drop_memory


class JointMemory(nn.Module):
    """Keys, values and mask of the given sources of one attention, by slot; in no state dict."""

    def put(self, slot: str, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> None:
        for part, tensor in (("key", key), ("value", value), ("mask", mask)):
            self.register_buffer(f"{slot}_{part}", tensor, persistent=False)

    def get(self, slot: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        return tuple(getattr(self, f"{slot}_{part}") for part in ("key", "value", "mask"))


@contextmanager
def record(model, given: Sequence[int]) -> Iterator[None]:
    """Records given samples, so that the others are sampled without them.

    patch.set_pairs(unet, [(0, 1, "depth", 1.0, "x_reads_y")])
    with patch.record(unet, [1]):
        unet(sample[1:], timestep[1:], text[1:])    # the given samples alone, in this order
    unet(sample[:1], timestep[:1], text[:1])        # and from now on the others alone

    The outputs are those of the whole batch, as long as sample, timestep and text of the given samples stay the same.
    Setting pairs or masks ends it. Every layer keeps two tensors (rows, N, C) without gradients for each given sample
    that is read: this is for sampling, not for training.

    given: samples, counted as in the pairs and masks; none of them may read.
    Raises ValueError for a given sample that reads, and when the block did not run the model or set other pairs or
    masks. A later call of the model raises it when weights, scales or adapters have changed since.
    """
    net = patched_network(model)
    context = net._duet
    given = check_given(context.settings, given)
    hack_lora_forward(net)
    if loras_disabled((), context.places):
        raise ValueError("The LoRAs are disabled: call enable_adapters before patch.record.")
    for _, attn in patched_attentions(net):
        attn.joint_memory = JointMemory()
    context.update(device_of(net), given=given, recording=True)
    try:
        # Keys and values are kept by plain code, which a compiled model would be compiled anew for.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
        check_recorded(net, context, given)
    except BaseException:
        drop_memory(net)
        context.update(device_of(net), given=(), recording=False)
        raise
    context.update(device_of(net), recording=False)
    context.keep_recording(Recording(net))


class Recording:
    """Remembers the weights with which given samples were run."""

    def __init__(self, net: nn.Module):
        self.snapshot = Snapshot(net.modules(), lora_layers(net))

    def check(self, net: nn.Module, everywhere: bool = False) -> None:
        if self.snapshot.changed(everywhere):
            raise ValueError(
                "Weights, scales or adapters have changed since patch.record, so that its keys and values are those of "
                "another model: set the pairs and record again."
            )

    def release(self) -> None:
        self.snapshot.release()


def check_recorded(net: nn.Module, context: Context, given: tuple[int, ...]) -> None:
    links = context.state.links
    layers = [attn for _, attn in patched_attentions(net) if links is not None and is_joint(attn, links)]
    if context.settings.given != given or not all(attn.joint_memory._buffers for attn in layers):
        raise ValueError(
            "Nothing was recorded: call the model on the given samples inside patch.record, and set pairs and masks "
            "before it."
        )


def check_given(settings, given: Sequence[int]) -> tuple[int, ...]:
    given = tuple(as_integer(sample) for sample in given)
    if not settings.pairs:
        raise ValueError("No pairs are set: call patch.set_pairs for the whole batch before patch.record.")
    if settings.given:
        raise ValueError("Given samples are recorded already: set the pairs again before another patch.record.")
    unknown = [sample for sample in given if not 0 <= sample < settings.samples]
    if unknown or not given or len(set(given)) != len(given) or len(given) == settings.samples:
        raise ValueError(
            f"given={list(given)} does not name some of the {settings.samples} samples, each once: leave at least one "
            "to be sampled."
        )
    if mixed := [group for group in settings.frames if 0 < len({*group} & {*given}) < len(group)]:
        raise ValueError(
            f"The frames {list(mixed[0])} attend to one another and only some are in given={list(given)}: name all of "
            "them, or none."
        )
    for pair in settings.pairs:
        for sample, reads, direction in ((pair.x, pair.x_reads, "y_reads_x"), (pair.y, pair.y_reads, "x_reads_y")):
            if sample in given and reads:
                raise ValueError(
                    f"Sample {sample} is given but reads its partner in the pair ({pair.x}, {pair.y}), so that it "
                    f"changes from step to step: set the pair with direction='{direction}'."
                )
    return given
