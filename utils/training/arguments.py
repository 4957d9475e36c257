"""The flags of the training loop, named as in diffusers' training examples, and those of a base."""

import argparse

from utils.arguments import decay, not_negative_int, positive_float, positive_int, seed, share, weight
from utils.latents import side_factor
from utils.pretrained import loading, shipped

SCHEDULERS = ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"]


def add_training_arguments(parser: argparse.ArgumentParser, **defaults) -> None:
    """Add the flags that `utils.training.loop.fit` reads; `defaults` replace their defaults."""
    _add_run_arguments(parser.add_argument_group("run"))
    _add_optimization_arguments(parser.add_argument_group("optimization"))
    _add_speed_arguments(parser.add_argument_group("speed and memory"))
    known = {action.dest for action in parser._actions}
    if unknown := set(defaults) - known:
        raise ValueError(f"No training argument is called {min(unknown)!r}.")
    parser.set_defaults(**defaults)


def add_base_arguments(group, embedded: str) -> None:
    """Add the flags of the base; `embedded` is the folder of `weights/` that is the default."""
    add = group.add_argument
    add(
        "--pretrained_model_name_or_path",
        "--pretrained_model_name",
        default=shipped(embedded),
        help="base: a folder, or a name on the hub",
    )
    add("--revision", help="revision of the base on the hub (default: the newest)")


def base_size(args: argparse.Namespace, pipeline: type) -> tuple[int, int | None]:
    """Side in pixels of what the base was trained on, and its number of frames where it makes videos.

    Args:
        pipeline: Class of the base.

    Raises:
        FileNotFoundError, ValueError: There is no such base.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    name, revision = args.pretrained_model_name_or_path, args.revision
    with loading(name, pipeline, "--pretrained_model_name_or_path"):
        unet = UNet2DConditionModel.load_config(name, subfolder="unet", revision=revision)
        vae = AutoencoderKL.load_config(name, subfolder="vae", revision=revision)
    return unet["sample_size"] * side_factor(vae), unet.get("num_frames")


def _add_run_arguments(group) -> None:
    add = group.add_argument
    add("--output_dir", required=True, help="folder of weights, checkpoints, log.jsonl, loss.png, validation images")
    add("--overwrite", action="store_true", help="accept an --output_dir with content; drops its checkpoints")
    add("--seed", type=seed, default=0, help="seed of data order, augmentation and noise")
    add("--train_batch_size", type=positive_int, default=16, help="samples of a batch, per process")
    add("--num_train_epochs", type=positive_int, default=100, help="passes over the data")
    add(
        "--max_train_steps",
        type=positive_int,
        help="optimizer steps (default: as many as --num_train_epochs has)",
    )
    add("--gradient_accumulation_steps", type=positive_int, default=1, help="batches of one optimizer step")
    add("--checkpointing_steps", type=positive_int, default=500, help="optimizer steps between checkpoints")
    add("--checkpoints_total_limit", type=positive_int, help="newest checkpoints to keep (default: all)")
    add(
        "--resume_from_checkpoint",
        help="folder of a checkpoint, or latest: the last whole one of --output_dir, if any (default: start anew)",
    )
    add("--validation_steps", type=positive_int, help="optimizer steps between validations (default: only at the end)")
    add("--logging_steps", type=positive_int, default=10, help="optimizer steps that a line of log.jsonl averages")
    add("--report_to", default="none", choices=["none", "tensorboard", "wandb"], help="tracker beside log.jsonl")
    add("--logging_dir", default="logs", help="folder of the tracker, within --output_dir")


def _add_optimization_arguments(group) -> None:
    add = group.add_argument
    add(
        "--optimizer",
        choices=["adamw", "muon"],
        default="adamw",
        help="muon: Muon for matrices, convolutions and LoRA; AdamW for biases, norms, embeddings and end convolutions",
    )
    add("--learning_rate", type=weight, default=1e-4, help="learning rate of AdamW")
    add(
        "--muon_learning_rate",
        type=positive_float,
        default=2e-3,
        help="learning rate of the matrices with --optimizer muon",
    )
    add("--scale_lr", action="store_true", help="multiply the learning rate by batch size, accumulation and processes")
    add("--lr_scheduler", default="constant", choices=SCHEDULERS, help="learning rate over the steps")
    add(
        "--lr_warmup_steps", type=not_negative_int, default=500, help="steps of warm-up; the constant schedule has none"
    )
    add("--adam_beta1", type=decay, default=0.9, help="decay of AdamW's mean of gradients")
    add("--adam_beta2", type=decay, default=0.999, help="decay of AdamW's mean of squared gradients")
    add("--adam_weight_decay", type=weight, default=1e-2, help="weight decay of AdamW and Muon")
    add("--adam_epsilon", type=positive_float, default=1e-8, help="epsilon of AdamW")
    add("--use_8bit_adam", action="store_true", help="AdamW of bitsandbytes, with a state of 8 bits")
    add("--max_grad_norm", type=weight, default=1.0, help="norm to which gradients are clipped; 0: they are not")
    add("--use_ema", action="store_true", help="validate and save an exponential moving average of the weights")
    add("--ema_decay", type=share, default=0.9999, help="decay of the average")


def _add_speed_arguments(group) -> None:
    add = group.add_argument
    add(
        "--mixed_precision",
        choices=["no", "fp16", "bf16"],
        help="precision of the forward pass (default: that of accelerate's configuration)",
    )
    add(
        "--gradient_checkpointing",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compute activations again in the backward pass to save memory",
    )
    add("--allow_tf32", action="store_true", help="faster float32 products on GPUs that have them")
    add("--channels_last", action="store_true", help="memory order with faster convolutions on most processors")
    add("--torch_compile", action="store_true", help="compile the network")
    add(
        "--dataloader_num_workers",
        type=not_negative_int,
        default=0,
        help="processes that load data; 0: the training's own",
    )
