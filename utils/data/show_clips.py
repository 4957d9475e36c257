"""Plot a sheet of frames for each of the first clips of a data set, and below them the flow of its annotation.

    python -m utils.data.show_clips --train_data_dir clips --flow_dir clips_flow --output_dir sheets

Flow is in Middlebury's colours, one scale for the sheet; the longest vector of the sheet is printed. The last row has
the frames with arrows of the flow, as long as it is.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils import arguments
from utils.arguments import filled, parse_args, positive_int, run_script
from utils.data.video_arguments import add_video_data_arguments, read_video_dataset
from utils.data.videos import VideoSample
from utils.files import check_name, replacing
from utils.flow import color_flow, draw_arrows
from utils.video import contact_sheet, to_frames


def main(argv: list[str] | None = None) -> None:
    args = parse_args(make_parser(), argv)
    dataset = read_video_dataset(args, ("flow",) if args.flow_dir or args.flow else ())
    places = [Path(args.output_dir, f"{r.key.replace('/', '_')}.png") for r in dataset.records]
    place, count = Counter(places).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} clips would share {place}; give them different names, or lower --max_train_samples.")
    for place in places:
        check_name(place)
        if place.exists():
            raise FileExistsError(f"{place} exists; choose another --output_dir or remove it.")
    for index, place in enumerate(places):
        sample = dataset[index]
        with replacing(place) as temporary:
            draw_sheet(sample, args.columns).save(temporary)
        print(f"{place}: {describe(sample)}")


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    add_video_data_arguments(parser, max_train_samples=4, center_crop=True, first_frames=True)
    parser.add_argument("--output_dir", type=filled, required=True, help="folder that gets <clip>.png")
    parser.add_argument("--flow", action="store_true", help="plot the flow that the data set itself has")
    parser.add_argument("--columns", type=positive_int, default=6, help="number of frames shown, spread over the clip")
    return parser


def draw_sheet(sample: VideoSample, columns: int) -> Image.Image:
    """Frames, and below them flow in colours and as arrows where the sample has flow."""
    frames, flow = to_frames(sample["pixel_values"]), sample.get("flow")
    shown = np.linspace(0, len(frames) - 1 - (flow is not None), columns).round().astype(int)
    rows = [frames[shown]]
    if flow is not None:
        longest = float(flow.norm(dim=1).max())
        rows.append(np.stack([color_flow(flow[k], longest) for k in shown]))
        step = max(8, frames.shape[1] // 16)
        rows.append(np.stack([draw_arrows(frames[k], flow[k], step) for k in shown]))
    return contact_sheet(np.concatenate(rows), columns=columns)


def describe(sample: VideoSample) -> str:
    F, _, H, W = sample["pixel_values"].shape
    text = f"{F} frames of {W}x{H} at {sample['fps']:g} fps, {sample['caption']!r}"
    if "flow" in sample:
        length: torch.Tensor = sample["flow"].norm(dim=1)
        text += f", flow {length.mean():.2f} px in the mean and {length.max():.1f} px at most"
    return text


if __name__ == "__main__":
    run_script(main)
