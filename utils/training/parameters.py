"""Which parameters of a video UNet a training changes."""

import re

from torch import nn

TEMPORAL = re.compile(
    r"\.(temporal_transformer_blocks|temporal_res_block|time_mixer|time_pos_embed)\."  # Stable Video Diffusion
    r"|\.(temp_attentions|temp_convs)\.|^transformer_in\."  # text to video
)


def choose_parameters(unet: nn.Module, trainable: str, pattern: str | None = None) -> list[nn.Parameter]:
    """Parameters by name.

    Args:
        trainable: "all", "temporal" (attention and convolutions over time, and their weight against the spatial ones),
            or "regex".
        pattern: Regular expression that is searched in the names, for "regex".

    Raises:
        ValueError: No name fits, or the pattern is no regular expression.
    """
    try:
        searched = {"all": re.compile(""), "temporal": TEMPORAL, "regex": re.compile(pattern or "")}[trainable]
    except re.error as error:
        raise ValueError(f"--trainable_pattern {pattern!r} is no regular expression: {error}.") from error
    chosen = [parameter for name, parameter in unet.named_parameters() if searched.search(name)]
    if not chosen:
        raise ValueError(f"No parameter of {type(unet).__name__} matches {searched.pattern!r}: change the pattern.")
    return chosen


def fusion_groups(unet: nn.Module, fusion: nn.Module, args) -> list[dict]:
    """Optimizer groups of TRIP by its flags: the UNet, which learns after --fusion_only_steps, and the fusion.

    --trainable is "all", "temporal", or "none" of the UNet.
    """
    groups = []
    if args.trainable != "none":
        start = args.fusion_only_steps or 0
        groups.append({"params": choose_parameters(unet, args.trainable), "start_step": start})
    if parameters := list(fusion.parameters()):
        groups.append({"params": parameters, "lr": args.fusion_learning_rate})
    return groups
