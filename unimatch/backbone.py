"""The convolutional encoder: images to features at 1/8, or at 1/8 and 1/4 of their size (GMFlow, 3.1 and 3.4)."""

import torch
import torch.nn.functional as F
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation, added to the input, or to a 1x1 convolution of it."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm2d(channels)
        self.norm2 = nn.InstanceNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride), nn.InstanceNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.norm1(self.conv1(x)))
        residual = F.relu(self.norm2(self.conv2(residual)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + residual)


class TridentConv(nn.Module):
    """One 3x3 kernel with strides 1 and 2 (TridentNet, arXiv 1901.01892): two scales that share weights."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [F.conv2d(x, self.weight, stride=stride, padding=1) for stride in (2, 1)]


class CNNEncoder(nn.Module):
    """Features of images, from coarse to fine."""

    def __init__(self, out_channels: int, num_scales: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.InstanceNorm2d(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, stride=2), ResidualBlock(96, 96))
        # With two scales the encoder stops at 1/4, and the trident makes the 1/8.
        stride = 2 if num_scales == 1 else 1
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, stride), ResidualBlock(128, 128))
        self.conv2 = nn.Conv2d(128, out_channels, 1)
        if num_scales == 2:
            self.trident_conv = TridentConv(out_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images (B, 3, H, W) to `[(B, C, H/8, W/8)]`, or `[(B, C, H/8, W/8), (B, C, H/4, W/4)]`."""
        x = F.relu(self.norm1(self.conv1(images)))  # (B, 64, H/2, W/2)
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.conv2(x)
        return self.trident_conv(x) if hasattr(self, "trident_conv") else [x]
