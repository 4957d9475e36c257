"""Forms of one computation, timed in turns, so that what else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from tqdm import tqdm


@dataclass(frozen=True)
class Form:
    """A computation to time. reference: name of the form that it is compared with. prepare: untimed, before each run."""

    name: str
    reference: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def time_in_turns(
    forms: list[Form], repeats: int, device: torch.device, what: str
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each form in each round, by the clock on the wall and by the processor time of this process."""
    times = {form.name: {"wall": [], "cpu": []} for form in forms}
    for round_number in tqdm(range(-1, repeats), desc=what):
        for form in forms:
            form.prepare()
            synchronize(device)
            wall, cpu = time.perf_counter(), time.process_time()
            form.run()
            synchronize(device)
            if round_number >= 0:  # the first round warms up
                times[form.name]["wall"].append(time.perf_counter() - wall)
                times[form.name]["cpu"].append(time.process_time() - cpu)
    return times


def compare(forms: list[Form], times: dict) -> dict[str, dict]:
    """Median seconds of each form, and the median and quartiles of its ratio to its reference in the same round."""
    rows = {}
    for form in forms:
        row = {"reference": form.reference}
        for clock in ("wall", "cpu"):
            own, other = times[form.name][clock], times[form.reference][clock]
            ratios = [a / b for a, b in zip(own, other, strict=True)]
            quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            row |= {f"{clock}_seconds": statistics.median(own), f"{clock}_ratio": statistics.median(ratios)}
            row |= {f"{clock}_quartiles": quartiles[::2]}
        rows[form.name] = row
    return rows


def count_flops(form: Form) -> int:
    """Floating point operations of matrix products, convolutions and attention."""
    form.prepare()
    cpu_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(query, key, value, *args, out_shape=None, **kwargs):
        return sdpa_flop_count(query, key, value)

    with FlopCounterMode(display=False, custom_mapping={cpu_attention: attention}) as counter:
        form.run()
    return counter.get_total_flops()


def peak_memory(form: Form, device: torch.device) -> int:
    """Bytes that a run takes at its peak beyond what is there before it."""
    form.prepare()
    if device.type != "cpu":
        before = torch.accelerator.memory_allocated(device)
        torch.accelerator.reset_peak_memory_stats(device)
        form.run()
        return torch.accelerator.max_memory_allocated(device) - before
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of the resident memory starts anew
    before = resident("VmRSS")
    form.run()
    return resident("VmHWM") - before


def resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))
