"""Forms of one computation, timed in turns, so that what else the machine does meets all of them alike."""

import ctypes
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm

CLOCKS = ("wall", "cpu")


@dataclass(frozen=True)
class Form:
    """A computation to time.

    reference: name of the form that it is compared with. around: what each run is wrapped in, untimed. once: timed
    too, what starts a whole run of many. net: what it computes with.
    """

    name: str
    reference: str
    run: Callable[[], object]
    around: Callable[[], AbstractContextManager] = nullcontext
    once: Callable[[], object] | None = None
    net: nn.Module | None = None


@dataclass
class Samples:
    """Measured of a form: bytes at the peak of a run beyond those before it, seconds of wall and processor time."""

    peak: int
    flops: int | None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    once: "Samples | None" = None


def time_in_turns(
    forms: list[Form], repeats: int, device: torch.device, what: str, counting: bool = True
) -> dict[str, Samples]:
    """Each form `repeats` times, in turns. Before that each runs twice, the second time for arithmetic and memory."""
    samples = {}
    with tqdm(total=(repeats + 1) * len(forms), desc=what) as progress:
        for form in forms:
            once = form.once and observed_run(form.once, device, counting)
            with form.around():
                form.run()  # what a first run allocates for good, as an optimizer does, is not in the peak
                samples[form.name] = replace(observed_run(form.run, device, counting), once=once)
            progress.update()
        for _ in range(repeats):
            for form in forms:
                if form.once:
                    time_run(form.once, samples[form.name].once, device)
                with form.around():
                    time_run(form.run, samples[form.name], device)
                progress.update()
    return samples


def observed_run(run: Callable, device: torch.device, counting: bool) -> Samples:
    flops, before = None, start_peak(device)
    if counting:
        flops = count_flops(run)
    else:
        run()
    synchronize(device)
    return Samples(peak(device) - before, flops)


def time_run(run: Callable, samples: Samples, device: torch.device) -> None:
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    synchronize(device)
    samples.wall.append(time.perf_counter() - wall)
    samples.cpu.append(time.process_time() - cpu)


def compare(forms: list[Form], samples: dict[str, Samples]) -> dict[str, dict]:
    """Figures of each form: medians, and the median and quartiles of its ratio to its reference in the same round."""
    rows = {}
    for form in forms:
        own, other = samples[form.name], samples[form.reference]
        row = {"peak_bytes": own.peak}
        for clock in CLOCKS:
            times, others = getattr(own, clock), getattr(other, clock)
            ratios = [a / b for a, b in zip(times, others, strict=True)]
            row |= {f"{clock}_seconds": statistics.median(times), f"{clock}_ratio": with_quartiles(ratios)}
        if own.flops is not None:
            row |= {"flops": own.flops, "counted_ratio": own.flops / other.flops}
        rows[form.name] = row
    return rows


def whole_runs(forms: list[Form], samples: dict[str, Samples]) -> dict[str, dict]:
    """Figures of each form that is no reference: all rounds as one run, with the median of `once` at its start."""
    rows = {}
    for form in [form for form in forms if form.name != form.reference]:
        own, other = samples[form.name], samples[form.reference]
        row = {"peak_bytes": max(own.peak, own.once.peak if own.once else 0)}
        for clock in CLOCKS:
            once = statistics.median(getattr(own.once, clock)) if own.once else 0.0
            seconds = once + sum(getattr(own, clock))
            row |= {f"{clock}_once_seconds": once, f"{clock}_seconds": seconds}
            row[f"{clock}_ratio"] = seconds / sum(getattr(other, clock))
        if own.flops is not None:
            row["flops"] = (own.once.flops if own.once else 0) + len(own.wall) * own.flops
            row["counted_ratio"] = row["flops"] / (len(own.wall) * other.flops)
        rows[f"{form.name}, whole run"] = row
    return rows


def with_quartiles(values: list[float]) -> dict[str, float]:
    """The median of values, with their quartiles as its interval."""
    low, high = statistics.quantiles(values, n=4, method="inclusive")[::2] if len(values) > 1 else values * 2
    return {"median": statistics.median(values), "low": low, "high": high}


def count_flops(run: Callable) -> int:
    """Floating point operations of a run's matrix products, convolutions and attention."""
    aten = torch.ops.aten

    def attention(query, key, value, *args, out_shape=None, **kwargs):
        return sdpa_flop_count(query, key, value)

    def attention_backward(gradient, query, key, value, *args, out_shape=None, **kwargs):
        return sdpa_backward_flop_count(gradient, query, key, value)

    def product_in_place(out, a, b, *, out_shape=None, **kwargs):
        return 2 * a[0] * a[1] * b[1]

    missing = {
        aten.addmm_: product_in_place,
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=missing) as counter:
        run()
    return counter.get_total_flops()


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def start_peak(device: torch.device) -> int:
    """Bytes in use, from which the peak is measured; on a CPU the process's resident memory, as Linux reports it."""
    if device.type != "cpu":
        memory = torch.get_device_module(device)
        memory.reset_peak_memory_stats(device)
        return memory.memory_allocated(device)
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed counts again when it is taken again
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of the resident memory starts anew
    return resident("VmRSS")


def peak(device: torch.device) -> int:
    return resident("VmHWM") if device.type == "cpu" else torch.get_device_module(device).max_memory_allocated(device)


def resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))
