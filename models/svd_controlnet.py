"""A ControlNet over Stable Video Diffusion: a copy of the UNet's first half that reads one control map for each frame.

A control is any map of the frames' size: flow, tracks, depth, edges, segmentation; the ControlNet knows its number of
channels, and keeps its name.

ControlNet (Zhang et al., ICCV 2023, arXiv 2302.05543): the control is embedded at the size of the latents and added
behind the first convolution of the copy. The output of each block of the copy goes through a convolution that starts
at zero, and is added to what the same block of the UNet hands to its second half. Layers are named as in diffusers'
ControlNets.
"""

import inspect
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin, UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal, get_down_block
from torch import nn

from models.unet_residuals import Residuals, add_residuals

OWN_LAYERS = "controlnet_"  # names of the layers that the UNet lacks begin with it
EMBEDDING_CHANNELS = (16, 32, 96, 256, 256)


class ControlNetSVD(ModelMixin, ConfigMixin):
    """Residuals for `UNetSpatioTemporalConditionModel`, from the UNet's own inputs and a control.

    Args:
        conditioning_channels: C of controls (B, F, C, H, W).
        conditioning_embedding_out_channels: Channels of the convolutions that embed a control; each but the first
            halves height and width, so that together they have the factor of the VAE.
        conditioning_type: Name of the control, such as "depth"; None where it is not known.
        others: As of the UNet.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        conditioning_channels: int = 3,
        conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256),
        conditioning_type: str | None = None,
        in_channels: int = 8,
        down_block_types: tuple[str, ...] = (*["CrossAttnDownBlockSpatioTemporal"] * 3, "DownBlockSpatioTemporal"),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
    ):
        super().__init__()
        width, time_width = block_out_channels[0], 4 * block_out_channels[0]
        self.time_proj = Timesteps(width, True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, time_width)
        self.add_time_proj = Timesteps(addition_time_embed_dim, True, downscale_freq_shift=0)
        self.add_embedding = TimestepEmbedding(projection_class_embeddings_input_dim, time_width)
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.controlnet_cond_embedding = ControlNetConditioningEmbedding(
            width, conditioning_channels, conditioning_embedding_out_channels
        )
        per_block = layers_per_block, cross_attention_dim, transformer_layers_per_block, num_attention_heads
        shapes = block_shapes(down_block_types, block_out_channels, *per_block)
        self.down_blocks = nn.ModuleList(down_block(shape, time_width) for shape in shapes)
        self.mid_block = middle_block(shapes[-1], time_width)
        widths = [width, *(shape.channels for shape in shapes for _ in range(shape.outputs))]
        self.controlnet_down_blocks = nn.ModuleList(zero_convolution(channels) for channels in widths)
        self.controlnet_mid_block = zero_convolution(shapes[-1].channels)

    @classmethod
    def from_unet(
        cls,
        unet: UNetSpatioTemporalConditionModel,
        conditioning_channels: int,
        vae_scale_factor: int = 8,
        conditioning_type: str | None = None,
    ) -> "ControlNetSVD":
        """A ControlNet that starts as a copy of a UNet, and whose residuals are zero.

        Args:
            conditioning_channels: C of controls.
            vae_scale_factor: Pixels for each latent pixel, along each side; a power of 2.
            conditioning_type: Name of the control.

        Raises:
            ValueError: The UNet has an adapter, whose layers cannot be copied.
        """
        fields = {name: value for name, value in unet.config.items() if name in _shared_fields()}
        widths = EMBEDDING_CHANNELS[: int(math.log2(vae_scale_factor)) + 1]
        controlnet = cls(conditioning_channels, widths, conditioning_type, **fields)
        weights = unet.state_dict()
        copied = [name for name in controlnet.state_dict() if not name.startswith(OWN_LAYERS)]
        if missing := [name for name in copied if name not in weights]:
            raise ValueError(f"The UNet has no {missing[0]}: remove its adapters before it is copied.")
        controlnet.load_state_dict({name: weights[name] for name in copied}, strict=False)
        return controlnet.to(unet.device).type(unet.dtype)

    @property
    def scale_factor(self) -> int:
        """Pixels of the control for each latent pixel, along each side."""
        return 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)

    def check_fit(self, unet: UNetSpatioTemporalConditionModel, vae_scale_factor: int) -> None:
        """Raises ValueError unless it is for UNets like this one."""
        for name in _shared_fields():
            own, other = (_plain(config[name]) for config in (self.config, unet.config))
            if own != other:
                raise ValueError(
                    f"The ControlNet is for another UNet: its {name} is {own}, not {other}; load it with its own base."
                )
        if self.scale_factor != vae_scale_factor:
            raise ValueError(
                f"The ControlNet is for a VAE of factor {self.scale_factor}, not {vae_scale_factor}: load its own base."
            )

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_time_ids: torch.Tensor,
        control: torch.Tensor,
    ) -> Residuals:
        """Args:
        sample: Scaled noisy latents beside those of the image, (B, F, C_in, h, w).
        timestep: () or (B,).
        encoder_hidden_states: Embeddings of the image, (B, L, D).
        added_time_ids: (B, 3).
        control: (B, F, C, H, W), sides `scale_factor` times those of the latents.
        """
        B, F = sample.shape[:2]
        self._check_control(sample, control)
        time = self._embed_time(timestep, added_time_ids, B, sample.dtype).repeat_interleave(F, dim=0)
        context = encoder_hidden_states.repeat_interleave(F, dim=0)
        shared = {"temb": time, "image_only_indicator": torch.zeros(B, F, dtype=sample.dtype, device=sample.device)}
        control = self.controlnet_cond_embedding(control.flatten(0, 1).to(sample.dtype))
        hidden = self.conv_in(sample.flatten(0, 1)) + control  # (B F, C, h, w)
        states = [hidden]
        for block in self.down_blocks:
            attends = getattr(block, "has_cross_attention", False)
            hidden, more = block(hidden, **shared, **({"encoder_hidden_states": context} if attends else {}))
            states += more
        hidden = self.mid_block(hidden, encoder_hidden_states=context, **shared)
        down = [convolution(state) for convolution, state in zip(self.controlnet_down_blocks, states, strict=True)]
        return Residuals(tuple(down), self.controlnet_mid_block(hidden))

    def _embed_time(self, timestep, added_time_ids, batch: int, dtype: torch.dtype) -> torch.Tensor:
        time = self.time_embedding(self.time_proj(timestep.expand(batch)).to(dtype))
        added = self.add_time_proj(added_time_ids.flatten()).reshape(batch, -1)
        return time + self.add_embedding(added.to(dtype))

    def _check_control(self, sample: torch.Tensor, control: torch.Tensor) -> None:
        sides = [side * self.scale_factor for side in sample.shape[-2:]]
        due = (*sample.shape[:2], self.config.conditioning_channels, *sides)
        if tuple(control.shape) != due:
            raise ValueError(f"The control is {tuple(control.shape)} and has to be {due}: (B, F, C, H, W).")


class ControlledUNet(nn.Module):
    """A UNet and its ControlNet as one module, for a training; called as the UNet is, with a control besides."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, controlnet: ControlNetSVD):
        super().__init__()
        self.unet, self.controlnet = unet, controlnet

    def forward(
        self,
        *inputs: torch.Tensor,
        control: torch.Tensor,
        conditioning_scale: float = 1.0,
        return_dict: bool = True,
    ):
        """Args:
        inputs: The four of the UNet and of `ControlNetSVD.forward`: sample, timestep, embeddings and time ids.
        conditioning_scale: Factor of the residuals.
        """

        def residuals(*inputs: torch.Tensor) -> Residuals:
            return self.controlnet(*inputs, control).scaled(conditioning_scale)

        return add_residuals(self.unet, [residuals], *inputs, return_dict=return_dict)


class BlockShape(NamedTuple):
    """A block of the UNet's first half; all but the last one halve height and width."""

    kind: str
    inputs: int
    channels: int
    last: bool
    layers: int
    context: int
    depth: int
    heads: int

    @property
    def outputs(self) -> int:
        """How many of its states are skips."""
        return self.layers + (not self.last)


def block_shapes(kinds: Sequence[str], channels: Sequence[int], *per_block: int | Sequence[int]) -> list[BlockShape]:
    """The shape of each block; numbers of layers, context, depth and heads are given once, or for each block."""
    count = len(kinds)
    inputs = [channels[0], *channels[:-1]]
    lasts = [i == count - 1 for i in range(count)]
    spread = [[value] * count if isinstance(value, int) else value for value in per_block]
    return [BlockShape(*shape) for shape in zip(kinds, inputs, channels, lasts, *spread, strict=True)]


def down_block(shape: BlockShape, time_width: int) -> nn.Module:
    """A block like the UNet's."""
    return get_down_block(
        shape.kind,
        num_layers=shape.layers,
        transformer_layers_per_block=shape.depth,
        in_channels=shape.inputs,
        out_channels=shape.channels,
        temb_channels=time_width,
        add_downsample=not shape.last,
        resnet_eps=1e-5,
        cross_attention_dim=shape.context,
        num_attention_heads=shape.heads,
        resnet_act_fn="silu",
    )


def middle_block(shape: BlockShape, time_width: int) -> nn.Module:
    """The UNet's middle block, behind a last block of this shape."""
    return UNetMidBlockSpatioTemporal(
        shape.channels,
        temb_channels=time_width,
        transformer_layers_per_block=shape.depth,
        cross_attention_dim=shape.context,
        num_attention_heads=shape.heads,
    )


def zero_convolution(channels: int) -> nn.Conv2d:
    """A convolution of one pixel that starts at zero."""
    convolution = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    return convolution


def _shared_fields() -> list[str]:
    """Names of the settings that the UNet has, too."""
    names = inspect.signature(ControlNetSVD.__init__).parameters
    return [name for name in names if name != "self" and not name.startswith("conditioning_")]


def _plain(value):
    return tuple(value) if isinstance(value, list) else value
