"""Which image becomes which video file, checked before any work."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from utils.commands.results import check_output_file
from utils.files import check_name, check_not_read
from utils.formats.folders import IMAGE_SUFFIXES, list_files
from utils.formats.frame_rates import check_fps
from utils.images import image_size
from utils.messages.words import count
from utils.video import VIDEO_SUFFIXES, write_gif, write_video

WRITERS = {".mp4": write_video, ".gif": write_gif}


@dataclass(frozen=True)
class Job:
    """One image, the file of its video, and the seed of its noise."""

    image: Path
    video: Path
    seed: int

    @property
    def record(self) -> Path:
        return self.video.with_name(f"{self.video.name}.json")

    def write(self, pixels: torch.Tensor, fps: float) -> None:
        """Write the video, pixels (F, 3, H, W) in [-1, 1]."""
        WRITERS[self.video.suffix.lower()](self.video, pixels, fps)


def list_jobs(inputs: list[Path], target: Path, seed: int) -> list[Job]:
    """What is to be made of images and folders of images, in their order; the k-th has the seed + k."""
    images = [image for path in inputs for image in list_images(path)]
    if target.suffix.lower() in WRITERS:
        if len(images) != 1:
            raise ValueError(f"--output_video {target} is one file for {count(len(images), 'image')}: name a folder.")
        return [Job(images[0], target, seed)]
    if target.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise ValueError(f"--output_video {target} is neither a folder nor an {' or '.join(WRITERS)}.")
    jobs = [Job(image, target / f"{image.stem}.mp4", seed + k) for k, image in enumerate(images)]
    counts = Counter(job.video for job in jobs)
    if twice := [job for job in jobs if counts[job.video] > 1]:
        raise ValueError(f"{twice[0].image} and {twice[1].image} would become videos of one name: rename one.")
    return jobs


def list_images(path: Path, flag: str = "--input_image") -> list[Path]:
    if not path.is_dir():
        return [path]
    images = list_files(path, IMAGE_SUFFIXES)
    if not images:
        raise FileNotFoundError(f"There is no image in {flag} {path}.")
    return images


def check_jobs(jobs: Sequence[Job], overwrite: bool, fps: float) -> None:
    """Raises one sentence where an image cannot be read, or its video not be written."""
    for job in jobs:
        image_size(job.image)
        for path in (job.video, job.record):
            check_name(path)
            check_output_file(path, overwrite, "--output_video")
        check_fps(fps, job.video)
    check_not_read([job.video for job in jobs], [job.image for job in jobs])


def batches(pixels: Sequence[torch.Tensor], size: int) -> list[list[int]]:
    """Numbers of images (3, H, W) that are sampled at once: at most `size` neighbours of one height and width."""
    runs = [list(run) for _, run in groupby(range(len(pixels)), lambda k: pixels[k].shape)]
    return [run[start : start + size] for run in runs for start in range(0, len(run), size)]
