"""What the page of images with their depth asks for, within its limits, and how it is sampled."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gradios.desk import Desk, Made
from gradios.pair_view import encode_pair
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.script import SD_BASE, weight
from gradios.uploads import MAX_SEED, check_image, check_number, check_text, check_whole
from pipelines.image_pairs import (
    check_samples,
    fit_inputs,
    load_joint,
    name_adapters,
    read_conditions,
    sample_pairs,
    side_by_side,
    write_pairs,
)
from utils.depth import color_disparity
from utils.images import read_image, to_pixels
from utils.messages.words import count

MAX_PAIRS, MAX_STEPS, MAX_SCALE = 4, 100, 20.0
DEPTH, EDGE = "depth", "edge"
SCRIPT = "run_models/run_depth_image.py"
FILES = {None: "The image", DEPTH: "The depth", EDGE: "The edges"}  # as messages call them
ADAPTERS = "depth_image/depth.safetensors", "depth_image/edge.safetensors"


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        base: Folder or hub name.
        adapters: Joint adapters, each PATH or NAME=PATH.
        estimator: Adapter that estimates the depth of videos in one step.
    """

    base: str = weight("pretrained_model_name_or_path", SD_BASE, "tiny_sd")
    adapters: tuple[str, ...] = weight("adapter", "its joint adapters, each PATH or NAME=PATH", *ADAPTERS)
    estimator: str = weight("one_step_adapter", "adapter that estimates the depth of videos", "depth_image/one_step")

    @property
    def depth(self) -> str:
        """The path of the adapter of depth, or an empty one."""
        return name_adapters(self.adapters).get(DEPTH, "")


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for, within its limits.

    Raises:
        ValueError, OSError: A value is not allowed, or a file is no image.
    """

    image: str | None
    depth: str | None
    edges: str | None
    prompt: str
    negative_prompt: str
    image_strength: float
    condition_strength: float
    with_edges: bool
    pairs: int
    num_inference_steps: int
    guidance_scale: float
    condition_guidance_scale: float
    seed: int

    def __post_init__(self):
        check_image("Image", self.image)
        check_image("Depth", self.depth, deep=True)
        check_image("Edges", self.edges, deep=True)
        changes = {name: check_text(name, getattr(self, name)) for name in ("prompt", "negative_prompt")}
        for name, low, high in (
            ("pairs", 1, MAX_PAIRS),
            ("num_inference_steps", 1, MAX_STEPS),
            ("seed", 0, MAX_SEED),
        ):
            changes[name] = check_whole(name, getattr(self, name), low, high)
        for name, high in (("image_strength", 1), ("condition_strength", 1), ("guidance_scale", MAX_SCALE)):
            changes[name] = check_number(name, getattr(self, name), 0, high)
        check_number("condition_guidance_scale", self.condition_guidance_scale, 0, MAX_SCALE)
        for name, value in changes.items():
            object.__setattr__(self, name, value)

    @property
    def files(self) -> dict[str | None, str]:
        """What is given: the image under None, conditions by the names of their adapters."""
        given = {None: self.image, DEPTH: self.depth, EDGE: self.edges}
        return {name: path for name, path in given.items() if path}

    @property
    def mode(self) -> str:
        """Of `run_depth_image.py`."""
        strengths = [self.image_strength] * bool(self.image) + [self.condition_strength] * bool(
            self.depth or self.edges
        )
        if not strengths:
            return "joint"
        if len(strengths) == 2 or strengths[0] > 0:
            return "coarse"
        return "image_to_depth" if self.image else "depth_to_image"

    def command(self, kept: dict[str | None, str], base: str, adapters: dict[str, str]) -> list[str]:
        """Arguments of `run_depth_image.py` that make the same.

        Args:
            kept: Files of what is given.
            adapters: Paths of those that take part.
        """
        argv = ["--mode", self.mode, "--prompt", self.prompt]
        negative = self.negative_prompt if self.guidance_scale > 1 else ""
        argv += ["--negative_prompt", negative] if negative else []
        argv += ["--image", kept[None]] if None in kept else []
        conditions = [f"{name}={path}" for name, path in kept.items() if name]
        argv += ["--condition", *conditions] if conditions else []
        if self.mode == "coarse":
            argv += ["--strength", self.image_strength] if None in kept else []
            argv += ["--condition_strength", self.condition_strength] if conditions else []
        argv += ["--num_images_per_prompt", self.pairs, "--num_inference_steps", self.num_inference_steps]
        argv += ["--guidance_scale", self.guidance_scale] if self.prompt or negative else []
        argv += ["--condition_guidance_scale", self.condition_guidance_scale]
        argv += ["--seed", self.seed, "--pretrained_model_name_or_path", base]
        return list(map(str, [*argv, "--adapter", *(f"{name}={path}" for name, path in adapters.items())]))


def load(base: str, adapters: tuple[str, ...], device: str | None, dtype: str):
    """The pipeline of a base with adapters."""
    pipe = load_joint(base, name_adapters(adapters), device=device, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def choose_adapters(asked: Asked, named: dict[str, str]) -> list[str]:
    """Adapters that take part: all but edges, which have to be asked for.

    Raises:
        ValueError: Something is given that has no adapter.
    """
    wanted = set(asked.files) - {None} | ({EDGE} if asked.with_edges else set())
    if missing := sorted(wanted - set(named)):
        raise ValueError(f"There is no adapter of the name {missing[0]}: the adapters are {', '.join(named)}.")
    return [name for name in named if name != EDGE or EDGE in wanted] or list(named)


def preview(pipe, tensors: dict) -> Image.Image:
    """Image and conditions as they are at a step: their noisy latents, decoded."""
    latents = [tensors["latents"][:1]]
    for name, values in tensors["condition_latents"].items():
        latents.append(pipe.adapter_pairs[name].latent_scale.denormalize(values[:1]))
    with torch.no_grad():
        scaled = torch.cat(latents).to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
        pixels = pipe.vae.decode(scaled, return_dict=False)[0]
    return side_by_side(pipe.image_processor.postprocess(pixels.float(), "pil"))


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Sample what was asked for; files go into the folder."""
    named = name_adapters(weights.adapters)
    for path in named.values():
        check_samples(path, "", "it is for the depth of a video")
    names = choose_adapters(asked, named)
    kept = {name: keep_input(folder, path, name or "image") for name, path in asked.files.items()}
    used = {name: named[name] for name in names}
    argv = asked.command(kept, weights.base, used)
    run = start_run(SCRIPT, argv, asdict(asked), [weights.base, *used.values()])
    with desk.slot.using(load, weights.base, weights.adapters, desk.device, desk.dtype) as pipe:
        image = read_image(asked.image) if asked.image else None
        conditions = read_conditions({name: path for name, path in asked.files.items() if name}, named, None)
        image, conditions = fit_inputs(pipe, image, conditions, names=FILES)

        def on_step(pipe, step: int, t, tensors: dict) -> dict:
            report("Image and depth", step + 1, pipe.num_timesteps, partial(preview, pipe, tensors))
            return {}

        out = sample_pairs(
            pipe,
            image,
            conditions,
            asked.image_strength if image is not None else None,
            asked.condition_strength,
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            num_images_per_prompt=asked.pairs,
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=asked.guidance_scale,
            condition_guidance_scale=asked.condition_guidance_scale,
            adapters=names,
            generator=torch.Generator().manual_seed(asked.seed),
            callback_on_step_end=on_step,
            callback_on_step_end_tensor_inputs=["latents", "condition_latents"],
        )
    files = write_pairs(folder, out)
    doubtful = [] if image is None else doubts(weights.base, to_pixels(image), "The image")
    return show(out, run, folder, files, asked, doubtful)


def show(out, run, folder: Path, files: list[Path], asked: Asked, doubtful: list[str]) -> Made:
    """Values of the components that show a result."""
    first = next(iter(out.values))
    depth = out.values.get(DEPTH, out.values[first])
    width, height = out.images[0].size
    archive = pack(folder, run, files, "duet_depth_image", width=width, height=height)
    sheets = [str(path) for path in files if path.name.endswith("side_by_side.png")] if len(out.images) > 1 else []
    pair = (out.images[0], color_disparity(depth[0]))
    sentence = f"{count(len(out.images), 'pair')} of {width}×{height} pixels, seed {asked.seed},"
    return Made((pair, encode_pair(out.images[0], np.asarray(depth[0])), sheets, archive), sentence, doubtful)
