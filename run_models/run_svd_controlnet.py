"""Samples a video that begins with an image and follows depth, segmentation, edges or flow, by Stable Video Diffusion.

python run_models/run_svd_controlnet.py --input_image first.png --control segmentation=labels --output_dir outputs/video
python run_models/run_svd_controlnet.py --input_image first.png --control edge=clip.mp4 --controlnet outputs/edge …
python run_models/run_svd_controlnet.py --input_image first.png --control depth=depth --control segmentation=labels \
    --controlnet_conditioning_scale 1 0.5 --control_guidance_end 1 0.6 …

A control is a folder of numbered images or a video; flow may also be a file or a folder of .flo or .npy. Edges and flow
are estimated where ordinary frames are passed; the command prints how it reads each control. Writes video.mp4,
frames.png (the controls above the video) and run.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from models.multi_controlnet import list_controlnets
from models.svd_controlnet import ControlNetSVD
from pipelines.control_inputs import ControlInput, ControlSource, check_controlnet, read_controls
from pipelines.pipeline_stable_video_diffusion_controlnet import (
    StableVideoDiffusionControlNetPipeline,
    check_window,
    one_each,
)
from pipelines.sizes import fit_image
from pipelines.video_commands import (
    add_base_argument,
    add_result_arguments,
    add_video_sampling,
    check_video_base,
    check_video_run,
)
from utils.arguments import check_needs, filled, finite_float, make_parser, run_script, share
from utils.commands.results import RECORD, Run, remove_last_run, write_png
from utils.diffusion.sampling import VideoSampling, common_sampling, parse_sampling_args
from utils.images import image_size, read_image
from utils.messages.words import count
from utils.pretrained import choose_device, load_pipeline, shipped
from utils.video import contact_sheet, write_video
from utils.weights.embedded import warn_of_photograph
from utils.weights.model_kinds import check_network

SETTINGS = ("controlnet_conditioning_scale", "control_guidance_start", "control_guidance_end")
NEEDED = (  # flags, whether what they need is there, and what that is
    (("guide_control",), lambda args: VideoSampling.from_args(args).guided, "--max_guidance_scale above 1"),
)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    group = result.add_argument_group("inputs")
    group.add_argument("--input_image", type=filled, required=True, help="first frame")
    _add_controls(group)
    group = result.add_argument_group("weights")
    add_base_argument(group)
    own = "default: weights/svd_controlnet/NAME of each control"
    nets = f"folders of train_svd_controlnet.py, one for each --control ({own})"
    group.add_argument("--controlnet", type=filled, nargs="+", help=nets)
    add_video_sampling(result)
    add_result_arguments(result)
    return result


def _add_controls(group) -> None:
    add = group.add_argument
    names = "depth, segmentation, edge, flow, or folder for other images; repeat it for several controls"
    add("--control", action="append", required=True, metavar="NAME=PATH", help=names)
    each = "one for all controls, or one each"
    for name, kind, default, text in (
        (SETTINGS[0], finite_float, 1.0, "factor of what a ControlNet adds"),
        (SETTINGS[1], share, 0.0, "share of the denoising steps, 0 to 1, before a control acts"),
        (SETTINGS[2], share, 1.0, "share of the denoising steps, 0 to 1, after which a control ends"),
    ):
        add(f"--{name}", type=kind, nargs="+", default=[default], help=f"{text}; {each}")
    text = "leave the control out of the unconditional prediction, so that guidance strengthens it"
    add("--guide_control", action="store_true", help=text)


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_sampling_args(parser(), argv, own_sampling)
    given, controlnets = read_inputs(args), controlnets_of(args)
    sources, num_frames = check(args, given, controlnets)
    run = Run.start(argv, vars(args), [args.model_dir, *controlnets])
    pipe = load(args.model_dir, given, controlnets, args.device, args.dtype)
    image = fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image)
    warn_of_photograph(args.model_dir, image, args.input_image, "--model_dir")
    for source in sources:
        print(f"{source.kind}: {source.said}; the first {num_frames} of {count(source.num_frames, 'frame')}.")
    controls = read_controls(pipe, sources, num_frames, image.shape[-2:])
    options = VideoSampling.from_args(args).options() | {name: getattr(args, name) for name in SETTINGS}
    options |= {"generator": torch.Generator().manual_seed(args.seed), "decode_chunk_size": args.decode_chunk_size}
    options |= {"num_frames": num_frames, "guide_control": args.guide_control}
    video = pipe(image[None], controls, **options, output_type="pt").frames[0].cpu().float() * 2 - 1
    folder = Path(args.output_dir)
    files = write_controlled(folder, video, controls, args.fps)
    remove_last_run(folder, kept=files)
    said = {source.kind: source.said for source in sources}
    run.write(folder / RECORD, files, frames=len(video), height=video.shape[-2], width=video.shape[-1], controls=said)
    print(f"Written: video.mp4 of {count(len(video), 'frame')} and frames.png in {folder}")
    return files


def read_inputs(args) -> list[ControlInput]:
    return [ControlInput.parse(text) for text in args.control]


def controlnets_of(args) -> list[str]:
    return args.controlnet or [shipped(f"svd_controlnet/{one.kind}") for one in read_inputs(args)]


def own_sampling(args) -> dict:
    return common_sampling(controlnets_of(args))


def check(args, given: Sequence[ControlInput], controlnets: Sequence[str]) -> tuple[list[ControlSource], int]:
    """One sentence about what would fail after a long time; returns the controls, read, and the number of frames."""
    check_video_run(args, [args.input_image, *(one.path for one in given)])
    check_needs(parser(), args, NEEDED)
    if len(controlnets) != len(given):
        raise ValueError(f"{count(len(given), 'control')} and {count(len(controlnets), 'ControlNet')}: pass one each.")
    settings = [one_each(getattr(args, name), len(given), f"--{name}") for name in SETTINGS]
    for start, end in zip(*settings[1:], strict=True):
        check_window(start, end)
    for one, name in zip(given, controlnets, strict=True):
        if not args.controlnet and not Path(name).exists():
            raise FileNotFoundError(
                f"There are no weights for {one.kind}: pass --controlnet of train_svd_controlnet.py."
            )
        check_network(name, ControlNetSVD, "--controlnet")
        if Path(name, "config.json").is_file():
            check_controlnet(json.loads(Path(name, "config.json").read_text()), one.kind, name)
    layout = check_video_base(args, [args.input_image])
    num_frames = args.num_frames or layout.num_frames
    sources = [one.open() for one in given]
    for source in sources:
        source.check(num_frames, image_size(args.input_image)[::-1], f"--input_image {args.input_image}")
    return [source.load(num_frames) for source in sources], num_frames


def load(
    base: str,
    given: Sequence[ControlInput],
    controlnets: Sequence[str],
    device: str | None = None,
    dtype: str = "float32",
) -> StableVideoDiffusionControlNetPipeline:
    """The pipeline of a base with a ControlNet for each control."""
    pipe = load_pipeline(StableVideoDiffusionControlNetPipeline, base, dtype, "--model_dir")
    pipe.load_controlnet(*controlnets)
    for one, name, net in zip(given, controlnets, list_controlnets(pipe.controlnet), strict=True):
        check_controlnet(net.config, one.kind, name)
    return pipe.to(choose_device(device))


def write_controlled(folder: Path, video: torch.Tensor, controls: Sequence[torch.Tensor], fps: float) -> list[Path]:
    """Write a video (F, 3, H, W) in [-1, 1] and its frames below its controls (1, F, 3, H, W); returns the files."""
    write_video(folder / "video.mp4", video, fps)
    rows = torch.cat([*(control[0] for control in controls), video])
    return [folder / "video.mp4", write_png(folder / "frames.png", contact_sheet(rows, columns=len(video)))]


if __name__ == "__main__":
    run_script(main)
