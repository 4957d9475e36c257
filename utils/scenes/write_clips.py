"""Write clips of the procedural world: a folder of numbered PNG frames per clip, with caption, flow and tracks.

metadata.jsonl             a line per clip: video_folder, text, fps, flow_file_name, tracks_file_name, seed, camera
                           (pan, truck, dolly per frame: radians, metres, metres), objects (color, shape, speed in
                           image widths per frame); with --controls depth_file_name, segmentation_file_name
videos/0000007/00000.png   frames
flow/0000007.npy           fp16 (F - 1, 2, H, W), pixels, x then y, from frame t to t + 1
tracks/0000007.npz         tracks (F, N, 2), visible (F, N)
truth/0000007.npz          with --write_truth: depth, backward_flow, occluded, backward_occluded
depth/0000007/00000.png    with --controls depth: 16 bits, millimetres
segmentation/0000007/…     with --controls segmentation: colours of utils/scenes/labels.py

Clips that were written without them can be rendered again from their seeds.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.depth import write_depth
from utils.scenes.captions import clip_caption
from utils.scenes.clips import OBJECT_COUNTS, REACHES, TEXTURE, sample_clip
from utils.scenes.labels import color_labels
from utils.scenes.motion import Clip, SolidMotion
from utils.scenes.video import ClipRendering, render_clip
from utils.scenes.world import Solid
from utils.scenes.writing import add_sample_arguments, write_samples

FPS = 8
CONTROLS = ("depth", "segmentation")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(parser(), argv)
    if args.seed < 0:
        raise ValueError(f"--seed {args.seed}: seeds count from 0.")
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: a clip has at least 2 frames.")
    if args.first_frames and not 2 <= args.first_frames <= args.num_frames:
        raise ValueError(f"--first_frames {args.first_frames} is not in 2 to --num_frames {args.num_frames}.")
    if not 0 <= args.texture <= 1:
        raise ValueError(f"--texture {args.texture} is not in 0 to 1.")
    tasks = [(args, seed) for seed in range(args.seed, args.seed + args.num_samples)]
    folders = ("videos", "flow", "tracks", *(["truth"] if args.write_truth else []), *args.controls)
    write_samples(args.output_dir, folders, write_clip, tasks, args.num_workers)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add_sample_arguments(result, 100, "clips")
    add("--num_frames", type=positive_int, default=16, help="frames that a clip is planned for")
    add(
        "--first_frames",
        type=positive_int,
        help="number of frames to write, of the --num_frames planned (default: all)",
    )
    add("--camera", choices=list(REACHES), help="the same move in all clips (default: random)")
    add(
        "--num_objects",
        type=int,
        nargs="+",
        choices=OBJECT_COUNTS,
        help="objects in a clip; several numbers are used in turn, so that 1 2 3 gives equal shares (default: random)",
    )
    add("--texture", type=float, default=TEXTURE, help="strength of the pattern on all surfaces, 0 to 1")
    add("--num_tracks", type=positive_int, default=64, help="points that are tracked from frame 0")
    add("--write_truth", action="store_true", help="write depth, backward flow and occlusion as well")
    text = "images to write of each frame, to train ControlNets on (default: none)"
    add("--controls", nargs="+", choices=CONTROLS, default=[], help=text)
    return result


def write_clip(task: tuple[Path, tuple[argparse.Namespace, int]]) -> dict:
    """Render the clip of a seed into a folder and return its row of the metadata."""
    folder, (args, seed) = task
    count = args.num_objects[seed % len(args.num_objects)] if args.num_objects else None
    clip = sample_clip(seed, args.num_frames, args.texture, args.camera, count)
    clip = replace(clip, num_frames=args.first_frames or args.num_frames)
    rendering = render_clip(clip, args.resolution, num_tracks=args.num_tracks)
    name = f"{seed:07d}"
    (folder / "videos" / name).mkdir()
    for index, frame in enumerate(rendering.video):
        Image.fromarray(frame).save(folder / "videos" / name / f"{index:05d}.png")
    np.save(folder / "flow" / f"{name}.npy", rendering.flow.astype(np.float16))
    np.savez(folder / "tracks" / f"{name}.npz", tracks=rendering.tracks, visible=rendering.visible)
    if args.write_truth:
        write_truth(folder / "truth" / f"{name}.npz", rendering)
    for control in args.controls:
        write_control(folder / control / name, control, rendering)
    return {
        "video_folder": f"videos/{name}",
        "text": clip_caption(clip),
        "fps": FPS,
        "flow_file_name": f"flow/{name}.npy",
        "tracks_file_name": f"tracks/{name}.npz",
        **{f"{control}_file_name": f"{control}/{name}" for control in args.controls},
        "seed": seed,
        **describe(clip),
    }


def describe(clip: Clip) -> dict:
    """How camera and objects move."""
    pairs = zip(clip.scene.objects, clip.motions, strict=True)
    return {
        "camera": asdict(clip.camera_motion),
        "objects": [
            {"color": solid.color, "shape": solid.shape, "speed": speed_of(solid, motion) * clip.scene.camera.focal}
            for solid, motion in pairs
        ],
    }


def speed_of(solid: Solid, motion: SolidMotion) -> float:
    """Metres per frame over metres of depth."""
    return float(np.hypot(motion.vx, motion.vz) / solid.z)


def write_truth(path: Path, rendering: ClipRendering) -> None:
    """Write the rest of the truth, depth in metres and flow in pixels as fp16."""
    np.savez_compressed(
        path,
        depth=rendering.depth.astype(np.float16),
        backward_flow=rendering.backward_flow.astype(np.float16),
        occluded=rendering.occluded,
        backward_occluded=rendering.backward_occluded,
    )


def write_control(folder: Path, control: str, rendering: ClipRendering) -> None:
    """Write the depth or the segmentation of all frames as numbered images."""
    folder.mkdir()
    for index, (depth, labels) in enumerate(zip(rendering.depth, rendering.labels, strict=True)):
        path = folder / f"{index:05d}.png"
        if control == "depth":
            write_depth(path, depth)
        else:
            Image.fromarray(color_labels(labels)).save(path)


if __name__ == "__main__":
    run_script(main)
