"""The one training loop, on accelerate. A train script brings a model, a dataset and a loss; `fit` does the rest.

Checkpoints are exact: a resumed run equals an uninterrupted one, in data, noise, weights and average.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import ProjectConfiguration
from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm.auto import tqdm

from utils import checkpoints
from utils.checkpoints import check_output_dir
from utils.logs import JsonLog, Means, plot_loss
from utils.seeding import EpochSampler, SeededDataset, seed_batch

SCHEDULERS = ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"]


def add_training_arguments(parser: argparse.ArgumentParser, **defaults) -> None:
    """Add the flags that `fit` reads, named as in diffusers' training examples; `defaults` replace their defaults."""
    _add_run_arguments(parser.add_argument_group("run"))
    _add_optimization_arguments(parser.add_argument_group("optimization"))
    _add_speed_arguments(parser.add_argument_group("speed and memory"))
    known = {action.dest for action in parser._actions}
    if unknown := set(defaults) - known:
        raise ValueError(f"No training argument is called {sorted(unknown)[0]!r}.")
    parser.set_defaults(**defaults)


def _add_run_arguments(group) -> None:
    add = group.add_argument
    add(
        "--output_dir",
        required=True,
        help="folder for weights, checkpoints, log.jsonl, loss.png and validation pictures",
    )
    add("--overwrite", action="store_true", help="write into an output_dir that is not empty, dropping its checkpoints")
    add("--seed", type=int, default=0, help="decides data order, augmentation, noise")
    add("--train_batch_size", type=int, default=16, help="samples a process takes at once")
    add("--num_train_epochs", type=int, default=100)
    add("--max_train_steps", type=int, help="optimizer steps; overrides num_train_epochs")
    add("--gradient_accumulation_steps", type=int, default=1, help="batches that make one optimizer step")
    add("--checkpointing_steps", type=int, default=500)
    add("--checkpoints_total_limit", type=int, help="newest checkpoints to keep; all by default")
    add("--resume_from_checkpoint", help="path of a checkpoint, or latest (starts anew where there is none)")
    add("--validation_steps", type=int, help="steps between validation pictures; by default at the end only")
    add("--logging_steps", type=int, default=10, help="steps that one line of log.jsonl is a mean of")
    add("--report_to", default="none", choices=["none", "tensorboard", "wandb"], help="tracker beside log.jsonl")
    add("--logging_dir", default="logs", help="folder of the tracker inside output_dir")


def _add_optimization_arguments(group) -> None:
    add = group.add_argument
    add("--learning_rate", type=float, default=1e-4)
    add("--scale_lr", action="store_true", help="multiply learning_rate by batch size, accumulation and processes")
    add("--lr_scheduler", default="constant", choices=SCHEDULERS)
    add("--lr_warmup_steps", type=int, default=500)
    add("--adam_beta1", type=float, default=0.9)
    add("--adam_beta2", type=float, default=0.999)
    add("--adam_weight_decay", type=float, default=1e-2)
    add("--adam_epsilon", type=float, default=1e-8)
    add("--use_8bit_adam", action="store_true", help="AdamW of bitsandbytes")
    add("--max_grad_norm", type=float, default=1.0)
    add("--use_ema", action="store_true", help="save and validate an exponential moving average of the weights")
    add("--ema_decay", type=float, default=0.9999)


def _add_speed_arguments(group) -> None:
    add = group.add_argument
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: that of accelerate's configuration")
    add("--gradient_checkpointing", action="store_true", help="compute activations again in backward to save memory")
    add("--allow_tf32", action="store_true", help="faster float32 products on Ampere GPUs and later")
    add("--channels_last", action="store_true", help="faster convolutions on most processors")
    add("--torch_compile", action="store_true")
    add("--dataloader_num_workers", type=int, default=0, help="0 loads in the main process")


def fit(
    args: argparse.Namespace,
    model: nn.Module,
    dataset,
    compute_loss: Callable,
    *,
    collate_fn: Callable | None = None,
    save: Callable[[nn.Module, Path], None] | None = None,
    validate: Callable[[nn.Module, int], dict[str, Image.Image]] | None = None,
    parameters: list | None = None,
    frozen: tuple[nn.Module, ...] = (),
) -> None:
    """Train `parameters` of `model` on `dataset`.

    Args:
        args: The namespace of `add_training_arguments`.
        model: Its parameters to train are float32. It comes back on the training device, with the trained weights.
        dataset: Anything with `__len__` and `__getitem__`. Each sample is loaded with `random`, NumPy and torch seeded anew, so
            random augmentation differs from epoch to epoch and survives workers and resuming.
        compute_loss: `(model, batch) -> loss` or `(loss, {name: scalar})`, the scalars being logged under the same names in every
            step. `model` is the prepared one to call; attributes are read from the caller's own.
        collate_fn: Makes a batch of samples; it may not draw random numbers.
        save: `(model, folder)`, called once at the end, by one process, with averaged weights where `--use_ema` is set.
        validate: `(model, step) -> {name: picture}`, called every `--validation_steps` and at the end in the same way.
            Pictures go to `output_dir/validation/{step}_{name}.png` and to the tracker.
        parameters: Parameters of `model`, or optimizer groups of them with a learning rate of their own; every other parameter is
            frozen. Default: all that require a gradient.
        frozen: Modules that `compute_loss` uses (autoencoder, text encoder): moved to the training device, without gradients.

    Raises:
        FileExistsError: `output_dir` is not empty (before any work).
        ValueError: No parameter to train, an empty dataset, or a checkpoint of another run.
        FloatingPointError: The loss is not finite.
    """
    check_output_dir(args)
    run = _prepare(args, model, dataset, collate_fn, parameters, frozen)
    _start(run)
    for epoch, number, batch in _batches(run):
        seed_batch(args.seed, epoch, number, run.accelerator.process_index)
        if not _train_on(run, batch, compute_loss):
            continue
        run.step += 1
        _report(run)
        if run.step % args.checkpointing_steps == 0 or run.step == run.total:
            _checkpoint(run)
        if validate and args.validation_steps and run.step % args.validation_steps == 0 and run.step < run.total:
            _validate(run, validate)
    _finish(run, save, validate)


@dataclass
class _Run:
    """All that one training run holds."""

    args: argparse.Namespace
    accelerator: Accelerator
    model: nn.Module
    prepared: nn.Module
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    loader: DataLoader
    sampler: EpochSampler
    ema: object | None
    layout: dict
    total: int
    step: int = 0
    means: Means = field(default_factory=Means)
    log: JsonLog | None = None
    bar: tqdm | None = None
    clock: float = 0.0

    @property
    def folder(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.loader) / self.args.gradient_accumulation_steps)


def _prepare(args, model, dataset, collate_fn, parameters, frozen) -> _Run:
    parameters, groups = _select(model, parameters)
    if args.allow_tf32:
        torch.set_float32_matmul_precision("high")
    if args.gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    accelerator = _accelerator(args)
    if accelerator.mixed_precision == "fp16" and any(p.dtype == torch.float16 for p in parameters):
        raise ValueError("Parameters to train are float16; keep them in float32 with --mixed_precision fp16.")
    for module in frozen:
        module.requires_grad_(False).eval().to(accelerator.device)
    loader, sampler = _loader(args, dataset, collate_fn)
    optimizer = _optimizer(args, groups, accelerator.num_processes)
    model.train()
    prepared, prepared_optimizer, loader = accelerator.prepare(model, optimizer, loader)
    checkpoints.save_only_trained(accelerator, model)
    total = args.max_train_steps or args.num_train_epochs * math.ceil(len(loader) / args.gradient_accumulation_steps)
    scheduler = _scheduler(args, optimizer, total)
    accelerator.register_for_checkpointing(scheduler)
    ema = _ema(args, parameters)
    if ema:
        accelerator.register_for_checkpointing(ema)
    return _Run(
        args=args,
        accelerator=accelerator,
        model=model,
        prepared=prepared,
        parameters=parameters,
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        loader=loader,
        sampler=sampler,
        ema=ema,
        layout=_layout(args, dataset, accelerator),
        total=total,
    )


def _select(model: nn.Module, parameters: list | None) -> tuple[list[nn.Parameter], list]:
    """The parameters to train, flat, and as the optimizer takes them; everything else in the model is frozen."""
    groups = list(parameters) if parameters is not None else [p for p in model.parameters() if p.requires_grad]
    flat = [p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])]
    if not flat:
        raise ValueError("There is no parameter to train: add an adapter, or let parameters require a gradient.")
    chosen = {id(p) for p in flat}
    if chosen - {id(p) for p in model.parameters()}:
        raise ValueError("A parameter to train is not part of the model; put it into one module with the rest.")
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return flat, groups


def _enable_gradient_checkpointing(model: nn.Module) -> None:
    able = [m for m in model.modules() if getattr(m, "_supports_gradient_checkpointing", False)]
    if not able:
        raise ValueError(f"{type(model).__name__} has no gradient checkpointing; leave out --gradient_checkpointing.")
    for module in able:
        module.enable_gradient_checkpointing()


def _accelerator(args) -> Accelerator:
    if args.report_to != "none" and importlib.util.find_spec(args.report_to) is None:
        raise ValueError(f"--report_to {args.report_to} needs that package: pip install {args.report_to}.")
    folder = Path(args.output_dir)
    return Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / args.logging_dir)),
        dynamo_backend="inductor" if args.torch_compile else None,
        # Conditions and directions are dropped at random, so a step may leave adapters without a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def _loader(args, dataset, collate_fn) -> tuple[DataLoader, EpochSampler]:
    if len(dataset) == 0:
        raise ValueError("The dataset is empty.")
    sampler = EpochSampler(len(dataset), args.seed)
    loader = DataLoader(
        SeededDataset(dataset, args.seed),
        batch_sampler=BatchSampler(sampler, args.train_batch_size, drop_last=False),
        collate_fn=collate_fn,
        num_workers=args.dataloader_num_workers,
        persistent_workers=args.dataloader_num_workers > 0,
    )
    return loader, sampler


def _optimizer(args, groups: list, processes: int) -> torch.optim.Optimizer:
    scale = args.gradient_accumulation_steps * args.train_batch_size * processes if args.scale_lr else 1
    return _optimizer_class(args)(
        groups,
        lr=args.learning_rate * scale,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        eps=args.adam_epsilon,
    )


def _optimizer_class(args):
    if not args.use_8bit_adam:
        return torch.optim.AdamW
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("--use_8bit_adam needs that package: pip install bitsandbytes.")
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit


def _scheduler(args, optimizer, total: int):
    from diffusers.optimization import get_scheduler

    # Not prepared by accelerate, which would step it once for every process.
    return get_scheduler(
        args.lr_scheduler, optimizer=optimizer, num_warmup_steps=args.lr_warmup_steps, num_training_steps=total
    )


def _ema(args, parameters: list[nn.Parameter]):
    if not args.use_ema:
        return None
    from diffusers.training_utils import EMAModel

    return EMAModel(parameters, decay=args.ema_decay, foreach=True)


def _layout(args, dataset, accelerator) -> dict:
    """How the data is divided into batches: a checkpoint's place in the data means nothing under another division."""
    return {
        "seed": args.seed,
        "samples": len(dataset),
        "train_batch_size": args.train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "num_processes": accelerator.num_processes,
    }


def _start(run: _Run) -> None:
    """Resume where asked; then open log, tracker and progress bar."""
    checkpoint = checkpoints.find_checkpoint(run.args)
    if checkpoint:
        run.step = checkpoints.load_checkpoint(run.accelerator, checkpoint, run.layout)
        run.accelerator.print(f"Resuming from {checkpoint}.")
    if run.ema:
        run.ema.to(run.accelerator.device)
    if run.accelerator.is_main_process:
        run.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.clean_output_dir(run.folder, run.step)
        run.log = JsonLog(run.folder / "log.jsonl", run.step)
        (run.folder / "args.json").write_text(json.dumps(vars(run.args), indent=2, default=str))
    run.accelerator.wait_for_everyone()
    if run.args.report_to != "none":
        run.accelerator.init_trackers("duet")
    run.bar = tqdm(total=run.total, initial=run.step, disable=not run.accelerator.is_main_process, desc="train")
    run.clock = time.monotonic()


def _batches(run: _Run) -> Iterator:
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


def _train_on(run: _Run, batch, compute_loss) -> bool:
    """Forward and backward of one batch; True where it completed an optimizer step."""
    with run.accelerator.accumulate(run.prepared):
        result = compute_loss(run.prepared, batch)
        loss, scalars = result if isinstance(result, tuple) else (result, {})
        run.accelerator.backward(loss)
        run.means.add({"loss": loss, **scalars})
        if run.accelerator.sync_gradients:
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


def _report(run: _Run) -> None:
    run.bar.update()
    if run.step % run.args.logging_steps and run.step != run.total:
        return
    scalars = run.means.pop(run.accelerator)
    if not math.isfinite(scalars["loss"]):
        raise FloatingPointError(f"The loss is {scalars['loss']} at step {run.step}; lower --learning_rate.")
    scalars["lr"] = run.scheduler.get_last_lr()[0]
    run.bar.set_postfix(loss=f"{scalars['loss']:.4f}", lr=f"{scalars['lr']:.2e}")
    run.accelerator.log(scalars, step=run.step)
    if run.log:
        run.log.write({"step": run.step, **scalars, "seconds": round(time.monotonic() - run.clock, 2)})


def _checkpoint(run: _Run) -> None:
    checkpoints.save_checkpoint(run.accelerator, run.folder, run.step, run.layout, run.args.checkpoints_total_limit)
    if run.log:
        plot_loss(run.log.read(), run.folder / "loss.png")


@contextlib.contextmanager
def _averaged(run: _Run):
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


def _validate(run: _Run, validate) -> None:
    if run.accelerator.is_main_process:
        with _averaged(run), torch.no_grad():
            pictures = validate(run.model, run.step)
        folder = run.folder / "validation"
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            picture.save(folder / f"{run.step:06d}_{name}.png")
        _track_pictures(run, pictures)
    run.accelerator.wait_for_everyone()


def _track_pictures(run: _Run, pictures: dict[str, Image.Image]) -> None:
    import numpy as np

    for tracker in run.accelerator.trackers:
        if tracker.name == "tensorboard":
            for name, picture in pictures.items():
                tracker.writer.add_image(name, np.asarray(picture.convert("RGB")), run.step, dataformats="HWC")
        else:
            tracker.log_images({name: [picture] for name, picture in pictures.items()}, step=run.step)


def _finish(run: _Run, save, validate) -> None:
    run.bar.close()
    if validate:
        _validate(run, validate)
    run.accelerator.unwrap_model(run.prepared, keep_fp32_wrapper=False, keep_torch_compile=False)
    run.model.to(memory_format=torch.contiguous_format)
    if save and run.accelerator.is_main_process:
        with _averaged(run):
            save(run.model, run.folder)
    run.accelerator.end_training()
