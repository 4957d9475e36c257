"""Everything that `import patch` offers, in the order in which one needs it."""

from patch.adapters import add_adapter, add_joint, joint_lora_targets, joint_parameters, self_lora_targets
from patch.attention import noise_weight
from patch.checkpoint import load, read_config, save
from patch.control import (
    clear_pairs,
    disabled,
    get_pairs,
    set_joint_attention_mask,
    set_pair_weights,
    set_pairs,
    set_patch_lora_mask,
)
from patch.fuse import fuse, unfuse
from patch.memory import record
from patch.state import Pair
from patch.surgery import apply_patch, hack_lora_forward, initialize_joint_layers, remove_patch

__all__ = [
    "Pair",
    "add_adapter",
    "add_joint",
    "apply_patch",
    "clear_pairs",
    "disabled",
    "fuse",
    "get_pairs",
    "hack_lora_forward",
    "initialize_joint_layers",
    "joint_lora_targets",
    "joint_parameters",
    "load",
    "noise_weight",
    "read_config",
    "record",
    "remove_patch",
    "save",
    "self_lora_targets",
    "set_joint_attention_mask",
    "set_pair_weights",
    "set_pairs",
    "set_patch_lora_mask",
    "unfuse",
]
