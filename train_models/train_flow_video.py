"""Train a joint adapter on Stable Video Diffusion: a video with its optical flow, both from the first image.

python train_models/train_flow_video.py --train_data_dir data/clips --output_dir outputs/flow_video

One network denoises rows of both sides, first all videos x, then all flows y; the k-th x pairs with the k-th y. Flow k,
from frame k to frame k + 1, is in frame k of its row (`utils/flow/code.py`).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import patch
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from utils.arguments import parse_args, run_script
from utils.data.flow_images import FlowImages
from utils.diffusion.edm import Denoiser
from utils.diffusion.pairs import check_share_arguments, draw_direction, relate_levels
from utils.flow.code import FlowCode
from utils.flow.images import FlowEncoding
from utils.training.flow_losses import draw_side_conditions, encode_sides, flow_loss, measure_flow_scale
from utils.training.flow_validation import flow_errors, show_flow
from utils.training.joint_adapter import add_adapter_arguments, pair_up, read_beginning, save_adapter, start_adapter
from utils.training.resume import kept_scale
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import add_flow_arguments, svd_parser
from utils.training.validation import Measure, Show, sample_options

MODES = {  # of the validation: which sides are denoised
    "joint": (True, True), "flow_to_video": (True, False), "video_to_flow": (False, True), "flow_alone": (False, True),
}  # fmt: skip
DIRECTIONS = {"joint": "both", "video_to_flow": "y_reads_x"}  # otherwise the flow is not to read
KEPT = ("post", "temporal", "y_layers", "max_flow", "flow_power")  # by --init_adapter
SEEN_SHARE = 0.5  # of flows without rows of a video, with --seen_video
SHARES = ("one_way_share", "flow_alone_share", "clean_video_share", "clean_flow_share", "equal_noise_share")


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_share_arguments(args, SHARES, [("clean_video_share", "clean_flow_share")])
    beginning = read_beginning(args, KEPT, "UNetSpatioTemporalConditionModel", "train_flow_video.py")
    code = FlowCode.from_training(beginning) if beginning else FlowCode(FlowEncoding(args.max_flow, args.flow_power))
    svd = start_svd(args, [FlowImages(code)], StableVideoDiffusionJointPipeline)
    unet = svd.pipe.unet
    start_adapter(unet, args, temporal=args.temporal)
    if not beginning:
        code = replace(code, scale=kept_scale(args) or measure_flow_scale(svd.dataset, svd.pipe.vae, args.seed))

    def compute_loss(unet_in_use, batch):
        return pair_loss(unet, unet_in_use, batch, svd.encoder, svd.edm, code, args)

    def save(unet, folder: Path) -> Path:
        return save_adapter(unet, folder, args, **code.to_training(), **({"began_as": beginning} if beginning else {}))

    parameters = patch.joint_parameters(unet, args.adapter_name)
    measure, show = make_validation(svd, code, beginning)
    keep = {"latent_scale": vars(code.scale)}
    svd.fit(compute_loss, save=save, parameters=parameters, measure=measure, show=show, keep=keep)


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, steady=True)
    group = parser.add_argument_group("pair")
    add_flow_arguments(group)
    add_adapter_arguments(group, "video", "flow", post="aligned", one_way_share=0.6, y_layers="all")
    add = group.add_argument
    add("--adapter_name", default="flow", help="name of the adapter")
    add("--temporal", action="store_true", help="joint attention over time as well")
    alone = (
        "share of batches with flow alone, conditioned on the image or, with --seen_video, for half of the clips on "
        "all frames of the video; the other shares refer to the remaining batches"
    )
    add("--flow_alone_share", type=float, default=0.3, help=alone)
    moved = "condition a video whose flow is given on the first frame warped along the flow, not on the frame itself"
    add("--moved_picture", action=argparse.BooleanOptionalAction, default=True, help=moved)
    seen = "condition a flow whose video is given on all frames of the video, not on the first one alone"
    add("--seen_video", action=argparse.BooleanOptionalAction, default=True, help=seen)
    return parser


def pair_loss(unet, unet_in_use, batch, encoder, edm, code, args):
    """||F - v||² of pairs, or of their flow alone."""
    loss = flow_alone_loss if float(torch.rand(())) < args.flow_alone_share else joint_loss
    return loss(unet, unet_in_use, batch, encoder, edm, code, args)


def joint_loss(unet, unet_in_use, batch, encoder, edm, code, args):
    """||F - v||² of both sides, each with its own noise level; a given side has no error of its own."""
    clean = encode_sides(batch, encoder.vae, code)
    B = len(clean) // 2
    direction = draw_direction(args)
    levels = draw_levels(B, direction, edm, args)
    sigma = torch.cat(levels).to(clean.device)
    moved, seen = (sigma[B:] == 0) & args.moved_picture, (sigma[:B] == 0) & args.seen_video
    condition = draw_side_conditions(batch, clean, moved, seen, encoder, code, args)
    pair_up(unet, args.adapter_name, B, direction)
    error = Denoiser(unet_in_use, edm).loss(clean, torch.randn_like(clean), sigma, condition)
    learns = sigma > 0
    video, flow = (error * learns).split(B)
    counts = [int((level > 0).sum()) for level in levels]
    means = [part.sum() / n if n else None for part, n in zip((video, flow), counts, strict=True)]
    scalars = dict(zip(("video", "flow"), means, strict=True))
    return (video.sum() + flow.sum()) / learns.sum().clamp(min=1), scalars


def flow_alone_loss(unet, unet_in_use, batch, encoder, edm, code, args):
    """||F - v||² of flow in a batch without rows of a video, conditioned on the image or on all frames of the video."""
    patch.clear_pairs(unet)
    patch.set_patch_lora_mask(unet, patch.lora_name(args.adapter_name, "y"), [1] * len(batch["image"]))
    seen = torch.rand(len(batch["image"])) < SEEN_SHARE * args.seen_video
    loss = flow_loss(unet_in_use, batch, encoder, edm, code, args, seen)
    return loss, {"video": None, "flow": loss}


def draw_levels(B: int, direction: str, edm, args) -> tuple[torch.Tensor, torch.Tensor]:
    """sigma (B,) of both sides; 0 where a side is given."""
    shares = args.equal_noise_share, args.clean_video_share, args.clean_flow_share
    return relate_levels(*edm.draw_sigmas(2 * B).chunk(2), direction, shares, given=0.0)


def make_validation(svd: SVDTraining, code: FlowCode, beginning: dict | None = None) -> tuple[Measure, Show]:
    """Errors jointly, of each side from the other, and of the flow alone; and pairs sampled as the pipeline does."""
    args, pipe = svd.args, svd.pipe
    pipe.flow_adapter = FlowAdapter.from_training(args.adapter_name, code, vars(args) | {"began_as": beginning})
    modes = dict(MODES)
    if not pipe.flow_adapter.flow_alone:
        modes.pop("flow_alone")

    def errors(unet, mode, clean, noise, sigma, condition):
        direction = DIRECTIONS.get(mode, "x_reads_y") if args.one_way_share else "both"
        pair_up(pipe.unet, args.adapter_name, 1, direction)
        found = Denoiser(unet, svd.edm).loss(clean, noise, sigma, condition)
        patch.clear_pairs(pipe.unet)
        return found

    def sample_pair(sample):
        out = pipe(sample["image"][None], **sample_options(sample, args), output_type="pt")
        return out.frames[0] * 2 - 1, out.flows[0]

    moved, seen = {"flow_to_video"} if args.moved_picture else set(), {"video_to_flow"} if args.seen_video else set()
    return flow_errors(code, errors, modes, moved, seen), show_flow(code, sample_pair)


if __name__ == "__main__":
    run_script(main)
