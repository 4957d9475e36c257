"""UniMatch for optical flow (Xu et al., arXiv 2211.05783; GMFlow, arXiv 2111.13680).

A network of its own, with the state-dict keys of the published one, so that its checkpoints load.
"""

import dataclasses

import torch
from torch import nn

from .backbone import CNNEncoder
from .configurations import Configuration, default_configuration
from .geometry import warp
from .matching import flow_correlation, match
from .propagation import SelfAttnPropagation
from .refinement import RADIUS, UpdateBlock
from .transformer import FeatureTransformer
from .upsampling import upsample_bilinear, upsample_convex

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class UniMatch(nn.Module):
    """Optical flow between two images by matching features globally, then locally on a finer scale.

    Args:
        num_scales: 1 matches at 1/8 of the image's size; 2 goes on at 1/4.
        feature_channels: Channels of the features.
        upsample_factor: From the finest features to the image: 8 with one scale, 4 with two.
        num_head: Attention heads; the published network has one, and no other number.
        ffn_dim_expansion: Width of the feed-forward networks, in multiples of their input.
        num_transformer_layers: Blocks of self- and cross-attention.
        reg_refine: Refine the matched flow with RAFT's update operator.
        task: "flow"; stereo and depth are not part of this implementation.

    Raises:
        ValueError: An argument has a value that the network does not know.
    """

    def __init__(
        self,
        num_scales: int = 1,
        feature_channels: int = 128,
        upsample_factor: int = 8,
        num_head: int = 1,
        ffn_dim_expansion: int = 4,
        num_transformer_layers: int = 6,
        reg_refine: bool = False,
        task: str = "flow",
    ):
        super().__init__()
        _check_choice("num_scales", num_scales, (1, 2))
        _check_choice("num_head", num_head, (1,))
        _check_choice("task", task, ("flow",))
        self.num_scales = num_scales
        self.upsample_factor = upsample_factor
        self.reg_refine = reg_refine
        self.backbone = CNNEncoder(feature_channels, num_scales)
        self.transformer = FeatureTransformer(num_transformer_layers, feature_channels, ffn_dim_expansion)
        self.feature_flow_attn = SelfAttnPropagation(feature_channels)
        if reg_refine:
            self.refine_proj = nn.Conv2d(feature_channels, 256, 1)
            self.refine = UpdateBlock(upsample_factor)
        else:
            self.upsampler = nn.Sequential(
                nn.Conv2d(2 + feature_channels, 256, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(256, 9 * upsample_factor**2, 1),
            )

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.backbone.conv1.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.backbone.conv1.weight.device

    def configure(self, **given) -> Configuration:
        """The settings of a run: those `given` by name, and for the ones that are None those of the published weights.

        Raises:
            ValueError: A list has not one entry a scale, or nothing is published to fill the gaps with.
        """
        given = {name: value for name, value in given.items() if value is not None}
        built = {name: getattr(self, name) for name in ("num_scales", "upsample_factor", "reg_refine")}
        if not {"attn_splits_list", "corr_radius_list", "prop_radius_list"} <= given.keys():
            built = dataclasses.asdict(default_configuration(self.num_scales, self.reg_refine)) | built
        elif "num_reg_refine" not in given:
            built["num_reg_refine"] = 6
        return Configuration(**{**built, **given})

    def forward(
        self,
        img0: torch.Tensor,
        img1: torch.Tensor,
        attn_type: str = "swin",
        attn_splits_list: list[int] | None = None,
        corr_radius_list: list[int] | None = None,
        prop_radius_list: list[int] | None = None,
        num_reg_refine: int | None = None,
        pred_bidir_flow: bool = False,
        task: str = "flow",
    ) -> dict[str, list[torch.Tensor]]:
        """Flow from `img0` to `img1`. What is None is taken from the published configuration.

        Args:
            img0, img1: (B, 3, H, W), RGB in [0, 255], H and W multiples of `Configuration.padding_factor`.
            attn_type: "swin" (windows) or "full".
            attn_splits_list: For each scale, windows along a side.
            corr_radius_list: For each scale, the radius of the matching; -1 for global.
            prop_radius_list: For each scale, the radius of the propagation; -1 for global.
            num_reg_refine: Refinements, where the network has `reg_refine`.
            pred_bidir_flow: The flow from `img1` to `img0` too, as the second half of the batch.
            task: "flow".

        Returns:
            `{"flow_preds": [flow]}`, (B, 2, H, W) or (2B, 2, H, W), in pixels, x then y, float32.

        Raises:
            ValueError: An argument has the wrong length, shape or name.
        """
        _check_choice("task", task, ("flow",))
        _check_choice("attn_type", attn_type, ("swin", "full"))
        settings = self.configure(
            attn_splits_list=attn_splits_list,
            corr_radius_list=corr_radius_list,
            prop_radius_list=prop_radius_list,
            num_reg_refine=num_reg_refine,
        )
        _check_images(img0, img1, settings.padding_factor)
        images = _normalise(torch.cat([img0, img1])).to(self.dtype)
        flow, feature0, feature1, matched = self._match_scales(images, settings, attn_type, pred_bidir_flow)
        if self.reg_refine:
            flow = self._refine(flow, feature0, feature1, matched, settings.num_reg_refine)
        else:
            mask = self.upsampler(torch.cat([flow.to(self.dtype), matched], dim=1))
            flow = upsample_convex(flow, mask, self.upsample_factor)
        return {"flow_preds": [flow]}

    def _match_scales(self, images, settings, attn_type, both_ways):
        """Flow of the finest features, these of both images, and those of the first after the transformer."""
        flow = None
        for features, (splits, corr_radius, prop_radius) in zip(self.backbone(images), settings.scales, strict=True):
            feature0, feature1 = features.chunk(2)
            if flow is None:
                matched = self.transformer(feature0, feature1, attn_type, splits)
                if both_ways:
                    matched = _both_ways(*matched)
                    feature0, feature1 = _both_ways(feature0, feature1)
                flow = match(*matched, corr_radius)
            else:
                if both_ways:
                    feature0, feature1 = _both_ways(feature0, feature1)
                flow = upsample_bilinear(flow, 2)
                matched = self.transformer(feature0, warp(feature1, flow), attn_type, splits)
                flow = flow + match(*matched, corr_radius)
            flow = self.feature_flow_attn(matched[0], flow, prop_radius)
        return flow, feature0, feature1, matched[0]

    def _refine(self, flow, feature0, feature1, matched, count):
        """`count` updates of `flow`, then upsampling by a mask from the last hidden state."""
        start, context = self.refine_proj(matched).chunk(2, dim=1)
        start, context = torch.tanh(start), torch.relu(context)
        for _ in range(count):
            correlation = flow_correlation(feature0, feature1, flow, RADIUS)
            # The published network starts each refinement from the same hidden state.
            hidden, change = self.refine(start, context, correlation, flow)
            flow = flow + change
        return upsample_convex(flow, self.refine.mask(hidden), self.upsample_factor)


def _both_ways(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair, and as the second half of the batch the pair turned round."""
    return torch.cat([first, second]), torch.cat([second, first])


def _normalise(images: torch.Tensor) -> torch.Tensor:
    """RGB in [0, 255] to the mean and spread of ImageNet, in float32."""
    mean = torch.tensor(IMAGE_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def _check_choice(name: str, value, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; give {' or '.join(map(repr, choices))}.")


def _check_images(img0: torch.Tensor, img1: torch.Tensor, factor: int) -> None:
    if img0.dim() != 4 or img0.shape[1] != 3 or img0.shape != img1.shape:
        raise ValueError(
            f"The images have shapes {tuple(img0.shape)} and {tuple(img1.shape)}; give two of shape (B, 3, H, W)."
        )
    H, W = img0.shape[-2:]
    if H % factor or W % factor:
        raise ValueError(
            f"Images of {H} x {W} do not fit: both sides must be multiples of {factor}; unimatch.estimate_flow pads."
        )
