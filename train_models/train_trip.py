"""Train TRIP on Stable Video Diffusion: the image noise prior, a UNet that predicts a residual of it, and their fusion.

python train_models/train_trip.py --train_data_dir clips.json --output_dir outputs/trip --fusion_only_steps 200

clips.json is a list of {"video_path": "a.mp4", "text": "a dog runs"}; all other forms of clips do as well, and as
--validation_data_dir. The fusion is trained alone at first, and then the UNet with it, each at its own learning rate
(models/trip.py, docs/trip.md).
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from models.trip import FORMS, TripFusion
from models.trip_unet import TripCondition, TripDenoiser, TripUNet
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from utils.arguments import parse_args, positive_float, positive_int, run_script
from utils.diffusion.edm import EDM
from utils.training.parameters import choose_parameters
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import svd_parser
from utils.training.svd_losses import draw_condition, encode_clips
from utils.training.validation import HeldOut, sample_options
from utils.video import write_video

LEARNED = [name for name, form in FORMS.items() if form.learned]


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check(args)
    svd = start_svd(args, pipeline=StableVideoDiffusionTripPipeline)
    start_fusion(svd.pipe, args)

    def loss(model, batch):
        return trip_loss(model, batch, svd.encoder, svd.edm, args)

    def save(model, folder: Path) -> None:
        if svd.buckets:
            svd.buckets.save(folder)
        for network in (svd.pipe.vae, svd.pipe.unet, svd.pipe.fusion):
            network.half()
        svd.pipe.save_pretrained(folder)

    svd.fit(
        loss,
        save=save,
        parameters=parameter_groups(svd.pipe, args),
        model=TripUNet(svd.pipe.unet, svd.pipe.fusion),
        measure=trip_errors,
        show=partial(show_video, svd),
    )


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, gradient_checkpointing=True, learning_rate=2e-6)
    add = parser.add_argument_group("TRIP").add_argument
    add("--form", choices=FORMS, default="fusion", help="how the first frame enters and what is fused (docs/trip.md)")
    add(
        "--trainable",
        choices=["all", "temporal", "none"],
        default="all",
        help="parameters of the UNet that are trained at --learning_rate",
    )
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
    if args.form in LEARNED:
        return
    if args.fusion_only_steps:
        raise ValueError(f"--fusion_only_steps needs --form {LEARNED[0]}: {args.form} has no weights of its own.")
    if args.trainable == "none":
        raise ValueError(f"--trainable none leaves nothing to train with --form {args.form}: choose all or temporal.")


def start_fusion(pipe: StableVideoDiffusionTripPipeline, args) -> None:
    """The fusion of a base that has one, or a new one.

    Raises:
        ValueError: The base was trained with another form.
    """
    if pipe.fusion is None:
        fusion = TripFusion(args.form, pipe.vae.config.latent_channels, args.fusion_width, args.fusion_heads)
        pipe.register_modules(fusion=fusion)
    elif pipe.fusion.config.form != args.form:
        raise ValueError(
            f"{args.pretrained_model_name_or_path} was trained with --form {pipe.fusion.config.form}, not {args.form}: "
            "pass that, or a base without TRIP."
        )


def parameter_groups(pipe: StableVideoDiffusionTripPipeline, args) -> list[dict]:
    """Optimizer groups: the UNet, from --fusion_only_steps on, and the fusion."""
    groups = []
    if args.trainable != "none":
        chosen = choose_parameters(pipe.unet, args.trainable)
        groups.append({"params": chosen, "start_step": args.fusion_only_steps or 0})
    if fusion := list(pipe.fusion.parameters()):
        groups.append({"params": fusion, "lr": args.fusion_learning_rate})
    return groups


def trip_loss(model, batch, encoder, edm: EDM, args) -> torch.Tensor:
    """||v~ - v||² of the fused prediction at one noise level a clip; the first frame is the clip's own."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    condition = TripCondition.of(draw_condition(batch, F, encoder, args), x_0[:, :1])
    sigma = edm.draw_sigmas(B).to(x_0.device)
    return TripDenoiser(model, edm).loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def trip_errors(model, clip: HeldOut) -> dict[str, torch.Tensor]:
    """Mean error of v of a video from its first frame."""
    x_0 = clip.encode(clip.sample["pixel_values"])[None]
    condition = TripCondition.of(clip.condition(), x_0[:, :1])
    denoiser = TripDenoiser(model, clip.svd.edm)
    errors = [denoiser.loss(x_0, noise, sigma[None], condition) for sigma, noise in clip.levels(x_0)]
    return {"loss": torch.cat(errors).mean()}


def show_video(svd: SVDTraining, sample: dict, path: Path) -> list[torch.Tensor]:
    """The true frames (F, 3, H, W) and those sampled from the first of them; also written as a video, side by side."""
    video = svd.pipe(sample["image"][None], **sample_options(sample, svd.args), output_type="pt").frames[0]
    rows = [sample["pixel_values"], video.cpu().float() * 2 - 1]
    write_video(path.with_name(f"{path.name}.mp4"), torch.cat(rows, dim=-1), float(sample["fps"]))
    return rows


if __name__ == "__main__":
    run_script(main)
