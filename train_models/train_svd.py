"""Fine-tune Stable Video Diffusion on clips: its temporal layers, a LoRA, all of it, or what a pattern names.

python train_models/train_svd.py --train_data_dir data/clips --output_dir outputs/svd --trainable lora

The loss is the squared error of v at one noise level a clip (`utils/diffusion/edm.py`). With
`--flow_consistency_weight` the estimate of the clean latents is also compared with itself, each frame with the next one
warped back along the clip's flow, where that is visible. Latents are compared, not decoded
frames. The weight at noise level sigma is 1 / (1 + sigma²), since an estimate from much noise is a mean over many
futures.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from utils.arguments import parse_args, run_script, weight
from utils.data.svd_clips import VisibleFlow
from utils.diffusion.edm import Denoiser
from utils.diffusion.sampling import keep_sampling
from utils.flow.consistency import flow_consistency
from utils.images import to_image
from utils.latents import ENCODED_TOGETHER
from utils.training.parameters import choose_parameters
from utils.training.results import save_parts
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import add_lora_arguments, svd_parser
from utils.training.svd_losses import draw_condition, encode_clips
from utils.training.validation import beside_truth, video_errors
from utils.weights.lora import add_lora, save_lora


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check(args)
    svd = start_svd(args, [VisibleFlow()] if args.flow_consistency_weight else [])
    parameters = make_trainable(svd.pipe.unet, args)

    def loss(unet, batch):
        return svd_loss(unet, batch, svd.encoder, svd.edm, args)

    def save(unet, folder):
        base, written = args.pretrained_model_name_or_path, None
        if args.trainable == "lora":
            written = save_lora(unet, folder, "default", base, vars(args), torch.float16)
        else:
            save_pipeline(svd.pipe, folder)
            keep_sampling(base, folder)
        if svd.buckets:
            svd.buckets.save(folder)
        return written

    show = partial(show_video, svd)
    svd.fit(loss, save=save, parameters=parameters, measure=video_errors, show=show)


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, gradient_checkpointing=True, learning_rate=3e-5)
    group = parser.add_argument_group("what is trained")
    add = group.add_argument
    add("--trainable", choices=["temporal", "all", "lora", "regex"], default="temporal", help="parameters to train")
    add("--trainable_pattern", help="regular expression in names of parameters, for --trainable regex (default: none)")
    add_lora_arguments(group, rank=16, targets="temporal")
    add(
        "--flow_consistency_weight",
        type=weight,
        default=0.0,
        help="weight of the loss between a frame and the next one warped back along the flow",
    )
    return parser


def svd_loss(unet, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip. The noise on the image is another one."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args)
    sigma = edm.draw_sigmas(B).to(x_0.device)
    error, estimate = Denoiser(unet, edm).loss_and_estimate(x_0, torch.randn_like(x_0), sigma, condition)
    loss = error.mean()
    if not args.flow_consistency_weight:
        return loss
    differences = flow_consistency(estimate, batch["flow"], batch["visible"])
    penalty = (differences / (1 + sigma.square())).mean()
    return loss + args.flow_consistency_weight * penalty, {"flow_consistency": penalty}


def make_trainable(unet, args) -> list:
    """The parameters to train, in float32."""
    if args.trainable == "lora":
        return add_lora(unet, args.rank, args.lora_alpha, args.lora_targets)
    return choose_parameters(unet, args.trainable, args.trainable_pattern)


def show_video(svd: SVDTraining, sample: dict, path: Path) -> list[torch.Tensor]:
    """The true frames (F, 3, H, W) and those sampled from the first of them; also written as a video, side by side."""
    F, _, H, W = sample["pixel_values"].shape
    video = svd.pipe(
        to_image(sample["image"]),
        height=H,
        width=W,
        num_frames=F,
        num_inference_steps=svd.args.num_inference_steps,
        fps=float(sample["fps"]),
        motion_bucket_id=int(sample["motion_bucket_id"]),
        decode_chunk_size=ENCODED_TOGETHER,
        generator=torch.Generator().manual_seed(svd.args.seed),
        output_type="pt",
    ).frames[0]
    return beside_truth(sample, video, path)


def save_pipeline(pipe, folder) -> None:
    """A folder that diffusers loads: in float16 but for the image encoder, whose type transformers keeps."""
    for network in (pipe.vae, pipe.unet):
        network.half()
    save_parts(folder, pipe.save_pretrained)


def check(args) -> None:
    if (args.trainable == "regex") != (args.trainable_pattern is not None):
        raise ValueError("--trainable regex and --trainable_pattern belong together; pass both or neither.")


if __name__ == "__main__":
    run_script(main)
