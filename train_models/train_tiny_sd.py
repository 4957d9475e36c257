"""Train a small Stable Diffusion from scratch: --stage vae, its autoencoder; then --stage unet, text encoder and UNet.

python train_models/train_tiny_sd.py --stage vae --train_data_dir data/scenes --output_dir outputs/tiny_sd_vae
"""

import argparse

import torch
from diffusers import AutoencoderKL

from models.tiny_sd import (
    LATENT_CHANNELS,
    Autoencoder,
    latent_deviation,
    load_parts,
    make_parts,
    make_pipeline,
    make_scheduler,
    make_vae,
    narrow_latents,
    tokenize,
)
from utils.arguments import positive_int, run_script, share, weight
from utils.data.cache import add_cache_arguments, cache_latents, encode_pair
from utils.data.pairs import PairDataset, add_data_arguments
from utils.diffusion.noise import min_snr_weight
from utils.files import replacing
from utils.pretrained import loading
from utils.training.loop import fit
from utils.training.results import save_parts
from utils.training.sd import sample_grid
from utils.training.stages import reconstruction_loss, run_stage, stage_parser
from utils.video import contact_sheet

DEPTH_SHARE = 4  # one depth image for so many photographs: the autoencoder reconstructs both


def main(argv=None) -> None:
    run_stage(make_parser(), argv, train_vae, train_unet)


def make_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__, "pipeline, or autoencoder, whose most used latent channels are kept")
    add = parser.add_argument_group("tiny_sd").add_argument
    add("--drop_prompt", type=share, default=0.1, help="share of empty captions, for guidance")
    add("--latent_channels", type=positive_int, default=LATENT_CHANNELS, help="channels of the latents of --stage vae")
    add("--kl_weight", type=weight, default=1e-6, help="weight of the autoencoder's divergence")
    add("--snr_gamma", type=weight, default=0, help="gamma of min-SNR weights (arXiv 2303.09556); 0: none")
    add_data_arguments(parser, resolution=64)
    add_cache_arguments(parser)
    return parser


def train_vae(args) -> None:
    dataset = PairDataset.from_args(args, "depth")
    shown = torch.stack([dataset[i]["pixel_values"] for i in range(min(8, len(dataset)))])
    vae = load_vae(args, dataset) if args.init_from else make_vae(args.latent_channels)

    def loss(model, batch):
        return vae_loss(model, batch, args.kl_weight)

    def validate(model, step):
        return {"reconstruction": contact_sheet(torch.cat([shown, reconstruct(model.vae, shown)]))}

    def save(model, folder):
        measured = torch.stack([dataset[i]["pixel_values"] for i in range(min(256, len(dataset)))])
        model.vae.register_to_config(scaling_factor=1 / latent_deviation(model.vae, measured))
        with replacing(folder / "vae") as temporary:
            model.vae.half().save_pretrained(temporary)
        return folder / "vae"

    fit(args, Autoencoder(vae), dataset, loss, save=save, validate=validate)


def train_unet(args) -> None:
    with loading(args.vae, AutoencoderKL, "--vae"):
        vae = AutoencoderKL.from_pretrained(args.vae)
    dataset = PairDataset.from_args(args)
    captions = [record.caption for record in dataset.records]
    model, tokenizer = (
        load_parts(args.init_from) if args.init_from else make_parts(captions, vae.config.latent_channels)
    )
    if args.cache_latents:
        dataset = cache_latents(dataset, vae, args.cache_dir, batch_size=32)
    scheduler = make_scheduler()

    def collate(samples):
        batch = torch.utils.data.default_collate(samples)
        batch["input_ids"] = tokenize(tokenizer, batch.pop("caption"))
        return batch

    def loss(model, batch):
        return unet_loss(model, batch, vae, scheduler, tokenize(tokenizer, [""]), args)

    def validate(model, step):
        return {"samples": sample_grid(make_pipeline(model, vae, tokenizer), captions[:16])}

    def save(model, folder):
        # The text encoder stays float32: transformers loads files in their own type, diffusers in float32.
        for network in (vae, model.unet):
            network.half()
        save_parts(folder, make_pipeline(model, vae, tokenizer).save_pretrained)

    fit(args, model, dataset, loss, collate_fn=collate, save=save, validate=validate, frozen=(vae,))


def vae_loss(model, batch, kl_weight):
    images, depths = batch["pixel_values"], batch["conditioning_pixel_values"]
    pixels = torch.cat([images, depths[: len(depths) // DEPTH_SHARE]])
    decoded, kl = model(pixels)
    loss, psnr = reconstruction_loss(decoded, pixels)
    return loss + kl_weight * kl.float(), {"psnr": psnr}


def unet_loss(model, batch, vae, scheduler, empty, args):
    """||v_theta(x_t, t, text) - v||^2 with v = alpha noise - sigma x_0, weighed by `min_snr_weight`."""
    x_0, _ = encode_pair(batch, vae)
    noise = torch.randn_like(x_0)
    t = torch.randint(scheduler.config.num_train_timesteps, (len(x_0),), device=x_0.device)
    dropped = torch.rand(len(x_0), 1, device=x_0.device) < args.drop_prompt
    input_ids = torch.where(dropped, empty.to(x_0.device), batch["input_ids"])
    v = model(scheduler.add_noise(x_0, noise, t), t, input_ids).float()
    error = (v - scheduler.get_velocity(x_0, noise, t)).square().mean(dim=(1, 2, 3))
    return (error * min_snr_weight(scheduler, t, args.snr_gamma)).mean(), {"v_error": error.detach().mean()}


def load_vae(args, dataset) -> AutoencoderKL:
    """The autoencoder of --init_from, with as many latent channels as are asked for."""
    with loading(args.init_from, AutoencoderKL, "--init_from"):
        vae = AutoencoderKL.from_pretrained(args.init_from, dtype=torch.float32)
    channels = vae.config.latent_channels
    if channels < args.latent_channels:
        raise ValueError(
            f"{args.init_from} has {channels} latent channels: lower --latent_channels {args.latent_channels}."
        )
    if channels == args.latent_channels:
        return vae
    samples = [dataset[i] for i in range(min(256, len(dataset)))]
    pixels = [sample[key] for key in ("pixel_values", "conditioning_pixel_values") for sample in samples]
    return narrow_latents(vae, torch.stack(pixels), args.latent_channels)


@torch.no_grad()
def reconstruct(vae, pixels: torch.Tensor) -> torch.Tensor:
    return vae(pixels.to(vae.device)).sample.clamp(-1, 1).float().cpu()


if __name__ == "__main__":
    run_script(main)
