"""A joint adapter while it is trained: its flags, and the pairs of a batch."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

import patch
from utils.arguments import positive_int
from utils.weights.model_kinds import check_adapter

LARGE_ERROR = 0.1  # mean relative change by rounding above which `save_adapter` warns
SAVE_DTYPES = ("float32", "float16", "bfloat16", "float8_e4m3fn")


def add_adapter_arguments(group, x: str, y: str, *, post: str, one_way_share: float, y_layers: str) -> None:
    """Add the flags of a joint adapter that pairs side x with side y, whose names are part of those of the flags."""
    add = group.add_argument
    add("--rank", type=positive_int, default=64, help="rank of the LoRAs")
    add("--lora_alpha", type=float, help="alpha of the LoRAs (default: their rank)")
    add(
        "--post",
        choices=patch.POSTS,
        default=post,
        help="output projection of the joint attention (docs/patch.md); aligned suits small bases",
    )
    rows = f"layers of the {y}'s rows that have a LoRA of their own"
    add("--y_layers", choices=patch.Y_LAYERS, default=y_layers, help=rows)
    further = "adapter to train further, a file or folder; larger ranks are cut to --rank (default: a new one)"
    add("--init_adapter", help=further)
    kept = "type of the saved weights; float8_e4m3fn is half as large as float16, and rounds those below 0.001 to 0"
    add("--save_dtype", choices=SAVE_DTYPES, default="float16", help=kept)
    one_way = "share of batches in which one side is given and does not read the other"
    add("--one_way_share", type=float, default=one_way_share, help=one_way)
    both = "in batches in which both sides read"
    add(f"--clean_{x}_share", type=float, default=0.2, help=f"share of pairs whose {x} is given, {both}")
    add(f"--clean_{y}_share", type=float, default=0.2, help=f"share of pairs whose {y} is given, {both}")
    add("--equal_noise_share", type=float, default=0.25, help="share of pairs with one noise level for both sides")


def read_beginning(args, kept: Sequence[str], unet_class: str, trained_by: str) -> dict:
    """What the adapter of `--init_adapter` says of its training; nothing without one.

    Args:
        kept: Flags that have to be those of that training.
        unet_class, trained_by: See `check_adapter`.

    Raises:
        ValueError: One of them is not, or --lora_alpha is given.
    """
    if args.init_adapter is None:
        return {}
    if args.lora_alpha is not None:
        raise ValueError(
            f"--lora_alpha {args.lora_alpha:g} needs a new adapter: --init_adapter keeps its own; remove one."
        )
    check_adapter(args.init_adapter, unet_class, trained_by, "--init_adapter")
    config = patch.read_config(args.init_adapter, args.adapter_name)
    training = config.get("training") or {}
    trained = training | {name: config[name] for name in ("post", "temporal")}
    for name in kept:
        if name in trained and trained[name] != getattr(args, name):
            raise ValueError(
                f"--{name} is {getattr(args, name)}, but {args.init_adapter} has {trained[name]}: pass that."
            )
    return training


def start_adapter(unet, args, **options) -> None:
    """A joint adapter to train: that of `--init_adapter`, or a new one; options of `patch.add_joint`."""
    if args.init_adapter:
        patch.load(unet, args.init_adapter, args.adapter_name, args.rank, args.y_layers)
    else:
        patch.add_joint(
            unet, args.adapter_name, args.rank, args.lora_alpha, args.post, y_layers=args.y_layers, **options
        )


def pair_up(unet, name: str, B: int, direction: str) -> None:
    """Pair row i of x with row B + i of y, unless they are paired so already.

    Y's own LoRA then acts on the rows of y.
    """
    pairs = patch.get_pairs(unet)
    if len(pairs) != B or pairs[0].direction != direction:
        patch.set_patch_lora_mask(unet, patch.lora_name(name, "y"), None)
        patch.set_pairs(unet, [(i, B + i, name, 1.0, direction) for i in range(B)])


def save_adapter(unet, folder: Path, args, **training) -> Path:
    """Write the adapter, with the flags and what else says how it was trained, and return the file."""
    base_model, dtype = args.pretrained_model_name_or_path, getattr(torch, args.save_dtype)
    path = patch.save(unet, folder, args.adapter_name, base_model, {**vars(args), **training}, dtype, overwrite=True)
    if (error := rounding_error(patch.joint_parameters(unet, args.adapter_name), dtype)) > LARGE_ERROR:
        warnings.warn(
            f"--save_dtype {args.save_dtype} changed the weights by {error:.0%}, as many are too small or too large "
            "for it: resume the training from its last checkpoint with --save_dtype float16.",
            stacklevel=2,
        )
    return path


def rounding_error(parameters: Sequence[torch.Tensor], dtype: torch.dtype) -> float:
    """Change that rounding makes, as a share of a parameter's norm; mean over the parameters that are not 0."""
    exact = [p.detach().float() for p in parameters if p.any()]
    shares = [float((p.to(dtype).float() - p).norm() / p.norm()) for p in exact]
    return sum(shares) / max(len(shares), 1)
