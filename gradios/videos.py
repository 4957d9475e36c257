"""What the pages of videos share: their settings, their weights, previews of their steps, and files that play."""

from collections.abc import Collection, Mapping
from functools import partial

import gradio as gr
import numpy as np
import torch
from PIL import Image

from gradios.controls import add_seed, weights_box
from gradios.running import Reporter
from gradios.uploads import MAX_SEED, check_number, check_whole
from utils.diffusion.sampling import VideoSampling
from utils.flow.results import color_video
from utils.video import contact_sheet, to_frames

MAX_STEPS, MAX_FRAMES, MAX_SCALE, MAX_BUCKET = 100, 64, 10.0, 255
PREVIEW_FRAMES = 4
PAGE_STEPS = 12  # fewer than the commands take: someone waits
OWN_FRAMES = 0  # of the slider: the model's own number
DEFAULTS = VideoSampling()


def add_video_settings(own_rate: bool = False) -> dict:
    """Components of what `video_flags` takes, by name.

    Args:
        own_rate: Whether the frame rate is that of a video that is sent, so that none is asked for.
    """
    seed = add_seed()
    with gr.Row():
        steps = gr.Slider(1, MAX_STEPS, PAGE_STEPS, step=1, label="Denoising steps", min_width=140)
        frames = gr.Slider(0, MAX_FRAMES, 0, step=1, label="Frames", info="0: the model's own number", min_width=140)
    with gr.Row():
        scale = gr.Slider(0, MAX_SCALE, DEFAULTS.max_guidance_scale, step=0.5, label="Guidance scale", min_width=140)
        bucket = gr.Slider(0, MAX_BUCKET, DEFAULTS.motion_bucket_id, step=1, label="Motion bucket", min_width=140)
    fps = gr.Slider(1, 30, DEFAULTS.fps, step=1, label="Frames per second", visible=not own_rate)
    return {
        "num_inference_steps": steps,
        "max_guidance_scale": scale,
        "motion_bucket_id": bucket,
        "fps": fps,
        "num_frames": frames,
        "seed": seed,
    }


def video_flags(values: Mapping, unread: Collection[str] = ()) -> list[str]:
    """Flags of all video scripts by the values of `add_video_settings`.

    Args:
        unread: Those that the script would refuse.

    Raises:
        ValueError: One is not allowed.
    """
    frames = check_whole("num_frames", values["num_frames"], 0, MAX_FRAMES)
    flags = {
        "num_inference_steps": check_whole("num_inference_steps", values["num_inference_steps"], 1, MAX_STEPS),
        "max_guidance_scale": check_number("max_guidance_scale", values["max_guidance_scale"], 0, MAX_SCALE),
        "motion_bucket_id": check_number("motion_bucket_id", values["motion_bucket_id"], 0, MAX_BUCKET),
        "fps": check_number("fps", values["fps"], 1, 30),
        "seed": check_whole("seed", values["seed"], 0, MAX_SEED),
    }
    if frames != OWN_FRAMES:
        flags["num_frames"] = frames
    return as_flags({name: value for name, value in flags.items() if name not in unread})


def as_flags(values: dict) -> list[str]:
    """--name=value for each, which no value can turn into another flag."""
    return [f"--{name}={value}" for name, value in values.items()]


def add_base_box(own: str) -> gr.Textbox:
    return weights_box("Stable Video Diffusion base", own)


def add_between_box(own: str) -> gr.Textbox:
    """Weights of frames between two; `own` is empty where the server has none of its own."""
    return weights_box(
        "Adapter of frames between two", own or "weights/svd_trans for weights/tiny_svd, else training-free"
    )


def watch_steps(report: Reporter, pipe, phase: str | None = None):
    """The `on_step` of a sampling by a pipeline of videos."""

    def on_step(done: int, total: int, estimates: dict) -> None:
        name = next(iter(estimates))
        shown = phase or ("Video" if None in estimates else "Optical flow")
        report(shown, done, total, partial(preview, pipe, None if None in estimates else name, estimates))

    return on_step


@torch.no_grad()
def preview(pipe, name: str | None, estimates: dict) -> Image.Image:
    """A few frames of the clean estimate of the video, or of its flow in colours."""
    latents = estimates[name][:1].detach()
    if name is None:
        chosen = torch.linspace(0, latents.shape[1] - 1, min(PREVIEW_FRAMES, latents.shape[1])).round().long()
        return contact_sheet(to_frames(pipe.decode(latents[:, chosen])[0]), columns=PREVIEW_FRAMES)
    flow = pipe.decode_flow(latents[:, : PREVIEW_FRAMES + 1], None)[0]
    return contact_sheet(color_video(flow.float().cpu().numpy()), columns=PREVIEW_FRAMES)


def player(label: str, **options) -> gr.Video:
    """A video that plays again and again."""
    given = {"autoplay": True, "loop": True, "interactive": False, "buttons": [], "elem_classes": "duet-pixels"}
    return gr.Video(label=label, **given | options)


def frames_sheet(label: str) -> gr.Image:
    """An image of many frames, below its label."""
    shown = {"interactive": False, "buttons": ["fullscreen"], "elem_classes": "duet-pixels duet-sheet"}
    return gr.Image(label=label, **shown)


def enlarged(frames: np.ndarray, shortest: int = 256) -> np.ndarray:
    """Frames uint8 (F, H, W, 3) of small videos enlarged by a whole number, so that players keep their pixels sharp."""
    scale = max(1, round(shortest / min(frames.shape[1:3])))
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def size_of(video: torch.Tensor) -> dict[str, int]:
    """Height and width of pixels (F, 3, H, W), for a record."""
    return {"height": video.shape[-2], "width": video.shape[-1]}
