"""Everything that `import patch` offers, in the order in which one needs it."""

from patch.adapters import Y_LAYERS, add_joint, joint_lora_targets, joint_parameters, self_lora_targets
from patch.attention import noise_weight
from patch.call import hack_lora_forward
from patch.checkpoint import load, read, read_config, save
from patch.control import (
    clear_frames,
    clear_pairs,
    disabled,
    get_pairs,
    set_frames,
    set_joint_attention_mask,
    set_pair_weights,
    set_pairs,
    set_patch_lora_mask,
)
from patch.cut import cut_rank
from patch.fuse import MERGED_FROM, fuse, unfuse
from patch.inject import add_adapter
from patch.memory import record
from patch.network import get_joints, own_layers
from patch.post import POSTS
from patch.state import DIRECTIONS, Pair, lora_name
from patch.surgery import apply_patch, initialize_joint_layers, remove_patch

__all__ = [
    "DIRECTIONS",
    "MERGED_FROM",
    "POSTS",
    "Y_LAYERS",
    "Pair",
    "add_adapter",
    "add_joint",
    "apply_patch",
    "clear_frames",
    "clear_pairs",
    "cut_rank",
    "disabled",
    "fuse",
    "get_joints",
    "get_pairs",
    "hack_lora_forward",
    "initialize_joint_layers",
    "joint_lora_targets",
    "joint_parameters",
    "load",
    "lora_name",
    "noise_weight",
    "own_layers",
    "read",
    "read_config",
    "record",
    "remove_patch",
    "save",
    "self_lora_targets",
    "set_frames",
    "set_joint_attention_mask",
    "set_pair_weights",
    "set_pairs",
    "set_patch_lora_mask",
    "unfuse",
]
