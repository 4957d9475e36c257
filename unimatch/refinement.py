"""Local regression refinement: RAFT's update operator on top of the matched flow (UniMatch, 3.4; RAFT, 3.3)."""

import torch
import torch.nn.functional as F
from torch import nn

# Pixels of image 1 on each side that a refinement looks at; the published weights fix it.
RADIUS = 4


class MotionEncoder(nn.Module):
    """Correlations and flow to motion features (B, 128, H, W), whose last two channels are the flow itself."""

    def __init__(self):
        super().__init__()
        self.convc1 = nn.Conv2d((2 * RADIUS + 1) ** 2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192, 128 - 2, 3, padding=1)

    def forward(self, flow: torch.Tensor, correlation: torch.Tensor) -> torch.Tensor:
        correlation = F.relu(self.convc2(F.relu(self.convc1(correlation))))
        motion = F.relu(self.convf2(F.relu(self.convf1(flow))))
        motion = F.relu(self.conv(torch.cat([correlation, motion], dim=1)))
        return torch.cat([motion, flow], dim=1)


class SepConvGRU(nn.Module):
    """A gated recurrent unit whose 5x5 convolution is a horizontal step, then a vertical one."""

    def __init__(self, hidden_channels: int = 128, input_channels: int = 256):
        super().__init__()
        channels = hidden_channels + input_channels
        for step, kernel in ((1, (1, 5)), (2, (5, 1))):
            for gate in "zrq":
                padding = (kernel[0] // 2, kernel[1] // 2)
                setattr(self, f"conv{gate}{step}", nn.Conv2d(channels, hidden_channels, kernel, padding=padding))

    def forward(self, hidden: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        hidden = _gated_step(hidden, x, self.convz1, self.convr1, self.convq1)
        return _gated_step(hidden, x, self.convz2, self.convr2, self.convq2)


def _gated_step(hidden, x, update, reset, candidate):
    both = torch.cat([hidden, x], dim=1)
    z = torch.sigmoid(update(both))
    r = torch.sigmoid(reset(both))
    q = torch.tanh(candidate(torch.cat([r * hidden, x], dim=1)))
    return (1 - z) * hidden + z * q


class FlowHead(nn.Module):
    """Hidden state to a change of flow."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(128, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu(self.conv1(hidden)))


class UpdateBlock(nn.Module):
    """One refinement: what the flow finds in image 1 becomes a better flow."""

    def __init__(self, upsample_factor: int):
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru = SepConvGRU()
        self.flow_head = FlowHead()
        self.mask = nn.Sequential(
            nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * upsample_factor**2, 1)
        )

    def forward(
        self, hidden: torch.Tensor, context: torch.Tensor, correlation: torch.Tensor, flow: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new hidden state (B, 128, H, W), and the change of flow (B, 2, H, W) in float32."""
        dtype = hidden.dtype
        motion = self.encoder(flow.to(dtype), correlation.to(dtype))
        hidden = self.gru(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden).float()
