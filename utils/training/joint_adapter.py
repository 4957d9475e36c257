"""A joint adapter while it is trained: its flags, and the pairs of a batch."""

from collections.abc import Sequence
from pathlib import Path

import patch
from utils.arguments import nonzero_float, positive_int
from utils.weights.model_kinds import check_adapter
from utils.weights.rounding import add_save_dtype_argument, save_dtype


def add_adapter_arguments(group, x: str, y: str, *, post: str, one_way_share: float, y_layers: str) -> None:
    """Add the flags of a joint adapter that pairs side x with side y, whose names are part of those of the flags."""
    add = group.add_argument
    add("--rank", type=positive_int, default=64, help="rank of the LoRAs")
    add("--lora_alpha", type=nonzero_float, help="alpha of the LoRAs (default: their rank)")
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
    add_save_dtype_argument(group)
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
    dtype = save_dtype(args, patch.joint_parameters(unet, args.adapter_name))
    base_model = args.pretrained_model_name_or_path
    return patch.save(unet, folder, args.adapter_name, base_model, {**vars(args), **training}, dtype, overwrite=True)
