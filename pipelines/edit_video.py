"""A video edited by its keyframes: these first, all together, and then what lies between them, piece by piece.

All that is made lies in an `EditFolder`, and what is there already is not made again. Each piece is read back from its
file before it is used, so that a run that was stopped and went on gives the very same video.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline, blend_seams, fill_between
from pipelines.edit_folder import EditFolder
from pipelines.edit_keyframes import WAYS
from pipelines.edit_masks import soften
from pipelines.pipeline_keyframe_edit import EditSettings, StableDiffusionKeyframeEditPipeline
from utils.commands.settings import Settings, about
from utils.flow.estimate import both_flows_estimator, enlarged_size
from utils.flow.follow import follow_ends


@dataclass(frozen=True)
class FillSettings(Settings):
    """How keyframes are chosen, and the frames between them filled in."""

    keyframe_interval: int = field(
        default=7, metadata=about("frames from one keyframe to the next, 1 or more", int, low=1)
    )
    keyframes: str = field(
        default="interval",
        metadata=about(
            "how keyframes are spread: evenly, or with the same motion in each gap", str, choices=WAYS
        ),
    )  # fmt: skip
    together: int = field(
        default=8,
        metadata=about("keyframes that are edited at once, 2 or more; all groups have the first one", int, low=2),
    )
    lead_strength: float = field(
        default=0.5,
        metadata=about(
            "share of the denoising steps, above 0, up to 1, that the frames between keyframes take; they start from "
            "the keyframes warped along the flow of the source, and at 1 from noise",
            above=0, high=1,
        ),
    )  # fmt: skip
    blend_seams: bool = field(default=True, metadata=about("bring the colours between keyframes to theirs", bool))


@dataclass(frozen=True, eq=False)
class Edit:
    """A video to edit, what of it is edited, and where the results go.

    Attributes:
        video: The source (F, 3, H, W) in [-1, 1].
        keyframes: Numbers of its keyframes.
        masks: (F, 1, H, W) or (1, 1, H, W), 1 where to edit; "auto" or None.
        folder: Of what is made.
        seed: Of all noise.
    """

    video: torch.Tensor
    keyframes: Sequence[int]
    masks: torch.Tensor | str | None
    folder: EditFolder
    seed: int = 0

    @property
    def gaps(self) -> list[tuple[int, int]]:
        return list(pairwise(self.keyframes))

    @property
    def auto_masks(self) -> bool:
        return isinstance(self.masks, str)

    def masks_of(self, numbers: Sequence[int]) -> torch.Tensor | str | None:
        """Of some frames, as the pipeline takes them."""
        if self.masks is None or self.auto_masks or len(self.masks) == 1:
            return self.masks
        return self.masks[list(numbers)]


def edit_keyframes(
    edit: Edit,
    load: Callable[[], StableDiffusionKeyframeEditPipeline],
    prompt: str,
    source_prompt: str,
    negative_prompt: str | None,
    settings: EditSettings,
    together: int,
) -> None:
    """Edit the keyframes that were not yet, in groups; load: called if there are any."""
    pipe = None
    for group in group_keyframes(edit.keyframes, together):
        if all(edit.folder.has_keyframe(number) for number in group):
            continue
        pipe = load() if pipe is None else pipe
        frames = edit.video[list(group)]
        noise = torch.Generator().manual_seed(edit.seed)
        texts = prompt, source_prompt, edit.masks_of(group), negative_prompt
        out = pipe(frames, *texts, generator=noise, output_type="pt", **settings.options())
        masks = [None] * len(group) if out.mask is None else out.mask.cpu()
        for number, before, after, mask in zip(group, frames, out.images.cpu() * 2 - 1, masks, strict=True):
            if not edit.folder.has_keyframe(number):
                edit.folder.write_keyframe(number, before, after, mask)


def group_keyframes(keyframes: Sequence[int], together: int) -> list[list[int]]:
    """Groups of at most `together` keyframes; each has the first keyframe of all, so that all look like it."""
    first, others = keyframes[0], list(keyframes[1:])
    size = together - 1
    return [[first, *others[k : k + size]] for k in range(0, len(others), size)]


def fill_gaps(
    edit: Edit, load: Callable[[], StableVideoDiffusionLedTransPipeline], settings: FillSettings, most: int, **options
) -> torch.Tensor:
    """Fill the gaps that are not filled yet, and return the whole video (F, 3, H, W) in [-1, 1].

    Args:
        load: Called if there are any.
        most: Frames that the model samples at once.
        options: Further arguments of the pipeline.
    """
    pipe = None
    for start, end in edit.gaps:
        if edit.folder.has_segment(start, end):
            continue
        pipe = load() if pipe is None else pipe
        edit.folder.write_segment(start, fill_gap(edit, pipe, start, end, settings, most, **options))
    return edit.folder.read_video(list(edit.keyframes))


def fill_gap(edit: Edit, pipe, start: int, end: int, settings: FillSettings, most: int, **options) -> torch.Tensor:
    """Frames from one keyframe to the next, both included."""
    source = edit.video[start : end + 1]
    first, last = edit.folder.read_keyframe(start), edit.folder.read_keyframe(end)
    flows = None
    if settings.lead_strength < 1 or edit.auto_masks:
        flows = estimate_flows(source)
    led = follow_ends(source, first, last, *flows) if settings.lead_strength < 1 else None

    def sample(first: torch.Tensor, last: torch.Tensor, numbers: list[int]) -> torch.Tensor:
        lead = None if led is None else led[[number - start for number in numbers]][None]
        noise = torch.Generator().manual_seed(edit.seed + numbers[0])
        given = {"lead": lead, "lead_strength": settings.lead_strength, "num_frames": len(numbers)}
        given |= {"guess": lead} if pipe.trained else {}
        out = pipe(first[None], last[None], generator=noise, output_type="pt", **given, **options)
        return out.frames[0].cpu().float() * 2 - 1

    frames = fill_between(sample, first, last, start, end, most)
    if settings.blend_seams:
        ends = torch.stack([first, last])[None]
        frames = blend_seams(frames, pipe.decode(pipe.encode_frames(ends))[0].clamp(-1, 1).cpu())
    masks = gap_masks(edit, source, start, end, flows)
    return frames if masks is None else torch.lerp(source, frames, masks)


def gap_masks(edit: Edit, source: torch.Tensor, start: int, end: int, flows) -> torch.Tensor | None:
    """Weights of the edit in the frames of a gap, (F, 1, H, W) or (1, 1, H, W); those of keyframes carried along."""
    if edit.masks is None:
        return None
    if not edit.auto_masks:
        return edit.masks if len(edit.masks) == 1 else edit.masks[start : end + 1]
    ends = [edit.folder.read_mask(number) for number in (start, end)]
    return soften((follow_ends(source, *ends, *flows) > 0.5).to(source))


def estimate_flows(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow of a video (F, 3, H, W) from each frame to the next, and back, by DIS."""
    return both_flows_estimator("dis", inference_size=enlarged_size(video))(video)
