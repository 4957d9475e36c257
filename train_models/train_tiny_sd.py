"""Train a small Stable Diffusion from nothing: first its autoencoder (--stage vae), then its text encoder and UNet (--stage unet)."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from torch import nn

from models.tiny_sd import (
    LATENT_CHANNELS,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    make_vae,
    narrow_latents,
)
from utils.arguments import parse_args, positive_int, run_script
from utils.data.cache import add_cache_arguments, cache_latents, encode_pair
from utils.data.pairs import PairDataset, add_data_arguments
from utils.diffusion.noise import min_snr_weight
from utils.images import to_image
from utils.pretrained import loading
from utils.training.loop import add_training_arguments, check_output_dir, fit

DEPTH_SHARE = 4  # one depth picture for so many images: the autoencoder has to draw both
TRIGGERS = ("depth_map", "edge_map")  # words of the pairs that are trained on this base


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=["vae", "unet"], required=True)
    parser.add_argument("--vae", help="folder of the trained autoencoder, for --stage unet")
    parser.add_argument("--drop_prompt", type=float, default=0.1, help="share of empty captions, for guidance")
    parser.add_argument(
        "--init_from",
        help="what is trained further: a pipeline folder, or an autoencoder, of which the fullest channels are kept",
    )
    parser.add_argument("--latent_channels", type=positive_int, default=LATENT_CHANNELS, help="of --stage vae")
    parser.add_argument("--kl_weight", type=float, default=1e-6, help="of the autoencoder's divergence")
    parser.add_argument(
        "--snr_gamma", type=float, default=0, help="of min-SNR weights; 0 weighs all noise levels alike"
    )
    add_data_arguments(parser, resolution=64)
    add_cache_arguments(parser)
    add_training_arguments(parser)
    args = parse_args(parser, argv)
    check_output_dir(args)
    if args.stage == "vae":
        train_vae(args)
    elif args.vae is None:
        parser.error("--stage unet needs --vae, the folder that --stage vae has written.")
    else:
        train_unet(args)


def train_vae(args) -> None:
    torch.manual_seed(args.seed)
    dataset = PairDataset.from_args(args, "depth")
    shown = torch.stack([dataset[i]["pixel_values"] for i in range(8)])
    vae = load_vae(args, dataset) if args.init_from else make_vae(args.latent_channels)

    def validate(vae, step):
        return {"reconstruction": grid(torch.cat([shown, reconstruct(vae, shown)]), columns=8)}

    def save(vae, folder):
        vae.register_to_config(scaling_factor=1 / latent_deviation(vae, dataset))
        vae.half().save_pretrained(folder / "vae")

    fit(
        args,
        Autoencoder(vae),
        dataset,
        lambda model, batch: vae_loss(model, batch, args.kl_weight),
        save=lambda m, f: save(m.vae, f),
        validate=lambda m, s: validate(m.vae, s),
    )


def train_unet(args) -> None:
    torch.manual_seed(args.seed)
    with loading(args.vae):
        vae = AutoencoderKL.from_pretrained(args.vae)
    dataset = PairDataset.from_args(args)
    captions = [record.caption for record in dataset.records]
    channels = vae.config.latent_channels
    model, tokenizer = load_parts(args.init_from) if args.init_from else make_parts(captions, channels)
    if args.cache_latents:
        dataset = cache_latents(dataset, vae, args.cache_dir, batch_size=32)
    scheduler = make_scheduler()

    def collate(samples):
        batch = torch.utils.data.default_collate(samples)
        batch["input_ids"] = tokenize(tokenizer, batch.pop("caption"))
        return batch

    def loss(model, batch):
        return unet_loss(model, batch, vae, scheduler, tokenize(tokenizer, [""]), args)

    def pipeline(model):
        return make_pipeline(model, vae, tokenizer)

    def validate(model, step):
        return {"samples": sample_grid(pipeline(model), captions[:16])}

    def save(model, folder):
        # The text encoder stays float32: transformers loads files in their own type, diffusers in float32.
        for network in (vae, model.unet):
            network.half()
        pipeline(model).save_pretrained(folder)

    fit(args, model, dataset, loss, collate_fn=collate, save=save, validate=validate, frozen=(vae,))


class Autoencoder(nn.Module):
    """`AutoencoderKL` from pixels to reconstruction and divergence in one forward."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, pixels):
        posterior = self.vae.encode(pixels).latent_dist
        return self.vae.decode(posterior.sample()).sample, posterior.kl().mean()


class TextToImage(nn.Module):
    """Text encoder and UNet in one forward: (x_t, t, input_ids) -> v."""

    def __init__(self, text_encoder, unet):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, x_t, t, input_ids):
        return self.unet(x_t, t, self.text_encoder(input_ids).last_hidden_state).sample


def vae_loss(model, batch, kl_weight):
    images, depths = batch["pixel_values"], batch["conditioning_pixel_values"]
    pixels = torch.cat([images, depths[: len(depths) // DEPTH_SHARE]])
    decoded, kl = model(pixels)
    error = F.mse_loss(decoded.float(), pixels)
    absolute = F.l1_loss(decoded.float(), pixels)
    psnr = 10 * torch.log10(4 / error.detach())
    return error + 0.5 * absolute + kl_weight * kl.float(), {"psnr": psnr}


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


def load_vae(args, dataset):
    with loading(args.init_from):
        vae = AutoencoderKL.from_pretrained(args.init_from, dtype=torch.float32)
    if vae.config.latent_channels < args.latent_channels:
        raise ValueError(
            f"{args.init_from} has {vae.config.latent_channels} latent channels: lower --latent_channels {args.latent_channels}."
        )
    if vae.config.latent_channels == args.latent_channels:
        return vae
    samples = [dataset[i] for i in range(min(256, len(dataset)))]
    pixels = [sample[key] for key in ("pixel_values", "conditioning_pixel_values") for sample in samples]
    return narrow_latents(vae, torch.stack(pixels), args.latent_channels)


def make_parts(captions, latent_channels):
    tokenizer = make_tokenizer([*captions, *TRIGGERS])
    return TextToImage(make_text_encoder(tokenizer), make_unet(latent_channels)), tokenizer


def load_parts(folder):
    with loading(folder):
        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    return TextToImage(pipe.text_encoder, pipe.unet), pipe.tokenizer


def tokenize(tokenizer, captions):
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def make_pipeline(model, vae, tokenizer) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sample_grid(pipe, captions) -> Image.Image:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipe(captions, num_inference_steps=20, guidance_scale=3.0, generator=generator, output_type="pt").images
    return grid(images * 2 - 1, columns=8)


def grid(pixels: torch.Tensor, columns: int) -> Image.Image:
    """Pictures (N, 3, H, W) in [-1, 1] in rows of `columns`."""
    rows = [np.concatenate([np.asarray(to_image(p)) for p in row], axis=1) for row in pixels.split(columns)]
    return Image.fromarray(np.concatenate(rows))


@torch.no_grad()
def reconstruct(vae, pixels):
    return vae(pixels.to(vae.device)).sample.clamp(-1, 1).float().cpu()


@torch.no_grad()
def latent_deviation(vae, dataset, count: int = 256) -> float:
    """Standard deviation of the latents of images, whose inverse is the scaling factor."""
    pixels = torch.stack([dataset[i]["pixel_values"] for i in range(min(count, len(dataset)))])
    return float(vae.encode(pixels.to(vae.device)).latent_dist.mean.std())


if __name__ == "__main__":
    run_script(main)
