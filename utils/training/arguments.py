"""The flags of the training loop, named as in diffusers' training examples."""

import argparse

from utils.arguments import positive_float, positive_int

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


def _add_run_arguments(group) -> None:
    add = group.add_argument
    add("--output_dir", required=True, help="folder of weights, checkpoints, log.jsonl, loss.png, validation pictures")
    add("--overwrite", action="store_true", help="accept an output_dir with content; drops its checkpoints")
    add("--seed", type=int, default=0, help="decides data order, augmentation and noise")
    add("--train_batch_size", type=positive_int, default=16, help="samples that a process takes at once")
    add("--num_train_epochs", type=positive_int, default=100)
    add("--max_train_steps", type=positive_int, help="optimizer steps; overrides num_train_epochs")
    add("--gradient_accumulation_steps", type=positive_int, default=1, help="batches that make an optimizer step")
    add("--checkpointing_steps", type=positive_int, default=500)
    add("--checkpoints_total_limit", type=positive_int, help="newest checkpoints to keep; all by default")
    add("--resume_from_checkpoint", help="path of a checkpoint, or latest (starts anew where there is none)")
    add("--validation_steps", type=positive_int, help="steps between validations; by default only at the end")
    add("--logging_steps", type=positive_int, default=10, help="steps that a line of log.jsonl is the mean of")
    add("--report_to", default="none", choices=["none", "tensorboard", "wandb"], help="tracker beside log.jsonl")
    add("--logging_dir", default="logs", help="folder of the tracker inside output_dir")


def _add_optimization_arguments(group) -> None:
    add = group.add_argument
    add(
        "--optimizer",
        choices=["adamw", "muon"],
        default="adamw",
        help="muon: Muon for matrices, convolutions and LoRA, AdamW for biases, norms, embeddings, first and last convolution",
    )
    add("--learning_rate", type=float, default=1e-4, help="of AdamW")
    add("--muon_learning_rate", type=positive_float, default=2e-3, help="of the matrices with --optimizer muon")
    add("--scale_lr", action="store_true", help="multiply learning_rate by batch size, accumulation and processes")
    add("--lr_scheduler", default="constant", choices=SCHEDULERS)
    add("--lr_warmup_steps", type=int, default=500, help="ignored by the constant scheduler")
    add("--adam_beta1", type=float, default=0.9)
    add("--adam_beta2", type=float, default=0.999)
    add("--adam_weight_decay", type=float, default=1e-2, help="of Muon as well")
    add("--adam_epsilon", type=float, default=1e-8)
    add("--use_8bit_adam", action="store_true", help="AdamW of bitsandbytes")
    add("--max_grad_norm", type=float, default=1.0)
    add("--use_ema", action="store_true", help="validate and save an exponential moving average of the weights")
    add("--ema_decay", type=float, default=0.9999)


def _add_speed_arguments(group) -> None:
    add = group.add_argument
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: that of accelerate's configuration")
    add(
        "--gradient_checkpointing",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compute activations again in backward to save memory",
    )
    add("--allow_tf32", action="store_true", help="faster float32 products on GPUs that have them")
    add("--channels_last", action="store_true", help="faster convolutions on most processors")
    add("--torch_compile", action="store_true")
    add("--dataloader_num_workers", type=int, default=0, help="0 loads in the main process")
