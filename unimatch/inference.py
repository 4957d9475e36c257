"""Flow between images of any size: padded, or at another size with the vectors scaled back."""

import torch
import torch.nn.functional as F

from .unimatch import UniMatch


@torch.inference_mode()
def estimate_flow(
    model: UniMatch, image0: torch.Tensor, image1: torch.Tensor, *, size: tuple[int, int] | None = None, **settings
) -> torch.Tensor:
    """Flow (B, 2, H, W) from `image0` to `image1`, in pixels, x then y, float32.

    Runs on the device and in the type of the model's weights; half precision is `model.half()` or
    `.to(torch.bfloat16)`.

    Args:
        image0, image1: (B, 3, H, W), RGB in [0, 255], any type.
        size: Height and width to match at. The images are resized and the vectors scaled back. None keeps the size and
            pads.
        settings: What `UniMatch.forward` takes beside the images, such as `num_reg_refine`.

    Raises:
        ValueError: The images do not fit each other, or `size` is not of the multiples that the model needs.
    """
    return _estimate(model, image0, image1, size, pred_bidir_flow=False, **settings)


@torch.inference_mode()
def estimate_both_flows(
    model: UniMatch, image0: torch.Tensor, image1: torch.Tensor, *, size: tuple[int, int] | None = None, **settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The flows from `image0` to `image1` and back, as `estimate_flow` gives them, for less than the price of two."""
    forward, backward = _estimate(model, image0, image1, size, pred_bidir_flow=True, **settings).chunk(2)
    return forward, backward


def _estimate(model, image0, image1, size, pred_bidir_flow, **settings):
    if image0.shape != image1.shape or image0.dim() != 4:
        raise ValueError(
            f"The images have shapes {tuple(image0.shape)} and {tuple(image1.shape)}; give two of shape (B, 3, H, W)."
        )
    lists = {name: value for name, value in settings.items() if name.endswith("_list")}
    factor = model.configure(**lists).padding_factor
    images = torch.stack([image0, image1]).to(model.device).float()  # (2, B, 3, H, W)
    H, W = images.shape[-2:]
    images = pad(images, factor) if size is None else _resize(images, _checked(size, factor))
    flow = model(*images, pred_bidir_flow=pred_bidir_flow, **settings)["flow_preds"][-1]
    return unpad(flow, H, W) if size is None else resize_flow(flow, H, W)


def pad(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeat the borders of (..., C, H, W) until both sides are multiples of `factor`, half of it on each side."""
    top, bottom = _margins(images.shape[-2], factor)
    left, right = _margins(images.shape[-1], factor)
    padded = F.pad(images.flatten(0, -4), (left, right, top, bottom), mode="replicate")
    return padded.unflatten(0, images.shape[:-3])


def unpad(flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut the middle, of the size before `pad`, out of a map (..., H, W)."""
    top, left = (flow.shape[-2] - height) // 2, (flow.shape[-1] - width) // 2
    return flow[..., top : top + height, left : left + width]


def resize_flow(flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, 2, h, w) to (B, 2, height, width), corners on corners; the vectors are scaled with the sides."""
    h, w = flow.shape[-2:]
    scale = flow.new_tensor([width / w, height / h]).view(2, 1, 1)
    return scale * F.interpolate(flow, (height, width), mode="bilinear", align_corners=True)


def _margins(length: int, factor: int) -> tuple[int, int]:
    missing = -length % factor
    return missing // 2, missing - missing // 2


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    resized = F.interpolate(images.flatten(0, 1), size, mode="bilinear", align_corners=True)
    return resized.unflatten(0, images.shape[:2])


def _checked(size: tuple[int, int], factor: int) -> tuple[int, int]:
    if any(side % factor or side < factor for side in size):
        raise ValueError(f"size={tuple(size)} does not fit: height and width must be multiples of {factor}.")
    return size
