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
from PIL import Image

from models.tiny_svd import (
    NUM_FRAMES,
    VideoAutoencoder,
    inherit_layers,
    load_parts,
    make_feature_extractor,
    make_parts,
    make_pipeline,
    make_vae,
)
from utils import arguments
from utils.arguments import parse_args, positive_int, run_script
from utils.data.clip_latents import CachedClips, Stretches, cache_clips
from utils.data.video_arguments import add_video_data_arguments, read_video_dataset
from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.svd_condition import ConditionEncoder, draw_noise_aug_strengths
from utils.flow import FlowEncoding
from utils.images import to_image
from utils.motion_helper import MotionBuckets
from utils.pretrained import loading, shipped
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.video import contact_sheet

FLOW_SHARE = 4  # one clip of flow images for so many of frames: the autoencoder reconstructs both
SHOWN = 4  # clips of a validation image, of which no training sees a frame
LATENT_WEIGHT = 1.0  # of the error of imitated latents
SPREAD_WEIGHT = 0.01  # of the error of their posterior's log-variance


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    if args.stage == "unet" and args.vae is None:
        raise ValueError("--stage unet needs --vae: pass what --stage vae wrote, or its teacher.")
    if args.decoder_only and not args.init_from:
        raise ValueError("--decoder_only needs --init_from: pass the autoencoder whose encoder stays.")
    check_output_dir(args)
    torch.manual_seed(args.seed)
    train_vae(args) if args.stage == "vae" else train_unet(args)


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    add = parser.add_argument_group("tiny_svd").add_argument
    add(
        "--stage",
        choices=["vae", "unet"],
        required=True,
        help="what is trained: the autoencoder (vae), or text encoder and UNet (unet)",
    )
    add("--teacher", default=shipped("tiny_sd/vae"), help="image autoencoder that --stage vae imitates")
    add("--decoder_only", action="store_true", help="leave the encoder of --init_from as it is")
    add("--vae", help="autoencoder of the latents of --stage unet (default: none)")
    further = "autoencoder, or pipeline with its motion buckets, to train further (default: none)"
    add("--init_from", help=further)
    add("--clip_frames", type=positive_int, default=16, help="frames of each clip that stretches are taken from")
    strides = "a stretch takes every n-th frame, n drawn from these"
    add("--frame_strides", type=positive_int, nargs="+", default=[1, 2], help=strides)
    add("--sigma_mean", type=float, default=0.5, help="mean of ln(sigma) in training")
    add("--sigma_std", type=float, default=1.4, help="standard deviation of ln(sigma) in training")
    add("--conditioning_dropout_prob", type=float, default=0.1, help="share of samples without the image")
    add("--cache_dir", default="cache", help="folder of all caches")
    add_video_data_arguments(parser, num_frames=NUM_FRAMES, height=64, width=64, center_crop=True)
    add_training_arguments(parser)
    return parser


def train_vae(args) -> None:
    dataset = read_video_dataset(args, extras=("flow",))
    with loading(args.teacher, AutoencoderKL, "--teacher"):
        teacher = AutoencoderKL.from_pretrained(args.teacher, dtype=torch.float32)
    vae = load_vae(args.init_from) if args.init_from else make_vae(teacher.config.scaling_factor)
    if not args.init_from:
        inherit_layers(vae, teacher)
    parameters = list(vae.decoder.parameters() if args.decoder_only else vae.parameters())
    shown = torch.stack([dataset[i]["pixel_values"] for i in range(min(SHOWN, len(dataset)))])

    def loss(model, batch):
        return vae_loss(model, batch, teacher, args.decoder_only)

    def collate(samples):
        return {key: torch.stack([sample[key] for sample in samples]) for key in ("pixel_values", "flow")}

    def validate(model, step):
        decoded, _ = model(shown.to(model.vae.device))
        return {"reconstruction": sheet(shown, decoded.float().cpu().clamp(-1, 1))}

    def save(model, folder):
        model.vae.half().save_pretrained(folder / "vae")
        return folder / "vae"

    options = {"collate_fn": collate, "save": save, "validate": validate}
    fit(args, VideoAutoencoder(vae), dataset, loss, **options, parameters=parameters, frozen=(teacher,))


def train_unet(args) -> None:
    with loading(args.vae, (AutoencoderKL, AutoencoderKLTemporalDecoder), "--vae"):
        vae = AutoModel.from_pretrained(args.vae, dtype=torch.float32)
    whole = read_video_dataset(args, num_frames=args.clip_frames, first_frames=True)
    begun = load_parts(args.init_from) if args.init_from else None
    buckets = MotionBuckets.load(args.init_from) if args.init_from else None
    stretches = Stretches(args.num_frames, args.frame_strides, random_reverse=True)
    clips = CachedClips(cache_clips(whole, vae, args.cache_dir), stretches, buckets)
    dataset, shown = torch.utils.data.random_split(clips, [len(clips) - SHOWN, SHOWN], torch.Generator().manual_seed(0))
    model = begun or make_parts()
    encoder = ConditionEncoder(vae, model.image_encoder, make_feature_extractor())

    def loss(prepared, batch):
        return unet_loss(prepared, batch, encoder, EDM(args.sigma_mean, args.sigma_std), args)

    def validate(model, step):
        return sample_clips(make_pipeline(vae, model.image_encoder, model.unet), shown, args)

    def save(model, folder):
        # The image encoder stays float32: transformers loads files in their own type, diffusers in float32.
        for network in (vae, model.unet):
            network.half()
        make_pipeline(vae, model.image_encoder, model.unet).save_pretrained(folder)
        (buckets or replace(clips.buckets, data=args.train_data_dir)).save(folder)

    fit(args, model, dataset, loss, save=save, validate=validate, frozen=(vae,))


def vae_loss(model, batch, teacher, decoder_only):
    """Error of the frames, and of the latents against the teacher's."""
    frames = batch["pixel_values"][:, :-1]
    flow = batch["flow"][: max(1, len(frames) // FLOW_SHARE)]
    clips = torch.cat([frames, FlowEncoding().encode(flow)])
    decoded, moments = model(clips)
    error = F.mse_loss(decoded.float(), clips)
    scalars = {"psnr": 10 * torch.log10(4 / error.detach())}
    loss = error + 0.5 * F.l1_loss(decoded.float(), clips)
    if decoder_only:
        return loss, scalars
    with torch.no_grad():
        mean, spread = teacher.encode(clips.flatten(0, 1)).latent_dist.parameters.float().chunk(2, dim=1)
    own_mean, own_spread = moments.float().chunk(2, dim=1)
    latent_error = F.mse_loss(own_mean, mean)
    scalars["latent_error"] = latent_error.detach() / mean.var()
    return loss + LATENT_WEIGHT * latent_error + SPREAD_WEIGHT * F.mse_loss(own_spread, spread), scalars


def unet_loss(model, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip; the condition's own noise is another one."""
    x_0 = batch["latents"].float() * encoder.vae.config.scaling_factor
    B = len(x_0)
    condition = encoder(
        batch["image"], x_0.shape[1], batch["fps"], batch["motion_bucket_id"], draw_noise_aug_strengths(B)
    )
    condition = condition.drop(torch.rand(B) < args.conditioning_dropout_prob)
    sigma = edm.draw_sigmas(B).to(x_0.device)
    return Denoiser(model, edm).loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def load_vae(folder: str) -> AutoencoderKLTemporalDecoder:
    with loading(folder, AutoencoderKLTemporalDecoder, "--init_from"):
        return AutoencoderKLTemporalDecoder.from_pretrained(folder, dtype=torch.float32)


def sample_clips(pipe, shown, args) -> dict[str, Image.Image]:
    """Clips that no training saw, each above a sample from its first frame, without guidance."""
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(args.seed)
    samples = [shown[i] for i in range(len(shown))]
    latents = torch.stack([sample["latents"] for sample in samples]).to(pipe.vae.device)
    truth = pipe.decode_latents(latents * pipe.vae.config.scaling_factor, args.num_frames).transpose(1, 2)
    sizes = {"height": args.height, "width": args.width, "num_frames": args.num_frames}
    videos = []
    for sample in samples:
        numbers = {"fps": float(sample["fps"]), "motion_bucket_id": int(sample["motion_bucket_id"])}
        options = {"num_inference_steps": 20, "max_guidance_scale": 1.0, "output_type": "pt"}
        generator = torch.Generator().manual_seed(args.seed)
        videos.append(pipe(to_image(sample["image"]), **sizes, **numbers, **options, generator=generator).frames[0])
    return {"samples": sheet(truth.cpu().clamp(-1, 1), torch.stack(videos).cpu() * 2 - 1)}


def sheet(truth: torch.Tensor, videos: torch.Tensor) -> Image.Image:
    """Clips (N, F, 3, H, W) in [-1, 1], a row each, each truth above its other."""
    rows = torch.stack([truth, videos], dim=1).flatten(0, 2)
    return contact_sheet(rows, columns=truth.shape[1])


if __name__ == "__main__":
    run_script(main)
