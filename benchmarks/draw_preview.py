"""Sample and draw what the README shows at its top: pairs.png and preview.webp.

python -m benchmarks.draw_preview --output_dir docs

Everything comes from the weights of the repository, with fixed seeds: an image and its depth as they come out of the
noise together, a video that follows rendered optical flow, and one that follows a dragged point, with its path.
"""

import argparse
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pipelines.drags import DEFAULT_METHOD, load_drag_pipeline, sample_drag
from pipelines.image_pairs import load_joint, side_by_side
from run_models.run_flow_video import load
from utils.arguments import REPOSITORY, make_parser, parse_args, positive_int, run_script
from utils.commands.results import write_png
from utils.depth import color_disparity
from utils.diffusion.sampling import model_sampling
from utils.files import replacing
from utils.flow.images import color_flow
from utils.images import to_image, to_pixels
from utils.pretrained import shipped
from utils.scenes import UNSEEN, render, render_clip, sample_clip
from utils.tracks import Tracks
from utils.tracks.drawing import draw_paths
from utils.video import to_frames
from utils.video import to_pixels as frames_to_pixels

PROMPTS = (
    "a red cube and a blue sphere on a gray floor, white wall",
    "a green cone, a yellow cylinder and a purple sphere on a brown floor, teal wall",
)
PANEL, GAP, TEXT = 168, 10, 26  # pixels: side of a panel, space between two, height of its words
LENGTH, FPS = 32, 8  # frames of the preview, and their rate
WORDS = ("image …", "… and its depth", "optical flow …", "… moves a video", "as does a dragged point")
FLOW_SCENE, DRAG_SCENE = UNSEEN + 30, UNSEEN + 6
DRAG, HELD = ((17.0, 41.0), (30.0, 38.0)), (47.0, 53.0)  # pixels of the first frame


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--output_dir", default=str(REPOSITORY / "docs"), help="folder of both files, which are replaced")
    add("--num_inference_steps", type=positive_int, default=25, help="denoising steps")
    return result


def main(argv=None) -> list[Path]:
    """Runs the command and returns the files."""
    args = parse_args(parser(), argv)
    steps, folder = args.num_inference_steps, Path(args.output_dir)
    pipe = load_joint(shipped("tiny_sd"), {"depth": shipped("depth_image/depth.safetensors")})
    pairs = write_png(folder / "pairs.png", draw_pairs(pipe, steps))
    columns = [*denoise_pair(pipe, steps), *follow_flow(steps), follow_path(steps)]
    frames = [compose([column[i % len(column)] for column in columns]) for i in range(LENGTH)]
    preview = folder / "preview.webp"
    with replacing(preview) as temporary:
        options = {"format": "WebP", "save_all": True, "duration": 1000 // FPS, "loop": 0, "quality": 80, "method": 4}
        frames[0].save(temporary, append_images=frames[1:], **options)
    print(f"Written: {pairs} and {preview}")
    return [pairs, preview]


def draw_pairs(pipe, steps: int) -> Image.Image:
    """Four pairs of each prompt, side by side."""
    rows = []
    for number, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(number)
        out = pipe(prompt, num_images_per_prompt=4, num_inference_steps=steps, generator=generator)
        depth = [color_disparity(values) for values in out.values["depth"]]
        images = [enlarge(image, 132) for image in chain(*zip(out.images, depth, strict=True))]
        rows.append(side_by_side([image for pair in zip(*[iter(images)] * 2, strict=True) for image in spaced(pair)]))
    sheet = Image.new("RGB", (rows[0].width, 2 * rows[0].height + GAP), "white")
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (row.height + GAP)))
    return sheet.crop((0, 0, sheet.width - GAP, sheet.height))


def spaced(images) -> list[Image.Image]:
    return [*images, Image.new("RGB", (GAP, images[0].height), "white")]


def denoise_pair(pipe, steps: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """An image and its depth, decoded after each step, and then as they are for as long."""
    scale, factor = pipe.adapter_pairs["depth"].latent_scale, pipe.vae.config.scaling_factor
    images, depths = [], []

    def decode(pipe, step, t, tensors):
        latents = torch.cat([tensors["latents"], scale.denormalize(tensors["condition_latents"]["depth"])])
        image, depth = pipe.vae.decode(latents / factor, return_dict=False)[0].clamp(-1, 1)
        images.append(to_image(image))
        depths.append(color_disparity(depth.mean(dim=0).numpy()))
        return {}

    options = {"callback_on_step_end": decode, "callback_on_step_end_tensor_inputs": ["latents", "condition_latents"]}
    generator = torch.Generator().manual_seed(3)
    pipe(PROMPTS[1], num_inference_steps=steps, generator=generator, **options)
    half = np.linspace(0, len(images) - 1, LENGTH // 2).round().astype(int)
    return tuple([column[i] for i in half] + [column[-1]] * (LENGTH // 2) for column in (images, depths))


def first_frame(seed: int) -> torch.Tensor:
    """Pixels (3, 64, 64) in [-1, 1]."""
    clip = sample_clip(seed, camera="still", num_objects=2)
    return to_pixels(Image.fromarray(render(clip.at(0), 64).image))


def follow_flow(steps: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """Rendered flow in colours and the video that is sampled from it and a first frame, back and forth."""
    pipe = load(shipped("tiny_svd"), shipped("flow_video"))
    clip = sample_clip(FLOW_SCENE, pipe.unet.config.num_frames, camera="still", num_objects=2)
    rendering = render_clip(clip, 64)
    flow, first = torch.from_numpy(rendering.flow).float(), frames_to_pixels(rendering.video[:1])
    options = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(0), "output_type": "pt"}
    video = pipe(first, flow=flow[None], **options).frames[0] * 2 - 1
    fastest = float(flow.norm(dim=1).max())
    colors = [Image.fromarray(color_flow(step, max_flow=fastest)) for step in flow]
    frames = images_of(video)
    return [*colors, colors[-1], colors[-1], *colors[::-1]], frames + frames[::-1]


def follow_path(steps: int) -> list[Image.Image]:
    """A video of a dragged point with its path, and back."""
    pipe = load_drag_pipeline(shipped("tiny_svd"), DEFAULT_METHOD, shipped("flow_video"))
    num_frames = pipe.unet.config.num_frames
    moved = [torch.linspace(start, end, num_frames) for start, end in zip(*DRAG, strict=True)]
    points = torch.stack([torch.stack(moved, dim=-1), torch.tensor(HELD).expand(num_frames, 2)], dim=1)
    tracks, image = Tracks(points, 64, 64), first_frame(DRAG_SCENE)
    options = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(0)}
    options |= model_sampling(shipped("flow_video"))
    video, _ = sample_drag(pipe, image, tracks, DEFAULT_METHOD, **options)
    frames = [draw_paths(np.asarray(enlarge(frame, 4 * PANEL)), scaled(points[:, :1])) for frame in images_of(video)]
    return [Image.fromarray(frame) for frame in frames + frames[::-1]]


def images_of(video: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in to_frames(video)]


def scaled(points: torch.Tensor) -> torch.Tensor:
    """Points of 64x64 pixels in a panel of four times its side."""
    return (points + 0.5) * (4 * PANEL / 64) - 0.5


def enlarge(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BICUBIC)


def compose(panels: list[Image.Image]) -> Image.Image:
    """One frame: panels in a row above their words."""
    width = len(panels) * (PANEL + GAP) - GAP
    frame, font = Image.new("RGB", (width, PANEL + TEXT), "white"), ImageFont.load_default(15)
    draw = ImageDraw.Draw(frame)
    for number, (panel, words) in enumerate(zip(panels, WORDS, strict=True)):
        left = number * (PANEL + GAP)
        frame.paste(enlarge(panel, PANEL), (left, 0))
        draw.text((left + PANEL / 2, PANEL + TEXT / 2), words, fill="#333333", font=font, anchor="mm")
    return frame


if __name__ == "__main__":
    run_script(main)
