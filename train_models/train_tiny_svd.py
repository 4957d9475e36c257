"""Train a small Stable Video Diffusion from scratch: --stage vae, then --stage unet, image encoder and UNet.

python train_models/train_tiny_svd.py --stage vae --train_data_dir data/clips --output_dir outputs/tiny_svd_vae

The autoencoder imitates the latents of an image autoencoder (--teacher), so that the UNet may be trained on either's,
and its decoder has layers over neighbouring frames.
"""

import argparse
from dataclasses import replace

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, AutoModel

from models.tiny_svd import (
    NUM_FRAMES,
    VideoAutoencoder,
    inherit_layers,
    load_parts,
    load_vae,
    make_feature_extractor,
    make_parts,
    make_pipeline,
    make_vae,
)
from utils.arguments import finite_float, positive_int, run_script, share, weight
from utils.data.clip_latents import CachedClips, Stretches, cache_clips
from utils.data.video_arguments import add_video_data_arguments, read_video_dataset
from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.svd_condition import ConditionEncoder, draw_noise_aug_strengths
from utils.files import replacing
from utils.flow import FlowEncoding
from utils.messages.words import count
from utils.motion_helper import MotionBuckets
from utils.pretrained import loading, shipped
from utils.training.loop import fit
from utils.training.results import save_parts
from utils.training.stages import imitation_loss, reconstruction_loss, run_stage, stage_parser
from utils.training.svd_arguments import longest_stretch, no_room
from utils.training.validation import pairs_sheet, show_cached_clips

FLOW_SHARE = 4  # one clip of flow images for so many of frames: the autoencoder reconstructs both
SHOWN = 4  # clips of a validation image, of which no training sees a frame


def main(argv=None) -> None:
    run_stage(make_parser(), argv, train_vae, train_unet)


def make_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__, "autoencoder, or pipeline with its motion buckets")
    add = parser.add_argument_group("tiny_svd").add_argument
    add("--teacher", default=shipped("tiny_sd/vae"), help="image autoencoder that --stage vae imitates")
    add("--decoder_only", action="store_true", help="leave the encoder of --init_from as it is")
    add("--clip_frames", type=positive_int, default=16, help="frames of each clip that stretches are taken from")
    add(
        "--frame_strides",
        type=positive_int,
        nargs="+",
        default=[1, 2],
        help="take every n-th frame, n drawn from these",
    )
    add("--sigma_mean", type=finite_float, default=0.5, help="mean of ln(sigma) in training")
    add("--sigma_std", type=weight, default=1.4, help="standard deviation of ln(sigma) in training")
    add("--conditioning_dropout_prob", type=share, default=0.1, help="share of samples without the image")
    changes = "weight of the error of the changes from frame to frame, beside that of the frames"
    add("--change_weight", type=weight, default=1.0, help=changes)
    add("--cache_dir", default="cache", help="folder of all caches")
    add_video_data_arguments(parser, num_frames=NUM_FRAMES, height=64, width=64, center_crop=True)
    return parser


def train_vae(args) -> None:
    check_frames(args, 3, "the last frame has no flow, and changes need 2")
    if args.decoder_only and not args.init_from:
        raise ValueError("--decoder_only needs --init_from: pass the autoencoder whose encoder stays.")
    dataset = read_video_dataset(args, extras=("flow",))
    with loading(args.teacher, AutoencoderKL, "--teacher"):
        teacher = AutoencoderKL.from_pretrained(args.teacher, dtype=torch.float32)
    vae = load_vae(args.init_from) if args.init_from else make_vae(teacher.config.scaling_factor)
    if not args.init_from:
        inherit_layers(vae, teacher)
    parameters = list(vae.decoder.parameters() if args.decoder_only else vae.parameters())
    shown = torch.stack([dataset[i]["pixel_values"] for i in range(min(SHOWN, len(dataset)))])

    def loss(model, batch):
        return vae_loss(model, batch, teacher, args)

    def collate(samples):
        return {key: torch.stack([sample[key] for sample in samples]) for key in ("pixel_values", "flow")}

    def validate(model, step):
        decoded, _ = model(shown.to(model.vae.device))
        return {"reconstruction": pairs_sheet(shown, decoded.float().cpu().clamp(-1, 1))}

    def save(model, folder):
        with replacing(folder / "vae") as temporary:
            model.vae.half().save_pretrained(temporary)
        return folder / "vae"

    shared = {"save": save, "validate": validate, "parameters": parameters, "frozen": (teacher,)}
    fit(args, VideoAutoencoder(vae), dataset, loss, collate_fn=collate, **shared)


def train_unet(args) -> None:
    check_frames(args, 2, "changes need 2")
    if args.clip_frames < longest_stretch(args):
        raise ValueError(no_room(args))
    with loading(args.vae, (AutoencoderKL, AutoencoderKLTemporalDecoder), "--vae"):
        vae = AutoModel.from_pretrained(args.vae, dtype=torch.float32)
    whole = read_video_dataset(args, num_frames=args.clip_frames, first_frames=True)
    whole = whole.without_bad_clips() if args.skip_bad_clips else whole
    check_count(args, len(whole))
    model = load_parts(args.init_from) if args.init_from else make_parts()
    buckets = MotionBuckets.load(args.init_from) if args.init_from else None
    stretches = Stretches(args.num_frames, args.frame_strides, random_reverse=True)
    clips = CachedClips(cache_clips(whole, vae, args.cache_dir), stretches, buckets)
    check_count(args, len(clips))
    dataset, shown = torch.utils.data.random_split(clips, [len(clips) - SHOWN, SHOWN], torch.Generator().manual_seed(0))
    encoder = ConditionEncoder(vae, model.image_encoder, make_feature_extractor())

    def loss(prepared, batch):
        return unet_loss(prepared, batch, encoder, EDM(args.sigma_mean, args.sigma_std), args)

    def validate(model, step):
        return {"samples": show_cached_clips(make_pipeline(vae, model.image_encoder, model.unet), shown, args)}

    def save(model, folder):
        # The image encoder stays float32: transformers loads files in their own type, diffusers in float32.
        for network in (vae, model.unet):
            network.half()
        save_parts(folder, make_pipeline(vae, model.image_encoder, model.unet).save_pretrained)
        (buckets or replace(clips.buckets, data=args.train_data_dir)).save(folder)

    fit(args, model, dataset, loss, save=save, validate=validate, frozen=(vae,))


def check_frames(args, needed: int, reason: str) -> None:
    if args.num_frames < needed:
        raise ValueError(f"--num_frames {args.num_frames} is too few: pass {needed} or more, since {reason}.")


def check_count(args, clips: int) -> None:
    if clips <= SHOWN:
        limit = f" (--max_train_samples {args.max_train_samples})" if args.max_train_samples else ""
        raise ValueError(
            f"--train_data_dir {args.train_data_dir} has {count(clips, 'good clip')}{limit}; pass {SHOWN + 1} or more, "
            f"since {SHOWN} are validated on."
        )


def vae_loss(model, batch, teacher, args):
    """Error of the frames, of their changes, and of the latents against the teacher's."""
    frames = batch["pixel_values"][:, :-1]
    flow = batch["flow"][: max(1, len(frames) // FLOW_SHARE)]
    clips = torch.cat([frames, FlowEncoding().encode(flow)])
    decoded, moments = model(clips)
    loss, psnr = reconstruction_loss(decoded, clips)
    loss = loss + args.change_weight * F.l1_loss(decoded.float().diff(dim=1), clips.diff(dim=1))
    if args.decoder_only:
        return loss, {"psnr": psnr}
    latent_loss, latent_error = imitation_loss(clips, moments, teacher)
    return loss + latent_loss, {"psnr": psnr, "latent_error": latent_error}


def unet_loss(model, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip, and that of its changes from frame to frame, on which flicker weighs more.

    The condition's own noise is another one.
    """
    x_0 = batch["latents"].float() * encoder.vae.config.scaling_factor
    B = len(x_0)
    known = batch["image"], x_0.shape[1], batch["fps"], batch["motion_bucket_id"]
    condition = encoder(*known, draw_noise_aug_strengths(B))
    condition = condition.drop(torch.rand(B) < args.conditioning_dropout_prob)
    sigma = edm.draw_sigmas(B).to(x_0.device)
    error, estimate = Denoiser(model, edm).loss_and_estimate(x_0, torch.randn_like(x_0), sigma, condition)
    change = edm.loss_weight(sigma) * (estimate - x_0).diff(dim=1).square().flatten(1).mean(dim=1)
    return (error + args.change_weight * change).mean(), {"frames": error.mean(), "changes": change.mean()}


if __name__ == "__main__":
    run_script(main)
