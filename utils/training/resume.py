"""What a resumed run takes from its checkpoint, and what from its command line.

The checkpoint gives the state: trained weights, the optimizer's moments, the average of the weights, the place in the
data. Flags that this state depends on have to be the same, or the run is refused. All other flags are those of the
command line from the first resumed step on: learning rate, schedule, betas, weight decay and the rest. `args.json` has
the flags in use, and under `resumed` what changed at which step.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from utils.formats.folders import list_content
from utils.latents import LatentScale
from utils.training.checkpoints import damage, find_checkpoint, last_whole, list_checkpoints, named_step, read_progress
from utils.training.logs import read_log

# Flags that say what the trained weights are or begin with; the rest of the state is in `layout`, which the loop knows.
WEIGHTS_ARE = (
    "pretrained_model_name_or_path", "revision", "variant", "stage", "objective", "condition", "control", "form",
    "init_from", "init_adapter", "controlnet_model_name_or_path", "adapter_name", "trainable", "trainable_pattern",
    "decoder_only", "latent_channels", "fusion_width", "fusion_heads", "rank", "lora_alpha", "lora_targets", "post",
    "temporal", "y_layers", "max_flow", "flow_power",
)  # fmt: skip
OF_THE_RUN = {"output_dir", "overwrite", "resume_from_checkpoint", "config"}
# What a run writes besides checkpoints and results, and what an interruption leaves of these.
BOOKKEEPING = re.compile(r"args\.json|log\.jsonl|validation|checkpoint-\d+\.tmp|\.tmp-\d+-.*")


def check_output_dir(args: argparse.Namespace) -> None:
    """Refuse to write into a folder with content unless `--overwrite` or `--resume_from_checkpoint` says so.

    Raises:
        FileExistsError: `args.output_dir` is not empty.
        FileNotFoundError: `args.resume_from_checkpoint` names a folder that is no checkpoint.
        ValueError: The checkpoint is not whole, or was made with other flags than it can be resumed with.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output_dir {folder} is a file; give a folder.")
    if args.resume_from_checkpoint not in (None, "latest"):
        _check_explicit(args, Path(args.resume_from_checkpoint), folder)
    elif args.resume_from_checkpoint:
        _check_latest(args, folder)
    elif not args.overwrite and (_content(args, folder) or _has_steps(folder)):
        raise FileExistsError(
            f"--output_dir {folder} is not empty; pass --overwrite or --resume_from_checkpoint latest."
        )
    if checkpoint := find_checkpoint(args):
        check_flags(args, checkpoint)


def _check_latest(args: argparse.Namespace, folder: Path) -> None:
    """Refuse to begin anew in a folder that has more than a run without a checkpoint leaves."""
    if args.overwrite or last_whole(folder):
        return
    content = _content(args, folder)
    if broken := [path for path in list_checkpoints(folder) if path.name in content]:
        raise FileExistsError(
            f"{broken[-1]} cannot be resumed: {damage(broken[-1])}, and {folder} has no whole checkpoint; pass "
            "--overwrite to begin anew and drop it, or another --output_dir."
        )
    if content:
        raise FileExistsError(
            f"--output_dir {folder} has {content[0]} and no checkpoint to resume; pass --overwrite to begin anew, or "
            "another --output_dir."
        )


def _content(args: argparse.Namespace, folder: Path) -> list[str]:
    """Names in a folder besides what a run without a checkpoint leaves, and what systems leave."""
    if not folder.exists():
        return []
    own = {Path(args.logging_dir).parts[:1], *((path.name,) for path in list_checkpoints(folder) if _is_empty(path))}
    return [name for name in list_content(folder) if (name,) not in own and not BOOKKEEPING.fullmatch(name)]


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _has_steps(folder: Path) -> bool:
    """Whether a run without a checkpoint has logged a step, or has sampled after one; so counts what no run wrote."""
    logs = [folder / "log.jsonl", folder / "validation" / "loss.jsonl"]
    lines = {log: list(read_log(log)) for log in logs if log.is_file()}
    foreign = any(log.stat().st_size and not read for log, read in lines.items())
    sampled = any(path.name != "loss.jsonl" for path in folder.glob("validation/*"))
    return foreign or sampled or any(line["step"] for read in lines.values() for line in read)


def _check_explicit(args: argparse.Namespace, checkpoint: Path, folder: Path) -> None:
    if wrong := damage(checkpoint):
        whole = last_whole(checkpoint.parent)
        remedy = f"take {whole}, which is whole" if whole else "take another"
        kind = FileNotFoundError if not (checkpoint / "progress.json").exists() else ValueError
        raise kind(f"--resume_from_checkpoint {checkpoint} is not a checkpoint to resume: {wrong}; {remedy}.")
    if args.overwrite:
        return
    if checkpoint.resolve().parent != folder.resolve():
        if _content(args, folder) or _has_steps(folder):
            raise FileExistsError(
                f"--output_dir {folder} is not empty and not the run of {checkpoint}; pass --overwrite."
            )
        return
    step = read_progress(checkpoint)["step"]
    later = [path for path in list_checkpoints(folder) if named_step(path) > step and damage(path) is None]
    if later:
        raise FileExistsError(
            f"{later[0]} is later than {checkpoint}; pass --overwrite to drop it, or another --output_dir."
        )


def check_flags(args: argparse.Namespace, checkpoint: Path) -> None:
    """Raises ValueError where the weights of a checkpoint are not those that a flag says."""
    changed = changed_flags(args, checkpoint)
    for name in WEIGHTS_ARE:
        if name in changed:
            then, now = changed[name]
            raise ValueError(
                f"{checkpoint} was made with --{name} {then}, not {now}; "
                "resume with the same, or start anew in another --output_dir."
            )
    if args.mixed_precision == "fp16" and "mixed_precision" in changed:
        raise ValueError(
            f"{checkpoint} was made with --mixed_precision {changed['mixed_precision'][0]} and has no loss scale for "
            "fp16; resume with the same, or with bf16."
        )


def changed_flags(args: argparse.Namespace, checkpoint: Path) -> dict[str, tuple]:
    """Flags that differ from those of the run that wrote a checkpoint: name to (then, now)."""
    then = read_progress(checkpoint).get("args", {})
    now = {name: _as_json(value) for name, value in vars(args).items()}
    names = [name for name in now if name in then and name not in OF_THE_RUN]
    return {name: (then[name], now[name]) for name in names if not _same(then[name], now[name])}


def _as_json(value):
    """The value as `progress.json` gives it back."""
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _same(then, now) -> bool:
    """Equal, or names of one file, which may have moved with the folders around it."""
    if then == now:
        return True
    if not (isinstance(then, str) and isinstance(now, str)):
        return False
    if Path(then).exists():
        return Path(then).resolve() == Path(now).resolve()
    return Path(then).is_absolute() and Path(then).name == Path(now).name and Path(now).exists()


def kept_scale(args: argparse.Namespace) -> LatentScale | None:
    """The latent scale that the checkpoint to resume has kept (`keep` of `fit`); None where there is none."""
    checkpoint = find_checkpoint(args)
    kept = read_progress(checkpoint).get("kept", {}) if checkpoint else {}
    return LatentScale.read(kept["latent_scale"]) if "latent_scale" in kept else None


@dataclass(frozen=True)
class Hyperparameters:
    """What the command line says of optimizer and schedule, to be put back after a checkpoint's state was loaded.

    Attributes:
        groups: Of each optimizer group all but its parameters.
        base_lrs: Learning rates that the schedule scales.
    """

    groups: list[dict]
    base_lrs: list[float]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, scheduler) -> "Hyperparameters":
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        return cls(groups, list(scheduler.base_lrs))

    def put_back(self, optimizer: torch.optim.Optimizer, scheduler) -> None:
        """The learning rate becomes that of the schedule at the step where the checkpoint was."""
        scheduler.base_lrs = list(self.base_lrs)
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        rates = [rate * factor for rate, factor in zip(self.base_lrs, factors, strict=True)]
        for group, known, rate in zip(optimizer.param_groups, self.groups, rates, strict=True):
            group.update(known | {"lr": rate})
        scheduler._last_lr = rates


def load_checkpoint(accelerator: Accelerator, path: Path, layout: dict) -> int:
    """Restore the state of a run and return its step.

    Raises:
        ValueError: The state is of a run that divides its data in another way or has another optimizer.
    """
    progress = read_progress(path)
    for name, value in layout.items():
        if name in progress["layout"] and progress["layout"][name] != value:
            raise ValueError(
                f"{path} was made with {name} {progress['layout'][name]}, not {value}; resume with the same."
            )
    accelerator.load_state(str(path))
    return progress["step"]
