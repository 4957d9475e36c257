"""Groups of arguments that several commands share, each with its help and default in one place."""

from utils.arguments import filled, positive_int

DTYPE_NAMES = ("float32", "float16", "bfloat16")


def add_output_arguments(group) -> None:
    """--output_dir and --overwrite."""
    group.add_argument(
        "--output_dir",
        type=filled,
        required=True,
        help="folder of the results and of run.json, which says how they were made",
    )
    group.add_argument("--overwrite", action="store_true", help="accept an output_dir with content")


def add_device_argument(group) -> None:
    """--device, which `utils.pretrained.choose_device` reads."""
    group.add_argument(
        "--device",
        help="device to compute on, such as cpu (default: the accelerator, or the CPU where there is none; with "
        "several processes the one that Accelerate gives to each)",
    )


def add_machine_arguments(group) -> None:
    """--device and --dtype."""
    add_device_argument(group)
    group.add_argument(
        "--dtype",
        choices=DTYPE_NAMES,
        default="float32",
        help="type of the networks' weights; with bfloat16 autoencoders of videos stay in float32",
    )


def add_size_arguments(group) -> None:
    """--height and --width of the results, which `pipelines.sizes` reads."""
    own = "default: the shape of what is given, at the model's own size"
    group.add_argument(
        "--height", type=positive_int, help=f"pixels; images are resized to cover it and cropped ({own})"
    )
    group.add_argument("--width", type=positive_int, help=f"pixels, likewise ({own})")
