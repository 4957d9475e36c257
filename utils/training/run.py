"""What a training run is made of, and how it is set up from its arguments."""

import argparse
import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import ProjectConfiguration
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm.auto import tqdm

from utils.processes import on_cpu
from utils.training import checkpoints
from utils.training.logs import JsonLog, Means
from utils.training.muon import Muon, split_groups
from utils.training.seeding import EpochSampler, SeededDataset
from utils.training.stop import leave_signals


@dataclass
class Run:
    """All that a training run holds while it runs."""

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
    resumed: list[dict] = field(default_factory=list)
    kept: dict = field(default_factory=dict)
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

    @property
    def flags(self) -> dict:
        """The flags in use, and what changed where the run was resumed."""
        return vars(self.args) | ({"resumed": self.resumed} if self.resumed else {})

    def group_factor(self, number: int) -> float:
        """Factor of the loss of a batch, by its number in the epoch.

        Accelerate divides it by `gradient_accumulation_steps`, and the last group of an epoch may have fewer batches.
        """
        steps = self.args.gradient_accumulation_steps
        return steps / min(steps, len(self.loader) - number // steps * steps)

    def open_groups(self) -> None:
        """Let the parameters of each optimizer group learn from its `start_step` on, without gradients before."""
        for group in self.optimizer.param_groups:
            if "start_step" in group:
                for parameter in group["params"]:
                    parameter.requires_grad_(self.step >= group["start_step"])

    def due(self, steps: str) -> bool:
        """Whether the work that the argument `steps` spaces out is due now; at the last step all of it is."""
        interval = getattr(self.args, steps)
        return self.step == self.total or (interval is not None and self.step % interval == 0)


def prepare(args, model, dataset, collate_fn, parameters, frozen) -> Run:
    """Set up a run; see `utils.training.loop.fit` for the arguments."""
    parameters, groups = _select(model, parameters)
    accelerator = _accelerator(args)
    _check_precision(accelerator, parameters)
    _place(args, model, frozen, accelerator.device)
    loader, sampler = _loader(args, dataset, collate_fn)
    optimizer = _optimizer(args, model, groups, accelerator.num_processes)
    prepared, prepared_optimizer, loader = accelerator.prepare(model, optimizer, loader)
    total = args.max_train_steps or args.num_train_epochs * math.ceil(len(loader) / args.gradient_accumulation_steps)
    run = Run(
        args=args,
        accelerator=accelerator,
        model=model,
        prepared=prepared,
        parameters=parameters,
        optimizer=prepared_optimizer,
        scheduler=_scheduler(args, optimizer, total),
        loader=loader,
        sampler=sampler,
        ema=_ema(args, parameters),
        layout=_layout(args, dataset, optimizer, accelerator),
        total=total,
    )
    _register(run)
    return run


def _register(run: Run) -> None:
    """Tell accelerate what belongs into a checkpoint."""
    checkpoints.save_only_trained(run.accelerator, run.model)
    run.accelerator.register_for_checkpointing(run.scheduler)
    if run.ema:
        run.accelerator.register_for_checkpointing(run.ema)


def _check_precision(accelerator: Accelerator, parameters: list[nn.Parameter]) -> None:
    if accelerator.mixed_precision == "fp16" and any(p.dtype == torch.float16 for p in parameters):
        raise ValueError("Parameters to train are float16; keep them in float32 with --mixed_precision fp16.")


def _place(args, model: nn.Module, frozen: tuple[nn.Module, ...], device: torch.device) -> None:
    if args.allow_tf32:
        torch.set_float32_matmul_precision("high")
    if args.gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    for module in frozen:
        module.requires_grad_(False).eval().to(device)
    model.train()


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
    # Accelerate keeps one state for the process and refuses another precision in a second run.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    folder = Path(args.output_dir)
    return Accelerator(
        cpu=on_cpu(),
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
        worker_init_fn=leave_signals,
    )
    return loader, sampler


def _optimizer(args, model: nn.Module, groups: list, processes: int) -> torch.optim.Optimizer:
    scale = args.gradient_accumulation_steps * args.train_batch_size * processes if args.scale_lr else 1
    lr = args.learning_rate * scale
    if args.optimizer == "muon":
        groups = split_groups(model, groups, lr, args.muon_learning_rate * scale)
    return _optimizer_class(args)(
        groups,
        lr=lr,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        eps=args.adam_epsilon,
    )


def _optimizer_class(args):
    if args.optimizer == "muon":
        if args.use_8bit_adam:
            raise ValueError("--use_8bit_adam needs --optimizer adamw: Muon keeps its state in float32; remove one.")
        return Muon
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


def _layout(args, dataset, optimizer, accelerator) -> dict:
    """What a checkpoint's state depends on: how the data is divided into batches, and what keeps a state."""
    return {
        "seed": args.seed,
        "samples": len(dataset),
        "train_batch_size": args.train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "num_processes": accelerator.num_processes,
        "optimizer": type(optimizer).__name__,
        "use_ema": args.use_ema,
    }
