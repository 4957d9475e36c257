"""The one training loop, on accelerate. A train script brings a model, a dataset and a loss; `fit` does the rest.

Checkpoints are exact: a resumed run equals an uninterrupted one, in data, noise, weights and average.
"""

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from utils.messages.notices import notice
from utils.training import checkpoints
from utils.training.arguments import add_training_arguments
from utils.training.logs import JsonLog, plot_loss
from utils.training.resume import Hyperparameters, changed_flags, check_output_dir, load_checkpoint
from utils.training.run import Run, prepare
from utils.training.seeding import seed_batch
from utils.training.stop import listening
from utils.training.writing import writing

__all__ = ["add_training_arguments", "check_output_dir", "fit"]


def fit(
    args: argparse.Namespace,
    model: nn.Module,
    dataset,
    compute_loss: Callable,
    *,
    collate_fn: Callable | None = None,
    save: Callable[[nn.Module, Path], Path | None] | None = None,
    start: Callable[[nn.Module, int, int], None] | None = None,
    validate: Callable[[nn.Module, int], dict[str, Image.Image]] | None = None,
    parameters: list | None = None,
    frozen: tuple[nn.Module, ...] = (),
    keep: dict | None = None,
) -> None:
    """Train `parameters` of `model` on `dataset`.

    Args:
        args: The namespace of `add_training_arguments`.
        model: Its parameters to train are float32. It comes back on the training device, with the trained weights.
        dataset: Anything with `__len__` and `__getitem__`. Each sample is loaded with `random`, NumPy and torch seeded
            anew, so random augmentation differs from epoch to epoch and survives workers and resuming.
        compute_loss: `(model, batch) -> loss` or `(loss, {name: scalar})`, the scalars being logged under the same
            names in every step, None where a batch has no such value. `model` is the prepared one to call; attributes
            are read from the caller's own.
        collate_fn: Makes a batch of samples; it may not draw random numbers.
        save: `(model, folder)`, called once at the end, by one process, with averaged weights where `--use_ema` is set;
            it returns what it wrote where that is not the folder as a whole. The last line that is printed names it.
        start: `(model, step, kept_step)`, called once before the first step in the same way: the run is at `step`, and
            what earlier runs logged in `output_dir` is kept up to `kept_step`.
        validate: `(model, step) -> {name: image}`, called every `--validation_steps` and at the end in the same way.
            Images go to `output_dir/validation/{step}_{name}.png` and to the tracker.
        parameters: Parameters of `model`, or optimizer groups of them with a learning rate of their own, and
            `start_step`, the number of steps that pass before they are trained as well; every other parameter is
            frozen. Default: all that require a gradient.
        frozen: Modules that `compute_loss` uses (autoencoder, text encoder): moved to the training device, without
            gradients.
        keep: What checkpoints hold besides, as JSON can; a `latent_scale` is read back by `kept_scale`.

    Raises:
        FileExistsError: `output_dir` is not empty (before any work).
        ValueError: No parameter to train, an empty dataset, or a checkpoint of another run.
        FloatingPointError: The loss is not finite.
        OSError: The disk is full.
        SystemExit: A signal has asked for the end; there is a checkpoint of the last step.
    """
    check_output_dir(args)
    run = prepare(args, model, dataset, collate_fn, parameters, frozen)
    run.kept = keep or {}
    try:
        _start(run, start)
        _loop(run, compute_loss, validate)
    finally:
        _release(run)
    if save and run.accelerator.is_main_process:
        with _averaged(run), writing(run.folder):
            written = save(model, run.folder)
        print(f"Written: {written or run.folder}")
    run.accelerator.end_training()


def _loop(run: Run, compute_loss, validate) -> None:
    with listening() as stop:
        for epoch, number, batch in _batches(run):
            seed_batch(run.args.seed, epoch, number, run.accelerator.process_index)
            if not _train_on(run, number, batch, compute_loss):
                continue
            run.step += 1
            stopping = stop.agreed(run.accelerator)
            _report(run, stopping)
            if stopping or run.due("checkpointing_steps"):
                _checkpoint(run)
            if stopping:
                _end_early(run)
            if validate and run.due("validation_steps"):
                _validate(run, validate)


def _end_early(run: Run) -> None:
    run.accelerator.end_training()
    if not run.accelerator.is_main_process:
        raise SystemExit(1)
    raise SystemExit(f"Stopped at step {run.step}; go on with --resume_from_checkpoint latest.")


def _start(run: Run, start) -> None:
    """Resume where asked; then open log, tracker and progress bar."""
    checkpoint = checkpoints.find_checkpoint(run.args)
    changed = _resume(run, checkpoint) if checkpoint else {}
    _say_where(run, checkpoint, changed)
    if run.ema:
        run.ema.to(run.accelerator.device)
    run.accelerator.wait_for_everyone()  # all have found their checkpoint before others are dropped
    if run.accelerator.is_main_process:
        continues = checkpoint is not None and checkpoint.resolve().parent == run.folder.resolve()
        _open_output_dir(run, run.step if continues else 0, start)
    run.accelerator.wait_for_everyone()
    _open_displays(run)


def _resume(run: Run, checkpoint: Path) -> dict[str, tuple]:
    """Take the state of a checkpoint, all else from the command line, and return the flags that changed."""
    changed = changed_flags(run.args, checkpoint)
    known = Hyperparameters.of(run.optimizer, run.scheduler)
    run.step = load_checkpoint(run.accelerator, checkpoint, run.layout)
    if run.step > run.total:
        raise ValueError(
            f"{checkpoint} is of step {run.step}, later than the last one, {run.total}; raise --max_train_steps."
        )
    known.put_back(run.optimizer, run.scheduler)
    if run.ema:
        run.ema.decay = run.args.ema_decay
    earlier = checkpoints.read_progress(checkpoint).get("args", {}).get("resumed", [])
    run.resumed = earlier + ([{"step": run.step, "changed": changed}] if changed else [])
    return changed


def _say_where(run: Run, checkpoint: Path | None, changed: dict[str, tuple]) -> None:
    """Say from where the run goes on, with which other flags, and which checkpoints cannot be resumed."""
    if run.args.resume_from_checkpoint == "latest":
        for path in checkpoints.list_checkpoints(run.folder):
            if (checkpoint is None or checkpoints.named_step(path) > run.step) and (wrong := checkpoints.damage(path)):
                run.accelerator.print(f"{path} is passed over: {wrong}.")
    if checkpoint:
        changes = [f"--{name} {now} in place of {then}" for name, (then, now) in changed.items()]
        run.accelerator.print(f"Resuming from {checkpoint}{' with ' if changes else ''}{', '.join(changes)}.")
    elif run.args.resume_from_checkpoint:
        run.accelerator.print(f"{run.folder} has no whole checkpoint; starting from the first step.")


def _open_output_dir(run: Run, kept_step: int, start) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.drop_later(run.folder, kept_step)
    run.log = JsonLog(run.folder / "log.jsonl", kept_step)
    (run.folder / "args.json").write_text(json.dumps(run.flags, indent=2, default=str))
    if start:
        with _averaged(run), torch.no_grad():
            start(run.model, run.step, kept_step)


def _open_displays(run: Run) -> None:
    if run.args.report_to != "none":
        run.accelerator.init_trackers("duet")
    run.bar = tqdm(total=run.total, initial=run.step, disable=not run.accelerator.is_main_process, desc="train")
    run.clock = time.monotonic()


def _batches(run: Run) -> Iterator:
    """(epoch, number in the epoch, batch) from the run's step to its last."""
    while run.step < run.total:
        epoch, done = divmod(run.step, run.steps_per_epoch)
        run.sampler.epoch = epoch
        first = done * run.args.gradient_accumulation_steps
        loader = run.accelerator.skip_first_batches(run.loader, first) if first else run.loader
        for number, batch in enumerate(loader, first):
            yield epoch, number, batch
            if run.step == run.total:
                return


def _train_on(run: Run, number: int, batch, compute_loss) -> bool:
    """Forward and backward of one batch; True where it completed an optimizer step."""
    run.open_groups()
    with run.accelerator.accumulate(run.prepared):
        result = compute_loss(run.prepared, batch)
        loss, scalars = result if isinstance(result, tuple) else (result, {})
        run.accelerator.backward(loss * run.group_factor(number))
        run.means.add({"loss": loss, **scalars})
        if run.accelerator.sync_gradients and run.args.max_grad_norm:
            run.accelerator.clip_grad_norm_(run.parameters, run.args.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
    if not run.accelerator.sync_gradients:
        return False
    if not run.accelerator.optimizer_step_was_skipped:
        run.scheduler.step()
    if run.ema:
        run.ema.step(run.parameters)
    return True


def _report(run: Run, stopping: bool) -> None:
    run.bar.update()
    if not (stopping or run.due("logging_steps") or run.due("checkpointing_steps")):
        return
    scalars = run.means.pop(run.accelerator)
    if not math.isfinite(scalars["loss"]):
        raise FloatingPointError(f"The loss is {scalars['loss']} at step {run.step}; lower --learning_rate.")
    scalars["lr"] = run.scheduler.get_last_lr()[0]
    run.bar.set_postfix(loss=f"{scalars['loss']:.4f}", lr=f"{scalars['lr']:.2e}")
    run.accelerator.log(scalars, step=run.step)
    if run.log:
        run.log.write({"step": run.step, **scalars, "seconds": round(time.monotonic() - run.clock, 2)})


def _checkpoint(run: Run) -> None:
    about = {"layout": run.layout, "args": run.flags, "kept": run.kept}
    limit = run.args.checkpoints_total_limit
    checkpoints.save_checkpoint(run.accelerator, run.folder, run.step, about, limit)
    if run.log:
        plot_loss(run.log.read(), run.folder / "loss.png")


@contextlib.contextmanager
def _averaged(run: Run):
    """Within: the averaged weights in the model, which is in evaluation mode."""
    run.model.eval()
    if run.ema:
        run.ema.store(run.parameters)
        run.ema.copy_to(run.parameters)
    try:
        yield
    finally:
        if run.ema:
            run.ema.restore(run.parameters)
        run.model.train()


def _validate(run: Run, validate) -> None:
    if run.accelerator.is_main_process:
        try:
            with _averaged(run), torch.no_grad():
                images = validate(run.model, run.step)
        except FloatingPointError as error:
            notice(f"No images of the validation at step {run.step}: {error}")
            images = {}
        folder = run.folder / "validation"
        folder.mkdir(exist_ok=True)
        for name, image in images.items():
            image.save(folder / f"{run.step:06d}_{name}.png")
        _track_images(run, images)
    run.accelerator.wait_for_everyone()


def _track_images(run: Run, images: dict[str, Image.Image]) -> None:
    for tracker in run.accelerator.trackers:
        if tracker.name == "tensorboard":
            for name, image in images.items():
                tracker.writer.add_image(name, np.asarray(image.convert("RGB")), run.step, dataformats="HWC")
        else:
            tracker.log_images({name: [image] for name, image in images.items()}, step=run.step)


def _release(run: Run) -> None:
    """Give the model back as it came, but trained."""
    if run.bar:
        run.bar.close()
    run.accelerator.unwrap_model(run.prepared, keep_fp32_wrapper=False, keep_torch_compile=False)
    attributes = vars(run.model)
    attributes.pop("_is_accelerate_prepared", None)
    if getattr(attributes.get("forward"), "__func__", None) is type(run.model).forward:
        del attributes["forward"]
    if run.args.channels_last:
        run.model.to(memory_format=torch.contiguous_format)
