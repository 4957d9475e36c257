"""Flow as a video network sees it: flow images, one for each frame, and the scale of their latents."""

from dataclasses import asdict, dataclass, field

import torch

from utils.flow.images import FlowEncoding
from utils.latents import LatentScale

ROUNDING = 1 + 1e-6  # for a flow of max_flow, which float32 may have rounded up


@dataclass(frozen=True)
class FlowCode:
    """How a clip's F - 1 flows fill F latent frames, and how they are read back.

    Flow k, from frame k to frame k + 1, is in frame k: it lies on the pixels of frame k, so that its edges and those of
    the frame coincide, and flow 0 lies on the image that both sides are conditioned on. The last frame has no flow of
    its own: it repeats the flow before, which is exact for steady motion, and is not read back.

    Attributes:
        encoding: Maps flow in pixels to flow images and back.
        scale: Maps latents of the flow images, multiplied by the autoencoder's factor, to those that are denoised.
    """

    encoding: FlowEncoding = field(default_factory=FlowEncoding)
    scale: LatentScale = field(default_factory=LatentScale)

    @classmethod
    def from_training(cls, training: dict) -> "FlowCode":
        """What `to_training` wrote into the header of a file of weights.

        Raises:
            ValueError: The weights were not trained on flow.
        """
        if "flow_code" not in training:
            raise ValueError(
                "The adapter was not trained on flow; pass one of train_svd_flow.py or train_flow_video.py."
            )
        code = training["flow_code"]
        return cls(FlowEncoding(**code["picture"]), LatentScale.read(code["scale"]))

    def to_training(self) -> dict:
        return {"flow_code": {"picture": asdict(self.encoding), "scale": asdict(self.scale)}}

    def check_speed(self, flow: torch.Tensor) -> None:
        """Raises ValueError for flow, components of vectors in pixels, that is faster than flow images can hold."""
        fastest, largest = float(flow.abs().max()) if flow.numel() else 0.0, self.encoding.max_flow
        if fastest > largest * ROUNDING:
            raise ValueError(
                f"The motion reaches {fastest:.4g} pixels from one frame to the next and the adapter's flow holds "
                f"{largest:g}: take more frames, shorter tracks, a slower camera or smaller images."
            )

    def to_images(self, flow: torch.Tensor) -> torch.Tensor:
        """Flow images (…, F, 3, H, W) in [-1, 1] of flow (…, F - 1, 2, H, W) in pixels."""
        return self.encoding.encode(torch.cat([flow, flow[..., -1:, :, :, :]], dim=-4))

    def to_flow(self, images: torch.Tensor) -> torch.Tensor:
        """Flow (…, F - 1, 2, H, W) in pixels of flow images (…, F, 3, H, W)."""
        return self.encoding.decode(images[..., :-1, :, :, :])
