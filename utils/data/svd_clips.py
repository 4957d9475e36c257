"""Clips as Stable Video Diffusion is trained on them: with frame rate, motion bucket, and what a variant adds."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from utils.data.extras import Extra
from utils.flow import flow_estimator
from utils.flow.consistency import visible_in_next
from utils.motion_helper import FIXED_BUCKET, FIXED_FPS, MotionBuckets, motion_scores


class SVDClips(Dataset):
    """Samples of another data set with the conditions of the UNet.

    A sample has `image` (3, H, W) in [-1, 1], the first frame; `pixel_values` (F, 3, H, W), or in their place `latents`
    (F, C, h, w), the mode of the posterior, not scaled; `fps`; `motion_bucket_id`; and the entries of the extras.

    Args:
        clips: A `VideoDataset`, or `CachedClips`.
        buckets: Map of motion scores, which are those of the stretch drawn, or of the whole clip where it is cached.
            None gives all clips the same rate and bucket (7 and 127), whatever they show.
        extras: What a variant adds.

    Raises:
        ValueError: The map's scores are of another flow backend than DIS.
    """

    def __init__(self, clips: Dataset | Sequence[dict], buckets: MotionBuckets | None, extras: Sequence[Extra] = ()):
        if buckets and buckets.backend != "dis":
            raise ValueError(
                f"The motion buckets are of the flow backend {buckets.backend!r}; "
                "fit some of dis with python -m utils.data.fit_motion_buckets."
            )
        self.clips, self.buckets, self.extras = clips, buckets, tuple(extras)
        self.estimate = flow_estimator("dis")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        clip = self.clips[index]
        if "latents" in clip:
            content = {"latents": clip["latents"], "image": clip["image"]}
        else:
            content = {"pixel_values": clip["pixel_values"], "image": clip["pixel_values"][0]}
        fps, bucket = self._motion(clip)
        sample = {**content, "fps": torch.tensor(float(fps)), "motion_bucket_id": bucket}
        for extra in self.extras:
            sample |= extra(clip)
        return sample

    def _motion(self, clip: dict) -> tuple[float, torch.Tensor]:
        if self.buckets is None:
            return FIXED_FPS, torch.tensor(FIXED_BUCKET)
        if "motion_bucket_id" in clip:
            return clip["fps"], clip["motion_bucket_id"]
        settings = self.buckets.short_side, self.buckets.time_step
        score = motion_scores(self.estimate, clip["pixel_values"][None], clip["fps"], *settings)[0]
        return clip["fps"], self.buckets.ids(score)


class VisibleFlow(Extra):
    """`flow` (F - 1, 2, H, W), pixels, and `visible` (F - 1, H, W): where the next frame shows what a frame does.

    The flow is that of the clip where it has one, and otherwise estimated by DIS.
    """

    wants = ("flow",)

    def __init__(self):
        self.estimate = flow_estimator("dis")

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        frames = clip["pixel_values"]
        flow = clip["flow"] if "flow" in clip else self.estimate(frames)
        return {"flow": flow, "visible": visible_in_next(frames, flow)}
