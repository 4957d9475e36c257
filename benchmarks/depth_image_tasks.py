"""The tasks of `benchmarks.eval_depth_image`: functions from indices of scenes to rows of figures and a sheet.

The i-th scene and the noise of its images depend on i alone, not on the batch.
"""

from dataclasses import asdict
from functools import cache, cached_property
from itertools import count, islice

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from benchmarks.judged import JudgedBench
from benchmarks.protocol import SHOWN, Chunk
from pipelines.one_step import estimate_condition
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from pipelines.request import default_size
from utils.data.records import read_records
from utils.depth import color_disparity, disparity_to_metres, metres_to_disparity, normalize_disparity
from utils.edges import canny_edges
from utils.images import to_image, to_pixels
from utils.latents import reconstruct
from utils.metrics.attributes import score_objects
from utils.metrics.depth import autoencoder_floor, depth_errors, disparity_image
from utils.metrics.edges import edge_f1
from utils.pretrained import DTYPES, load_pipeline
from utils.scenes import Rendering, Scene, caption, render, sample_scene

# Sampled depth has no unit: it is read as that of a scene from the median of the world's nearest points to that of its
# farthest.
NEAR, FAR = 2.8, 7.6  # metres
EDGE_TOLERANCE = 1  # pixels


class Bench(JudgedBench):
    """Models and scenes, each loaded when a task first needs it."""

    def __init__(self, args):
        super().__init__(args)
        self.dtype = DTYPES[args.dtype]

    @cached_property
    def base(self) -> StableDiffusionPipeline:
        """The base alone, in networks of its own."""
        return self.loaded(StableDiffusionPipeline)

    def joint(self, *conditions: str) -> StableDiffusionJointPipeline:
        """The base with the adapters of these conditions; others may be loaded and idle."""
        for name in conditions:
            if name not in self.joint_pipeline.adapter_pairs:
                self.joint_pipeline.load_adapter_pair(getattr(self.args, f"{name}_adapter"), name)
        return self.joint_pipeline.to(self.args.device, self.dtype)

    @cached_property
    def estimator(self) -> StableDiffusionJointPipeline:
        """The base with the adapter of one step."""
        pipe = self.loaded(StableDiffusionJointPipeline)
        pipe.load_adapter_pair(self.args.one_step_adapter, "depth")
        return pipe.to(self.args.device, self.dtype)

    @cached_property
    def joint_pipeline(self) -> StableDiffusionJointPipeline:
        return self.loaded(StableDiffusionJointPipeline)

    def loaded(self, kind: type[StableDiffusionPipeline]) -> StableDiffusionPipeline:
        pipe = load_pipeline(kind, self.args.pretrained_model_name_or_path, self.dtype)
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self.args.device, self.dtype)

    @cached_property
    def size(self) -> int:
        return default_size(self.base)[0]

    @cache  # noqa: B019, a bench lives as long as the process
    def scene(self, index: int) -> Scene:
        return sample_scene(self.args.first_seed + index)

    @cache  # noqa: B019
    def rendering(self, index: int) -> Rendering:
        return render(self.scene(index), self.size)

    def pixels(self, indices: range) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1]"""
        return torch.stack([to_pixels(Image.fromarray(self.rendering(i).image)) for i in indices])

    def metres(self, indices: range) -> np.ndarray:
        return np.stack([self.rendering(i).depth for i in indices])

    def scenes(self, indices: range) -> list[Scene]:
        return [self.scene(i) for i in indices]

    def captions(self, indices: range) -> list[str]:
        return list(map(caption, self.scenes(indices)))

    @cached_property
    def unseen_scenes(self) -> list[Scene]:
        """Scenes whose captions no training has seen, as far as `--train_data_dir` says."""
        folder = self.args.train_data_dir
        seen = {record.caption for record in read_records(folder)} if folder else set()
        scenes = (self.scene(i) for i in count())
        return list(islice((scene for scene in scenes if caption(scene) not in seen), self.args.num_captions))

    def sampling(self, indices: range) -> dict:
        """Keyword arguments of all pipelines; each image has noise of its own."""
        return {
            "generator": [torch.Generator().manual_seed(self.args.seed + i) for i in indices],
            "num_inference_steps": self.args.num_inference_steps,
            "guidance_scale": self.args.guidance_scale,
            "output_type": "pt",
        }

    def judged_disparity(self, pixels: torch.Tensor) -> np.ndarray:
        """(B, 3, H, W) in [-1, 1] -> (B, H, W)"""
        with torch.no_grad():
            return self.depth_judge(pixels.to(self.args.device, torch.float32)).cpu().numpy()

    def judged_objects(self, pixels: torch.Tensor) -> list[list[tuple[str, str]]]:
        return self.attribute_judge.read(pixels.to(self.args.device, torch.float32))


def judges(bench: Bench, indices: range) -> Chunk:
    """The judges' own errors, on renderings and on their reconstructions by the autoencoder."""
    rows = [{} for _ in indices]
    pixels = bench.pixels(indices)
    for name, shown in (("rendered", pixels), ("reconstructed", reconstruct(bench.base.vae, pixels))):
        depth = depth_rows(bench.judged_disparity(shown), bench.metres(indices))
        for row, errors, score in zip(rows, depth, object_rows(bench, bench.scenes(indices), shown), strict=True):
            row |= {f"{name}_{key}": value for key, value in {**errors, **score}.items() if key != "objects"}
            row["objects"] = score["objects"]
    return rows, []


def floor(bench: Bench, indices: range) -> Chunk:
    """The true depth through the autoencoder."""
    metres = bench.metres(indices)
    errors, returned = autoencoder_floor(bench.base.vae, metres)
    return [asdict(one) for one in errors], columns(colored(metres), map(color_disparity, returned))


def image_to_depth(bench: Bench, indices: range) -> Chunk:
    """Depth of rendered images, without a prompt, against the renderer's."""
    pixels, metres = bench.pixels(indices), bench.metres(indices)
    out = bench.joint("depth")(image=pixels, adapters="depth", **bench.sampling(indices))
    return against_truth(pixels, metres, out.values["depth"])


def one_step(bench: Bench, indices: range) -> Chunk:
    """The same, estimated in one deterministic step."""
    pixels, metres = bench.pixels(indices), bench.metres(indices)
    out = estimate_condition(bench.estimator, pixels)
    return against_truth(pixels, metres, out.values["depth"])


def against_truth(pixels: torch.Tensor, metres: np.ndarray, depth: np.ndarray) -> Chunk:
    sheet = columns(map(to_image, pixels), colored(metres), map(color_disparity, depth))
    return depth_rows(depth, metres), sheet


def depth_to_image(bench: Bench, indices: range) -> Chunk:
    """Images of rendered depth and caption; their depth, as judged, against the rendered one."""
    metres = bench.metres(indices)
    given = torch.stack([disparity_image(one) for one in metres])
    pipe = bench.joint("depth")
    out = pipe(bench.captions(indices), condition=given, adapters="depth", **bench.sampling(indices))
    pixels = sampled(out)
    judged = bench.judged_disparity(pixels)
    return depth_rows(judged, metres), columns(colored(metres), map(to_image, pixels), shown(judged))


def joint(bench: Bench, indices: range) -> Chunk:
    """Image and depth from captions; the image's depth, as judged, against the depth sampled with it."""
    out = bench.joint("depth")(bench.captions(indices), adapters="depth", **bench.sampling(indices))
    pixels, depth = sampled(out), out.values["depth"]
    judged = bench.judged_disparity(pixels)
    metres = np.stack([disparity_to_metres(one, NEAR, FAR) for one in depth])
    sheet = columns(map(to_image, pixels), map(color_disparity, depth), shown(judged))
    return depth_rows(judged, metres), sheet


def depth_edge_to_image(bench: Bench, indices: range) -> Chunk:
    """Images of rendered depth and edges at once, with the caption: judged depth, and edges found again."""
    metres = bench.metres(indices)
    edges = torch.stack([canny_edges(one) for one in bench.pixels(indices)])
    given = {"depth": torch.stack([disparity_image(one) for one in metres]), "edge": edges}
    pipe = bench.joint("depth", "edge")
    out = pipe(bench.captions(indices), condition=given, adapters=["depth", "edge"], **bench.sampling(indices))
    pixels = sampled(out)
    judged = bench.judged_disparity(pixels)
    found = torch.stack([canny_edges(one) for one in pixels])
    rows = depth_rows(judged, metres)
    for row, one, other in zip(rows, found, edges, strict=True):
        row["edge_f1"] = edge_f1((one[0] > 0).numpy(), (other[0] > 0).numpy(), EDGE_TOLERANCE)
    sheet = columns(colored(metres), map(to_image, edges), map(to_image, pixels), shown(judged))
    return rows, sheet


def obedience_base(bench: Bench, indices: range) -> Chunk:
    """Images of unseen captions by the base alone, read by the attribute judge."""
    scenes = [bench.unseen_scenes[i] for i in indices]
    pixels = sampled(bench.base(list(map(caption, scenes)), **bench.sampling(indices)))
    return object_rows(bench, scenes, pixels), columns(map(to_image, pixels))


def obedience_joint(bench: Bench, indices: range) -> Chunk:
    """The same captions and noise, the images being sampled with their depth."""
    scenes = [bench.unseen_scenes[i] for i in indices]
    out = bench.joint("depth")(list(map(caption, scenes)), adapters="depth", **bench.sampling(indices))
    pixels = sampled(out)
    sheet = columns(map(to_image, pixels), map(color_disparity, out.values["depth"]))
    return object_rows(bench, scenes, pixels), sheet


def sampled(out) -> torch.Tensor:
    """The images of an output as pixels in [-1, 1]."""
    return out.images.float().cpu() * 2 - 1


def depth_rows(disparities, metres) -> list[dict]:
    return [asdict(depth_errors(d, m)) for d, m in zip(disparities, metres, strict=True)]


def object_rows(bench: Bench, scenes: list[Scene], pixels: torch.Tensor) -> list[dict]:
    expected = [[(solid.color, solid.shape) for solid in scene.objects] for scene in scenes]
    return [asdict(score_objects(*pair)) for pair in zip(bench.judged_objects(pixels), expected, strict=True)]


def colored(metres) -> list[Image.Image]:
    return shown([metres_to_disparity(one) for one in metres])


def shown(disparities) -> list[Image.Image]:
    return [color_disparity(normalize_disparity(one)) for one in disparities]


def columns(*kinds) -> list[list[Image.Image]]:
    """From images of each kind to those of each of the first samples."""
    return [list(column) for column in zip(*kinds, strict=True)][:SHOWN]
