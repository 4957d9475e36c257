"""The recipe of all trainings on Stable Video Diffusion: a train script is its arguments, its loss and its save.

    args = parse_args(make_parser(), argv)                  # svd_parser(__doc__) and flags of its own
    svd = start_svd(args, [LastFrame()], MyPipeline)        # base, clips, held-out clips, encoder, noise levels
    parameters = add_lora(svd.pipe.unet, args.rank)         # what is trained

    def loss(unet, batch):                                  # image, fps, motion_bucket_id, last_image and the frames
        x_0 = encode_clips(batch, svd.pipe.vae)             # (B, F, C, h, w), of pixels or from a cache
        condition = draw_condition(batch, x_0.shape[1], svd.encoder, args)
        sigma = svd.edm.draw_sigmas(len(x_0)).to(x_0.device)
        return Denoiser(unet, svd.edm).loss(x_0, torch.randn_like(x_0), sigma, condition).mean()

    def save(unet, folder):                                 # returns the file, where it is not the folder as a whole
        return save_lora(unet, folder)

    svd.fit(loss, save=save, parameters=parameters)

Four things make a variant, and there is one place for each:

1. Arguments: `svd_parser` has those that all share.
2. An extra, where samples need more than a clip has: a function from a clip to entries of the sample. It has no line
   about caches unless it encodes something (`utils/data/extras.py`, with `LastFrame`, `FlowImages` and `Points` as
   examples).
3. A loss of the network and a batch. With `--held_out_clips` and the like it is also what is validated; `measure` and
   `show` of `SVDTraining.fit` measure and sample something else (`utils/training/validation.py`).
4. A save.

Another network than the base's UNet goes into `svd.fit(model=...)`.
"""

import argparse
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import StableVideoDiffusionPipeline
from torch import nn
from torch.utils.data import Dataset, Subset

from utils.data.clip_latents import Stretches, read_cached_clips
from utils.data.extras import Extra, annotations
from utils.data.svd_clips import SVDClips
from utils.data.video_arguments import read_video_dataset
from utils.data.video_records import read_video_records
from utils.data.videos import VideoDataset, VideoSample, has_flow
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import ConditionEncoder
from utils.latents import side_multiple
from utils.messages.words import count
from utils.motion_helper import MotionBuckets
from utils.pretrained import load_pipeline
from utils.training.loop import check_output_dir, fit
from utils.training.seeding import SeededDataset
from utils.training.svd_arguments import check_svd_arguments, longest_stretch, take_base_size
from utils.training.validation import Measure, Show, Validation, training_errors

FROZEN = ("vae", "image_encoder", "text_encoder")  # parts of a base that a training uses and leaves as they are


@dataclass(frozen=True)
class SVDTraining:
    """What a training on Stable Video Diffusion starts from.

    Attributes:
        args: Parsed flags of `svd_parser`.
        pipe: The base in float32.
        dataset: Samples of `SVDClips`, those that are trained on.
        held_out: Samples with pixels, of clips or frames that are not trained on; empty where there is no validation.
        encoder: Of conditions; None of a base that is conditioned on text.
        edm: Noise levels of the training.
        buckets: Map of motion scores; None with `--fixed_motion_bucket`.
    """

    args: argparse.Namespace
    pipe: StableVideoDiffusionPipeline
    dataset: Dataset
    held_out: list[dict]
    encoder: ConditionEncoder | None
    edm: EDM
    buckets: MotionBuckets | None

    def fit(
        self,
        loss: Callable,
        *,
        save: Callable,
        parameters: list,
        model: nn.Module | None = None,
        measure: Measure | None = None,
        show: Show | None = None,
        keep: dict | None = None,
    ) -> None:
        """Train, and validate where clips are held out.

        Args:
            loss, save, parameters, keep: As of `utils.training.loop.fit`.
            model: What the loss calls; by default the UNet.
            measure, show: As of `Validation`; by default the loss is measured, and nothing is sampled.
        """
        validation = Validation(self, measure or training_errors(loss), show) if self.held_out else None
        fit(
            self.args,
            self.pipe.unet if model is None else model,
            self.dataset,
            loss,
            save=save,
            start=validation.start if validation else None,
            validate=validation,
            parameters=parameters,
            frozen=tuple(getattr(self.pipe, name) for name in FROZEN if hasattr(self.pipe, name)),
            keep=keep,
        )


def start_svd(
    args: argparse.Namespace, extras: Sequence[Extra] = (), pipeline: type = StableVideoDiffusionPipeline
) -> SVDTraining:
    """Check the flags, read clips and base; the random state is that of `--seed` when it returns.

    Args:
        args: Parsed flags of `svd_parser`.
        extras: What the samples have besides those of `SVDClips`.
        pipeline: Class of the base.

    Raises:
        FileExistsError: `--output_dir` has content.
        FileNotFoundError: There is no base, or it has no map of motion buckets.
        ValueError: Flags contradict each other, the clips do not have what is asked for, or the base does not take
            their size.
    """
    take_base_size(args, pipeline)
    check_svd_arguments(args, extras)
    check_output_dir(args)
    clips = read_clips(args, extras)
    buckets = None if args.fixed_motion_bucket else read_buckets(args)
    held_out = read_held_out(clips, buckets, extras, args)
    torch.manual_seed(args.seed)
    pipe = load_base(args, pipeline)
    return SVDTraining(
        args=args,
        pipe=pipe,
        dataset=make_dataset(clips, pipe.vae, buckets, extras, args),
        held_out=held_out,
        encoder=make_encoder(pipe),
        edm=EDM(args.sigma_mean, args.sigma_std),
        buckets=buckets,
    )


def read_clips(args: argparse.Namespace, extras: Sequence[Extra] = ()) -> VideoDataset:
    """Stretches of the clips of `--train_data_dir`, or whole clips to be cached, with the annotations of the extras."""
    held_out = {"held_out_frames": args.held_out_frames or 0}
    if args.cache_latents:
        frames = args.clip_frames or longest_stretch(args)
        clips = read_video_dataset(args, annotations(extras), num_frames=frames, first_frames=True, **held_out)
    else:
        strides = {"frame_strides": tuple(args.frame_strides), "random_reverse": args.random_reverse}
        clips = read_video_dataset(args, annotations(extras), **strides, **held_out)
        clips = _with_wanted_flow(clips, extras)
    if args.skip_bad_clips and (args.cache_latents or args.held_out_clips):
        clips = clips.without_bad_clips()
    if (args.held_out_clips or 0) >= len(clips):
        raise ValueError(
            f"--held_out_clips {args.held_out_clips} leaves none of {count(len(clips), 'clip')} to train on: lower it."
        )
    return clips


def _with_wanted_flow(clips: VideoDataset, extras: Sequence[Extra]) -> VideoDataset:
    wanted = any("flow" in extra.wants for extra in extras) and "flow" not in clips.extras
    if not (wanted and has_flow(clips.records, clips.options)):
        return clips
    return VideoDataset(clips.records, clips.options, (*clips.extras, "flow"), clips.skip_bad_clips)


def make_encoder(pipe) -> ConditionEncoder | None:
    """What makes conditions of images, where the base is conditioned on them."""
    if not hasattr(pipe, "image_encoder"):
        return None
    return ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)


def make_dataset(clips: VideoDataset, vae, buckets, extras: Sequence[Extra], args: argparse.Namespace) -> Dataset:
    """What is trained on: all clips but those held out, cached with `--cache_latents`."""
    trained = len(clips) - (args.held_out_clips or 0)
    if not args.cache_latents:
        # A data set of its own: what takes the place of a bad clip is never one that is held out.
        kept = VideoDataset(clips.records[:trained], clips.options, clips.extras, clips.skip_bad_clips)
        kept.bad[:] = clips.bad[:trained]
        return SVDClips(kept, buckets, extras)
    stretches = Stretches(args.num_frames, args.frame_strides, args.random_reverse)
    cached = read_cached_clips(clips, vae, args.cache_dir, stretches, buckets, extras)
    return Subset(SVDClips(cached, buckets, extras), range(bisect_left(cached.rows, trained)))


def read_held_out(clips: VideoDataset, buckets, extras: Sequence[Extra], args: argparse.Namespace) -> list[dict]:
    """Samples with pixels to validate on, always the same: first stretches of clips or of the frames held out."""
    records, needed = _held_out_records(clips, args), annotations(extras)
    stride = 1 if "flow" in needed else args.frame_strides[0]  # annotated flow is between neighbours
    options = replace(
        clips.options, num_frames=args.num_frames, center_crop=True, first_frames=True, random_flip=False,
        frame_strides=(stride,), random_reverse=False,
    )  # fmt: skip
    if not records:
        return []
    shown = VideoDataset(records, options, needed, args.skip_bad_clips)
    samples = SeededDataset(SVDClips(_HeldOut(shown), buckets, extras), args.seed)
    found = []
    for index in range(len(records)):
        try:
            found.append(samples[0, index])
        except (ValueError, FileNotFoundError) as error:
            if not shown.skip_bad_clips:
                raise
            shown.skip(index, error)
    if not found:
        raise ValueError("No clip to validate on is good; without --skip_bad_clips the first one says why.")
    return found


class _HeldOut(Dataset):
    """Clips as they are validated on; a bad one is never replaced by another."""

    def __init__(self, clips: VideoDataset):
        self.clips = clips

    def __getitem__(self, index: int) -> VideoSample:
        return self.clips.held_out(index) if self.clips.options.held_out_frames else self.clips.draw(index)


def _held_out_records(clips: VideoDataset, args) -> list:
    if args.held_out_clips:
        return clips.records[-args.held_out_clips :]
    if args.held_out_frames:
        return clips.records[: args.num_validation_samples]
    if args.validation_data_dir:
        return read_video_records(args.validation_data_dir, args.frame_folder_fps)[: args.num_validation_samples]
    return []


def read_buckets(args: argparse.Namespace) -> MotionBuckets:
    """The map of `--motion_buckets`, or of the base."""
    if args.motion_buckets:
        return MotionBuckets.load(args.motion_buckets)
    try:
        return MotionBuckets.load(args.pretrained_model_name_or_path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} Or pass --motion_buckets, or --fixed_motion_bucket.") from error


def load_base(args: argparse.Namespace, pipeline: type = StableVideoDiffusionPipeline):
    """The base in float32.

    Raises:
        ValueError: The size of the clips does not fit it.
    """
    name, options = args.pretrained_model_name_or_path, {"revision": args.revision, "variant": args.variant}
    pipe = load_pipeline(pipeline, name, flag="--pretrained_model_name_or_path", **options)
    multiple = side_multiple(pipe.unet.config, pipe.vae.config)
    if args.height % multiple or args.width % multiple:
        raise ValueError(f"--height {args.height} and --width {args.width} have to be multiples of {multiple}.")
    return pipe
