"""Edits a video by a prompt: keyframes by Stable Diffusion, together, and the frames between them by Stable Video
Diffusion.

python run_models/run_keyframe_edit.py --input_video clip.mp4 --source_prompt "a red sphere on a gray floor, white wall"
    --prompt "a blue sphere on a gray floor, white wall" --mask auto --output_dir outputs/edit
python run_models/run_keyframe_edit.py --input_video wolf.mp4 --source_prompt "a wolf" --prompt "a husky"
    --image_model stable-diffusion-v1-5/stable-diffusion-v1-5 --structure inversion
    --model_dir stabilityai/stable-video-diffusion-img2vid-xt --keyframe_interval 12 --output_dir outputs/husky

Writes video.mp4, frames.png (the source above the result), keyframes/, segments/ and run.json. A run that was stopped
goes on when it is started again with the same arguments.
"""

import argparse
from pathlib import Path

import torch

from pipelines.edit_folder import CONTENT, EditFolder
from pipelines.edit_inputs import choose_size, first_size, open_clip, read_fitted, read_masks
from pipelines.edit_keyframes import choose_keyframes
from pipelines.edit_models import EditModels
from pipelines.edit_video import Edit, FillSettings, edit_keyframes, fill_gaps
from pipelines.layouts import Layout, check_steps
from pipelines.pipeline_keyframe_edit import AUTO, EditSettings, check_prompts
from pipelines.sizes import check_gap_frames
from pipelines.trans_adapter import add_adapter_arguments
from pipelines.video_commands import GAP_FRAMES, add_base_argument, add_result_arguments, add_video_sampling
from utils.arguments import check_needs, filled, make_parser, parse_args, positive_float, run_script
from utils.commands.results import RECORD, Run, hash_content, remove_last_run, write_png
from utils.commands.settings import add_settings
from utils.data.clip_frames import ClipFrames
from utils.diffusion.sampling import VideoSampling, check_guidance
from utils.flow.estimate import enlarged_size, estimate_flow
from utils.formats.frame_rates import check_fps
from utils.messages.words import count
from utils.pretrained import shipped
from utils.video import contact_sheet, write_video
from utils.weights.embedded import warn_of_photograph

NO_SETTINGS = ("output_dir", "overwrite", "device", "config", "decode_chunk_size")  # that do not change the result
NEEDED = (  # flags, whether what they need is there, and what that is
    (("mask_threshold",), lambda args: args.mask == AUTO, f"--mask {AUTO}"),
    (("token_merging",), lambda args: args.cross_frame, "--cross_frame"),
    (("negative_prompt",), lambda args: args.edit_guidance_scale > 1, "--edit_guidance_scale above 1"),
)
COLUMNS = 8  # of frames.png


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument_group("inputs").add_argument
    add("--input_video", type=filled, required=True, help="a video file, or a folder of numbered frames")
    add("--prompt", required=True, help="what the result shows")
    source = "what the video shows; --mask auto and each --structure but strength read it (default: empty)"
    add("--source_prompt", default="", help=source)
    add("--negative_prompt", help="prompt of the unconditional prediction (default: empty)")
    add(
        "--mask",
        type=filled,
        help="limits the edit to what is white: an image for all frames, or a video or folder with one for each, of "
        "the size of the video; or auto: to where the two prompts differ (default: none)",
    )
    group = result.add_argument_group("keyframes")
    add_settings(group, FillSettings)
    add_settings(group, EditSettings)
    group = result.add_argument_group("weights")
    base = "folder or hub name of a Stable Diffusion base"
    group.add_argument("--image_model", type=filled, default=shipped("tiny_sd"), help=base)
    joint = "joint adapter of train_depth_image.py for --structure depth and depth+inversion (default: "
    joint += "weights/depth_image/depth.safetensors for weights/tiny_sd)"
    group.add_argument("--depth_adapter", type=filled, help=joint)
    add_base_argument(group)
    add_adapter_arguments(group)
    group = add_video_sampling(result, leave_out=("fps", "still_threshold"), frames=GAP_FRAMES)
    group.add_argument(
        "--fps", type=positive_float, help="frames per second of the result (default: those of the video)"
    )
    add_result_arguments(result)
    return result


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(parser(), argv)
    edit_settings, fill = EditSettings.from_args(args), FillSettings.from_args(args)
    clip, folder = check(args, edit_settings), EditFolder(Path(args.output_dir))
    models = EditModels.from_args(args, edit_settings)
    run = Run.start(argv, vars(args) | {"adapter": models.adapter}, models.names)
    inputs = [args.input_video] + ([] if args.mask in (None, AUTO) else [args.mask])
    settings = {name: value for name, value in vars(args).items() if name not in NO_SETTINGS}
    settings |= {CONTENT: [hash_content(path) for path in inputs], "weights": run.weights}
    folder.check(settings, args.overwrite, inputs)
    edit, most = read_inputs(args, clip, folder, fill)
    folder.open(settings)
    prompts = args.prompt, args.source_prompt, args.negative_prompt
    edit_keyframes(edit, models.load_images, *prompts, edit_settings, fill.together)
    fps = args.fps or clip.fps
    options = VideoSampling.from_args(args, fps=fps).options() | {"decode_chunk_size": args.decode_chunk_size}
    video = fill_gaps(edit, models.load_videos, fill, most, **options)
    files = write_results(folder.root, edit.video, video, fps)
    sizes = {"frames": len(video), "height": video.shape[-2], "width": video.shape[-1]}
    run.write(folder.root / RECORD, files, keyframes=list(edit.keyframes), **sizes)
    print(
        f"Written: video.mp4 of {count(len(video), 'frame')}, {len(edit.keyframes)} of them edited keyframes, and "
        f"frames.png in {folder.root}"
    )
    return files


def check(args, settings: EditSettings) -> ClipFrames:
    """One sentence about what would fail after a long time; the opened video."""
    check_guidance(parser(), args, VideoSampling.from_args(args, fps=args.fps or 1.0))
    check_needs(parser(), args, NEEDED)
    check_prompts(args.prompt, args.source_prompt, args.mask == AUTO, settings)
    check_gap_frames(args.num_frames)
    clip = open_clip(args.input_video, args.keyframe_interval)
    check_fps(args.fps or clip.fps, "video.mp4")
    return clip


def read_inputs(args, clip: ClipFrames, folder: EditFolder, fill: FillSettings) -> tuple[Edit, int]:
    """The video, its keyframes and masks, in a size for both bases, and how many frames the video base samples."""
    layouts = Layout.read(args.image_model, "--image_model"), Layout.read(args.model_dir, "--model_dir")
    check_steps(args.image_model, "--image_model", edit_steps=args.edit_steps)
    size = choose_size(first_size(clip), *layouts, args.height, args.width)
    masks = args.mask if args.mask in (None, AUTO) else read_masks(args.mask, clip, size)
    video = read_fitted(clip, size)
    warn_of_photograph(args.image_model, video[0], args.input_video, "--image_model")
    flow = estimate_flow(video, inference_size=enlarged_size(video)) if fill.keyframes == "motion" else None
    numbers = choose_keyframes(len(video), fill.keyframe_interval, fill.keyframes, flow)
    return Edit(video, numbers, masks, folder, args.seed), args.num_frames or layouts[1].num_frames


def write_results(folder: Path, source: torch.Tensor, video: torch.Tensor, fps: float) -> list[Path]:
    """Write the video (F, 3, H, W) in [-1, 1], and a sheet with the source above it; returns the files."""
    shown = torch.linspace(0, len(video) - 1, min(COLUMNS, len(video))).round().long()
    sheet = contact_sheet(torch.cat([source[shown], video[shown]]), columns=len(shown))
    files = [folder / "video.mp4", write_png(folder / "frames.png", sheet)]
    write_video(files[0], video, fps)
    remove_last_run(folder, kept=files)
    return files


if __name__ == "__main__":
    run_script(main)
