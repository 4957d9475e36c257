"""Train TRIP: the image noise prior, a video UNet that predicts a residual of it, and their fusion.

python train_models/train_trip.py --train_data_dir clips.json --output_dir outputs/trip --fusion_only_steps 200

clips.json is a list of {"video_path": "a.mp4", "text": "a dog runs"}; all other forms of clips do as well, and as
--validation_data_dir. The fusion is trained alone at first, and then the UNet with it, each at its own learning rate.
The base is Stable Video Diffusion, or text to video, which reads the texts (models/trip.py, docs/trip.md).
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from models.trip import FORMS
from models.trip_text import TextCondition, TextDenoiser, TripTextUNet, check_text_form
from models.trip_unet import TripCondition, TripDenoiser, TripUNet
from pipelines.pipeline_trip_text import NUM_FRAMES, TextToVideoTripPipeline
from pipelines.trip_bases import SVD_ONLY, start_fusion, trip_pipeline
from utils.arguments import parse_args, positive_float, positive_int, run_script
from utils.data.extras import Captions
from utils.diffusion.edm import EDM
from utils.diffusion.prompts import TextEncoder
from utils.training.parameters import fusion_groups
from utils.training.results import save_parts
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import svd_parser
from utils.training.svd_losses import draw_condition, encode_clips
from utils.training.text_video import drop_captions, take_text_base, text_sample_options
from utils.training.validation import HeldOut, beside_truth, mean_error, sample_options


def main(argv=None) -> None:
    parser = make_parser()
    args = parse_args(parser, argv)
    pipeline = trip_pipeline(args.pretrained_model_name_or_path)
    check(args)
    if text := pipeline is TextToVideoTripPipeline:
        check_text_form(args.form)
        take_text_base(args, parser, NUM_FRAMES, SVD_ONLY)
    svd = start_svd(args, [Captions()] if text else [], pipeline)
    start_fusion(svd.pipe, args.form, args.fusion_width, args.fusion_heads)
    (train_on_text if text else train_on_images)(svd)


def train_on_images(svd: SVDTraining) -> None:
    """Stable Video Diffusion: v at a noise level of EDM."""

    def loss(model, batch):
        return trip_loss(model, batch, svd.encoder, svd.edm, svd.args)

    fit(svd, TripUNet(svd.pipe.unet, svd.pipe.fusion), loss, trip_errors, sample_options)


def train_on_text(svd: SVDTraining) -> None:
    """Text to video: ε at a timestep of DDPM."""
    text = TextEncoder(svd.pipe.tokenizer, svd.pipe.text_encoder)
    model = TripTextUNet(svd.pipe.unet, svd.pipe.fusion)
    denoiser = TextDenoiser(model, svd.pipe.scheduler)

    def loss(model, batch):
        return text_loss(denoiser.of(model), batch, svd.pipe.vae, text, svd.args)

    fit(svd, model, loss, lambda model, clip: text_errors(denoiser.of(model), text, clip), text_sample_options)


def fit(svd: SVDTraining, model, loss, measure, options) -> None:
    def save(model, folder: Path) -> None:
        for network in (svd.pipe.vae, svd.pipe.unet, svd.pipe.fusion):
            network.half()
        save_parts(folder, svd.pipe.save_pretrained)
        if svd.buckets:
            svd.buckets.save(folder)

    groups = fusion_groups(svd.pipe.unet, svd.pipe.fusion, svd.args)
    svd.fit(loss, save=save, parameters=groups, model=model, measure=measure, show=partial(show_video, svd, options))


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, gradient_checkpointing=True, learning_rate=2e-6)
    add = parser.add_argument_group("TRIP").add_argument
    add("--form", choices=FORMS, default="fusion", help="how the first frame enters and what is fused (docs/trip.md)")
    help_text = "parameters of the UNet that are trained at --learning_rate"
    add("--trainable", choices=["all", "temporal", "none"], default="all", help=help_text)
    add("--fusion_learning_rate", type=positive_float, default=2e-4, help="learning rate of the fusion")
    add("--fusion_only_steps", type=positive_int, help="steps that train the fusion alone (default: none)")
    add("--fusion_width", type=positive_int, default=64, help="width of the fusion's tokens")
    add("--fusion_heads", type=positive_int, default=4, help="attention heads of the fusion; they divide its width")
    return parser


def check(args) -> None:
    """Raises ValueError for flags that the form does not read."""
    if args.fusion_width % args.fusion_heads:
        raise ValueError(
            f"--fusion_heads {args.fusion_heads} do not divide --fusion_width {args.fusion_width}: change one of them."
        )
    if FORMS[args.form].learned:
        return
    if args.fusion_only_steps:
        raise ValueError(f"--fusion_only_steps needs --form fusion: {args.form} has no weights of its own.")
    if args.trainable == "none":
        raise ValueError(f"--trainable none leaves nothing to train with --form {args.form}: choose all or temporal.")


def trip_loss(model, batch, encoder, edm: EDM, args) -> torch.Tensor:
    """||v~ - v||² of the fused prediction at one noise level a clip; the first frame is the clip's own."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    condition = TripCondition.of(draw_condition(batch, F, encoder, args), x_0[:, :1])
    sigma = edm.draw_sigmas(B).to(x_0.device)
    return TripDenoiser(model, edm).loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def text_loss(denoiser: TextDenoiser, batch: dict, vae, text: TextEncoder, args) -> torch.Tensor:
    """||ε~ - ε||² of the fused prediction at one timestep a clip, for some without the prompt."""
    z_0 = encode_clips(batch, vae)
    prompts = drop_captions(batch["caption"], args.conditioning_dropout_prob)
    condition = TextCondition(text.encode(prompts), z_0[:, :1])
    timestep = torch.randint(denoiser.num_timesteps, (len(z_0),)).to(z_0.device)
    return denoiser.loss(z_0, torch.randn_like(z_0), timestep, condition).mean()


def trip_errors(model, clip: HeldOut) -> dict[str, torch.Tensor]:
    """Mean error of v of a video from its first frame."""
    x_0 = clip.encode(clip.sample["pixel_values"])[None]
    condition = TripCondition.of(clip.condition(), x_0[:, :1])
    return mean_error(TripDenoiser(model, clip.svd.edm), x_0, condition, clip.levels(x_0))


def text_errors(denoiser: TextDenoiser, text: TextEncoder, clip: HeldOut) -> dict[str, torch.Tensor]:
    """Mean error of ε of a video from its first frame and its caption."""
    z_0 = clip.encode(clip.sample["pixel_values"])[None]
    condition = TextCondition(text.encode([clip.sample["caption"]]), z_0[:, :1])
    return mean_error(denoiser, z_0, condition, denoiser.levels(z_0, clip.generator))


def show_video(svd: SVDTraining, options: Callable, sample: dict, path: Path) -> list[torch.Tensor]:
    """Rows of true frames and of those sampled from the first of them."""
    video = svd.pipe(sample["image"][None], **options(sample, svd.args), output_type="pt").frames[0]
    return beside_truth(sample, video, path)


if __name__ == "__main__":
    run_script(main)
