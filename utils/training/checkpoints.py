"""Checkpoints of a training run: `checkpoint-N` folders that hold all that a resumed run needs and no frozen weight."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

WEIGHTS = "trained.safetensors"
PROGRESS = "progress.json"


def check_output_dir(args: argparse.Namespace) -> None:
    """Refuse to write into a folder with content unless `--overwrite` or `--resume_from_checkpoint` says so.

    Raises:
        FileExistsError: `args.output_dir` is not empty.
        FileNotFoundError: `args.resume_from_checkpoint` names a folder that is no checkpoint.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output_dir {folder} is a file; give a folder.")
    if args.resume_from_checkpoint not in (None, "latest"):
        _check_explicit(Path(args.resume_from_checkpoint), folder, args.overwrite)
    elif folder.exists() and any(folder.iterdir()) and not (args.overwrite or args.resume_from_checkpoint):
        raise FileExistsError(
            f"--output_dir {folder} is not empty; pass --overwrite or --resume_from_checkpoint latest."
        )


def _check_explicit(checkpoint: Path, folder: Path, overwrite: bool) -> None:
    if not (checkpoint / PROGRESS).exists():
        raise FileNotFoundError(f"--resume_from_checkpoint {checkpoint} is not a checkpoint: it has no {PROGRESS}.")
    if overwrite:
        return
    if checkpoint.resolve().parent != folder.resolve():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"--output_dir {folder} is not empty and not the run of {checkpoint}; pass --overwrite."
            )
        return
    later = [path for path in list_checkpoints(folder) if _step(path) > _step(checkpoint)]
    if later:
        raise FileExistsError(
            f"{later[0]} is later than {checkpoint}; pass --overwrite to drop it, or another --output_dir."
        )


def drop_later(folder: Path, step: int) -> None:
    """Remove checkpoints later than `step`, which a run that starts there will write anew, and half-written ones."""
    for path in folder.glob("checkpoint-*.tmp"):
        shutil.rmtree(path)
    for path in list_checkpoints(folder):
        if _step(path) > step:
            shutil.rmtree(path)


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The complete checkpoints in a folder, earliest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return sorted(found, key=_step)


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` means; None where there is nothing to resume."""
    if args.resume_from_checkpoint is None:
        return None
    if args.resume_from_checkpoint != "latest":
        return Path(args.resume_from_checkpoint)
    found = list_checkpoints(args.output_dir)
    return found[-1] if found else None


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def save_only_trained(accelerator: Accelerator, model: torch.nn.Module) -> None:
    """Make the accelerator's checkpoints hold the trained parameters and the buffers of `model`, and no frozen parameter."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    def write(models, weights, folder):
        weights.clear()
        if accelerator.is_main_process:
            state = {name: value.contiguous() for name, value in model.state_dict().items() if name not in frozen}
            save_file(state, str(Path(folder) / WEIGHTS))

    def read(models, folder):
        models.clear()
        state = load_file(str(Path(folder) / WEIGHTS))
        found = {name: tuple(value.shape) for name, value in state.items()}
        due = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in frozen}
        if wrong := sorted(name for name in found | due if found.get(name) != due.get(name)):
            raise ValueError(
                f"{folder} was made with other trained weights than this run: {wrong[0]} is {found.get(wrong[0])} "
                f"there and {due.get(wrong[0])} here."
            )
        model.load_state_dict(state, strict=False)

    accelerator.register_save_state_pre_hook(write)
    accelerator.register_load_state_pre_hook(read)


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, layout: dict, limit: int | None) -> None:
    """Write `folder/checkpoint-{step}` under a temporary name, rename it, then keep the newest `limit`."""
    path = folder / f"checkpoint-{step}"
    temporary = path.with_name(path.name + ".tmp")
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (temporary / PROGRESS).write_text(json.dumps({"step": step, "layout": layout}))
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        for old in list_checkpoints(folder)[:-limit] if limit else []:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, path: Path, layout: dict) -> int:
    """Restore a run and return its step.

    Raises:
        ValueError: The run divides its data in another way than the checkpoint's run, so it cannot continue exactly.
    """
    progress = json.loads((path / PROGRESS).read_text())
    for name, value in layout.items():
        if progress["layout"].get(name) != value:
            raise ValueError(
                f"{path} was made with {name} {progress['layout'].get(name)}, not {value}; resume with the same."
            )
    accelerator.load_state(str(path))
    return progress["step"]
