"""The UNet of Stable Video Diffusion for videos of which any frames are known, such as the first and the last.

SVD paper, appendix D (arXiv 2311.15127): beside each frame stand the latents of that frame where it is known, a learned
embedding where it is not, and a mask that says which. Here the embedding is added to the latents of a guess, such as
the known frames interpolated by optical flow, so that the weights of the base are of use from the first step on; a
guess of zeros is the paper's way. The context is the CLIP embeddings of all known images. Inputs are
(B, F, 2 C + 1, h, w): noisy latents, latents of known frames and guess, mask. Weights of other names and shapes than
SVD's: `mask_embedding`, and one more input channel of `conv_in`.
"""

from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from utils.files import replacing
from utils.pretrained import check_kind, loading
from utils.weights.lora import load_lora
from utils.weights.model_kinds import describe

MASKED_FILE = "known_frames.safetensors"  # beside a LoRA


class InflatedConv2d(nn.Conv2d):
    """A convolution with input channels behind those that it was trained with.

    The new channels are a product of their own: while their weights are zero, the output is that of the old ones, bit
    for bit.

    Args:
        old_channels: How many of the input channels are the old ones.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size, old_channels: int, **options):
        super().__init__(in_channels, out_channels, kernel_size, **options)
        self.old_channels = old_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        old, new = x.tensor_split([self.old_channels], dim=1)
        old_weight, new_weight = self.weight.tensor_split([self.old_channels], dim=1)
        out = self._conv_forward(old.contiguous(), old_weight.contiguous(), self.bias)
        return out + self._conv_forward(new, new_weight, None)


class UNetSpatioTemporalMaskedConditionModel(UNetSpatioTemporalConditionModel):
    """`UNetSpatioTemporalConditionModel` that is conditioned on any frames.

    Its configuration has `in_channels` 2 C + 1.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 9,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (*["CrossAttnDownBlockSpatioTemporal"] * 3, "DownBlockSpatioTemporal"),
        up_block_types: tuple[str, ...] = ("UpBlockSpatioTemporal", *["CrossAttnUpBlockSpatioTemporal"] * 3),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
    ):
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        self.conv_in = InflatedConv2d(in_channels, block_out_channels[0], 3, old_channels=in_channels - 1, padding=1)
        self.mask_embedding = nn.Parameter(torch.zeros(in_channels - 1 - out_channels))

    @classmethod
    def from_unet(cls, unet: UNetSpatioTemporalConditionModel) -> "UNetSpatioTemporalMaskedConditionModel":
        """A UNet that starts as Stable Video Diffusion's: what is new is zero.

        Raises:
            ValueError: The UNet has adapters, whose layers cannot be copied, or it is of this class already.
        """
        if getattr(unet, "peft_config", None):
            raise ValueError(f"The UNet has the adapter {next(iter(unet.peft_config))!r}: load it after this.")
        if isinstance(unet, cls):
            raise ValueError("The UNet has a mask channel already: use it as it is.")
        fields = {name: value for name, value in unet.config.items() if not name.startswith("_")}
        masked = cls(**fields | {"in_channels": unet.config.in_channels + 1})
        state = unet.state_dict()
        state["conv_in.weight"] = functional.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, 1))
        state["mask_embedding"] = masked.mask_embedding.detach()
        masked.load_state_dict(state)
        return masked.to(unet.device, unet.dtype)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        added_time_ids: torch.Tensor,
        return_dict: bool = True,
    ):
        """As of the base.

        Args:
            sample: (B, F, 2 C + 1, h, w): noisy latents, latents of the known frames and of a guess of the others, and
                the mask, 1 where a frame is known.
            encoder_hidden_states: CLIP embeddings (B, L, D) of the L known images.
        """
        channels = self.config.out_channels
        noisy, known, mask = sample.split([channels, sample.shape[2] - channels - 1, 1], dim=2)
        known = torch.where(mask > 0, known, known + self.mask_embedding[:, None, None].to(known.dtype))
        sample = torch.cat([noisy, known, mask], dim=2)
        return super().forward(sample, timestep, encoder_hidden_states, added_time_ids, return_dict)


def masked_parameters(unet: UNetSpatioTemporalMaskedConditionModel) -> list[nn.Parameter]:
    """Layers that Stable Video Diffusion lacks or reads anew, out of a LoRA's reach: conv_in and mask embedding."""
    return [unet.conv_in.weight, unet.conv_in.bias, unet.mask_embedding]


def save_masked_parameters(unet: UNetSpatioTemporalMaskedConditionModel, folder: str | Path) -> Path:
    """Write `masked_parameters` beside a LoRA, and return the file."""
    names = {id(parameter): name for name, parameter in unet.named_parameters()}
    path = Path(folder) / MASKED_FILE
    tensors = {names[id(one)]: one.detach().cpu().contiguous() for one in masked_parameters(unet)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return path


def check_masked_unet(folder: str | Path) -> None:
    """Raises FileNotFoundError or ValueError for a folder that `load_masked_unet` cannot read, without loading it."""
    folder = Path(folder)
    if (folder / "unet").is_dir():
        check_kind(folder / "unet", UNetSpatioTemporalMaskedConditionModel)
    elif not (folder / MASKED_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} is {describe(folder)} and has neither unet/ nor {MASKED_FILE}: "
            "pass what train_svd_trans.py wrote."
        )


def load_masked_unet(unet: UNetSpatioTemporalConditionModel, folder: str | Path) -> UNetSpatioTemporalConditionModel:
    """The UNet that `train_models/train_svd_trans.py` wrote into a folder: in full, or as a LoRA on this base's UNet.

    Raises:
        FileNotFoundError: The folder has neither.
        ValueError: It is for another base.
    """
    folder = Path(folder)
    check_masked_unet(folder)
    if (folder / "unet").is_dir():
        with loading(folder / "unet", UNetSpatioTemporalMaskedConditionModel):
            masked = UNetSpatioTemporalMaskedConditionModel.from_pretrained(folder / "unet")
        _check_base(folder, masked, unet)
        return masked.to(unet.device, unet.dtype)
    masked = UNetSpatioTemporalMaskedConditionModel.from_unet(unet)
    own = masked.state_dict()
    tensors = load_file(folder / MASKED_FILE)
    for name, value in tensors.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"{folder} is for another base: {name} has the shape {tuple(value.shape)} there and "
                f"{tuple(own[name].shape)} here."
            )
    masked.load_state_dict(own | {name: value.to(own[name]) for name, value in tensors.items()})
    load_lora(masked, folder, "svd_trans")
    return masked


def _check_base(folder: Path, masked: UNetSpatioTemporalMaskedConditionModel, unet) -> None:
    """Raises ValueError where a UNet of a folder would not work in the place of this base's."""
    for name in ("out_channels", "cross_attention_dim", "projection_class_embeddings_input_dim"):
        there, here = getattr(masked.config, name), getattr(unet.config, name)
        if there != here:
            raise ValueError(
                f"{folder} is for another base: its {name} is {there}, and that of this base is {here}; pass the "
                "base that it was trained from."
            )
