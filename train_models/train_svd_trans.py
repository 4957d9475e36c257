"""Train Stable Video Diffusion to fill in the frames between a first and a last one.

python train_models/train_svd_trans.py --train_data_dir data/clips --output_dir outputs/svd_trans

Beside the unknown frames the UNet gets the known ones interpolated by optical flow, a learned embedding and a mask
channel (`models/unet_spatio_temporal_condition.py`). What is new is trained together with its first convolution, and
with a LoRA, the layers over time or everything.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel

from models.unet_spatio_temporal_condition import (
    UNetSpatioTemporalMaskedConditionModel,
    check_masked_unet,
    load_masked_unet,
    masked_parameters,
    save_masked_parameters,
)
from pipelines.pipeline_stable_video_diffusion_trans import StableVideoDiffusionTransPipeline
from utils.arguments import parse_args, run_script
from utils.data.last_frame import FlowGuess, LastFrame
from utils.diffusion.edm import Denoiser
from utils.diffusion.known_frames import encode_known_frames
from utils.diffusion.svd_condition import Condition, draw_noise_aug_strengths
from utils.files import replacing
from utils.training.parameters import choose_parameters
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import add_lora_arguments, svd_parser
from utils.training.svd_losses import encode_clips
from utils.training.validation import sample_options
from utils.weights.lora import add_lora, save_lora


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_start(args.init_from)
    svd = start_svd(args, [LastFrame(), FlowGuess()], StableVideoDiffusionTransPipeline)
    unet = make_unet(svd.pipe.unet, args.init_from)
    svd.pipe.register_modules(unet=unet)
    parameters = make_trainable(unet, args)

    def loss(unet, batch):
        return trans_loss(unet, batch, svd.encoder, svd.edm, args)

    def save(unet, folder: Path) -> None:
        if args.trainable == "lora":
            save_lora(unet, folder, "default", args.pretrained_model_name_or_path, vars(args), torch.float16)
            save_masked_parameters(unet, folder)
        else:
            with replacing(folder / "unet") as temporary:
                unet.half().save_pretrained(temporary)
        if svd.buckets:
            svd.buckets.save(folder)

    svd.fit(loss, save=save, parameters=parameters, show=partial(show_video, svd))


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, gradient_checkpointing=True, sigma_mean=1.0, sigma_std=1.2)
    group = parser.add_argument_group("what is trained")
    group.add_argument(
        "--trainable",
        choices=["lora", "temporal", "all"],
        default="lora",
        help="a LoRA, the layers over time, or all layers, besides what is new (default: lora)",
    )
    add_lora_arguments(group, rank=16, targets="all")
    help_text = "folder of a training with --trainable temporal or all to go on from (default: the base)"
    group.add_argument("--init_from", help=help_text)
    return parser


def check_start(folder: str | None) -> None:
    """Raises one sentence for an --init_from that has no network."""
    if folder is None:
        return
    check_masked_unet(folder)
    if not (Path(folder) / "unet").is_dir():
        raise ValueError(f"--init_from {folder} is a LoRA: pass a folder with unet/, of --trainable temporal or all.")


def make_unet(base: UNetSpatioTemporalConditionModel, folder: str | None) -> UNetSpatioTemporalMaskedConditionModel:
    """The UNet that the training begins with."""
    return load_masked_unet(base, folder) if folder else UNetSpatioTemporalMaskedConditionModel.from_unet(base)


def make_trainable(unet: UNetSpatioTemporalMaskedConditionModel, args) -> list:
    """The parameters to train, in float32."""
    if args.trainable == "all":
        return list(unet.parameters())
    if args.trainable == "lora":
        chosen = add_lora(unet, args.rank, args.lora_alpha, args.lora_targets)
    else:
        chosen = choose_parameters(unet, args.trainable)
    return [*chosen, *masked_parameters(unet)]


def trans_loss(unet, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip, of all frames."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    sigma = edm.draw_sigmas(B).to(x_0.device)
    condition = draw_ends(batch, F, encoder, args)
    return Denoiser(unet, edm).loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def draw_ends(batch, num_frames: int, encoder, args) -> Condition:
    """The condition of both ends, with noise on the images, and without them for some samples."""
    ends = torch.stack([batch["image"], batch["last_image"]], dim=1)
    B = len(ends)
    strengths = draw_noise_aug_strengths(B, args.noise_aug_mean, args.noise_aug_std)
    numbers = batch["fps"], batch["motion_bucket_id"], strengths
    condition = encode_known_frames(encoder, ends, [0, num_frames - 1], num_frames, *numbers, guess=batch["guess"])
    return condition.drop(torch.rand(B) < args.conditioning_dropout_prob)


def show_video(svd: SVDTraining, sample: dict, path: Path) -> list[torch.Tensor]:
    """The true frames (F, 3, H, W), and those sampled between the first and the last of them."""
    ends = sample["image"][None], sample["last_image"][None]
    video = svd.pipe(*ends, **sample_options(sample, svd.args), output_type="pt").frames[0]
    return [sample["pixel_values"], video.cpu().float() * 2 - 1]


if __name__ == "__main__":
    run_script(main)
