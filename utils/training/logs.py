"""What a training run reports: means of scalars, `log.jsonl`, and `loss.png`."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator

from utils.training.writing import writing


class Means:
    """Running means of scalars over steps and processes; values stay on their device until `pop`."""

    def __init__(self):
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, int] = {}

    def add(self, scalars: dict[str, torch.Tensor | float | None]) -> None:
        """Add one step's scalars; the names must be the same in every step and process, and None does not count."""
        for name, value in scalars.items():
            value = value.detach().float().mean() if isinstance(value, torch.Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + (0.0 if value is None else value)
            self.counts[name] = self.counts.get(name, 0) + (value is not None)

    def pop(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all processes since the last call, of what counted at least once."""
        names = sorted(self.sums)
        pairs = [(self.sums[name], self.counts[name]) for name in names]
        values = [torch.as_tensor(v, dtype=torch.float32, device=accelerator.device) for pair in pairs for v in pair]
        sums, counts = accelerator.reduce(torch.stack(values), reduction="sum").view(-1, 2).unbind(1)
        found = zip(names, (sums / counts).tolist(), counts.tolist(), strict=True)
        self.sums, self.counts = {}, {}
        return {name: mean for name, mean, counted in found if counted}


class JsonLog:
    """A file with one JSON object a line; a resumed run drops the lines after its first step."""

    def __init__(self, path: Path, first_step: int):
        self.path = path
        kept = [line for line in self.read() if line["step"] <= first_step] if first_step else []
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: dict) -> None:
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict]:
        """The lines of the file that are whole; a crash may leave others."""
        return read_log(self.path)


def read_log(path: Path) -> list[dict]:
    """The whole lines of the file of a `JsonLog`; none where there is no file."""
    text = path.read_text(errors="replace") if path.exists() else ""
    lines = [_parse(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if line is not None]


def _parse(text: str) -> dict | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def plot_loss(lines: list[dict], path: Path) -> None:
    """Draw the loss and its running mean over the steps into a PNG."""
    from matplotlib.figure import Figure

    if not lines:
        return
    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, alpha=0.3, label="loss")
    axes.plot(steps, _running_mean(losses, 0.95), label="running mean")
    axes.set(xlabel="step", yscale="log" if min(losses) > 0 else "linear")
    axes.legend()
    with writing(path):
        figure.savefig(path, dpi=100)


def _running_mean(values: list[float], keep: float) -> list[float]:
    means, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(mean / weight)
    return means
