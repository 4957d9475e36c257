"""Which adapter of `train_models/train_svd_trans.py` commands and pages take, if any."""

from utils.arguments import filled
from utils.pretrained import shipped
from utils.weights.embedded import is_embedded


def add_adapter_arguments(group) -> None:
    """Adds --adapter and --training_free."""
    default = "default: weights/svd_trans for weights/tiny_svd, or none"
    group.add_argument("--adapter", type=filled, help=f"folder of train_svd_trans.py ({default})")
    group.add_argument(
        "--training_free", action="store_true", help="sample with the video base alone, as without --adapter"
    )


def choose_adapter(base: str, adapter: str | None, training_free: bool = False) -> str | None:
    """The adapter to load: for the small base by default the one that comes with the project.

    Raises:
        ValueError: One is passed together with --training_free.
    """
    if training_free and adapter:
        raise ValueError(f"--adapter {adapter} is not read with --training_free: leave one of them out.")
    if adapter or training_free:
        return adapter
    return shipped("svd_trans") if is_embedded(base) else None
