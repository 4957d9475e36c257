"""Train a small Stable Video Diffusion from nothing: its autoencoder (--stage vae), then its image encoder and UNet (--stage unet).

The autoencoder imitates the latents of an image autoencoder (--teacher), so that the UNet may be trained on either's, and
decodes them with an eye on neighbouring frames.
"""

import argparse
from dataclasses import replace

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, AutoModel, StableVideoDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import nn

from models.tiny_svd import (
    NUM_FRAMES,
    inherit_layers,
    make_feature_extractor,
    make_image_encoder,
    make_pipeline,
    make_unet,
    make_vae,
)
from utils.arguments import parse_args, positive_int, run_script
from utils.data.clip_latents import CachedClips, Stretches, cache_clips
from utils.data.video_arguments import add_video_arguments, read_video_dataset
from utils.diffusion.condition import ConditionEncoder, draw_noise_aug_strengths
from utils.diffusion.edm import EDM, Denoiser
from utils.flow import FlowPicture
from utils.images import to_image
from utils.motion_helper import MotionBuckets
from utils.pretrained import loading
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.video import contact_sheet

FLOW_SHARE = 4  # one clip of flow pictures for so many of frames: the autoencoder has to draw both
SHOWN = 4  # clips of a validation picture, of which no training sees a frame
LATENT_WEIGHT = 1.0  # of the error of imitated latents
SPREAD_WEIGHT = 0.01  # of the error of their posterior's log-variance


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_output_dir(args)
    if args.stage == "vae":
        train_vae(args)
    elif args.vae is None:
        raise ValueError(
            "--stage unet needs --vae, the autoencoder of the latents: what --stage vae wrote, or its teacher."
        )
    else:
        train_unet(args)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("tiny_svd").add_argument
    add("--stage", choices=["vae", "unet"], required=True)
    add("--teacher", default="weights/tiny_sd/vae", help="image autoencoder that --stage vae imitates")
    add("--decoder_only", action="store_true", help="leave the encoder of --init_from as it is")
    add("--vae", help="autoencoder of the latents of --stage unet")
    add(
        "--init_from",
        help="what is trained further: an autoencoder, or a pipeline folder for --stage unet, whose motion buckets stay",
    )
    add("--clip_frames", type=positive_int, default=16, help="frames of each clip that stretches are drawn from")
    add("--frame_strides", type=positive_int, nargs="+", default=[1, 2], help="one of them is drawn for each sample")
    add("--sigma_mean", type=float, default=0.5, help="of ln(sigma)")
    add("--sigma_std", type=float, default=1.4)
    add("--conditioning_dropout_prob", type=float, default=0.1, help="share of samples without the image")
    add("--cache_dir", default="cache", help="folder of all caches")
    add_video_arguments(parser, num_frames=NUM_FRAMES, height=64, width=64, center_crop=True)
    add_training_arguments(parser)
    return parser


def train_vae(args) -> None:
    torch.manual_seed(args.seed)
    dataset = read_video_dataset(args, extras=("flow",))
    with loading(args.teacher):
        teacher = AutoencoderKL.from_pretrained(args.teacher, dtype=torch.float32)
    vae = load_vae(args, teacher)
    parameters = list(vae.decoder.parameters() if args.decoder_only else vae.parameters())
    shown = torch.stack([dataset[i]["pixel_values"] for i in range(SHOWN)])

    def validate(model, step):
        decoded, _ = model(shown.to(model.vae.device))
        return {"reconstruction": sheet(interleave(shown, decoded.float().cpu().clamp(-1, 1)))}

    fit(
        args,
        VideoAutoencoder(vae),
        dataset,
        lambda model, batch: vae_loss(model, batch, teacher, args.decoder_only),
        collate_fn=lambda samples: {k: torch.stack([s[k] for s in samples]) for k in ("pixel_values", "flow")},
        save=lambda model, folder: model.vae.half().save_pretrained(folder / "vae"),
        validate=validate,
        parameters=parameters,
        frozen=(teacher,),
    )


def train_unet(args) -> None:
    torch.manual_seed(args.seed)
    with loading(args.vae):
        vae = AutoModel.from_pretrained(args.vae, dtype=torch.float32)
    folder = cache_clips(whole_clips(args), vae, args.cache_dir)
    buckets = MotionBuckets.load(args.init_from) if args.init_from else None
    clips = CachedClips(folder, Stretches(args.num_frames, args.frame_strides, random_reverse=True), buckets)
    dataset, shown = torch.utils.data.random_split(clips, [len(clips) - SHOWN, SHOWN], torch.Generator().manual_seed(0))
    model = load_parts(args.init_from) if args.init_from else ImageToVideo(make_image_encoder(), make_unet())
    encoder = ConditionEncoder(vae, model.image_encoder, make_feature_extractor())

    def validate(model, step):
        return draw_samples(make_pipeline(vae, model.image_encoder, model.unet), shown, args)

    def save(model, folder):
        # The image encoder stays float32: transformers loads files in their own type, diffusers in float32.
        for network in (vae, model.unet):
            network.half()
        make_pipeline(vae, model.image_encoder, model.unet).save_pretrained(folder)
        (buckets or replace(clips.buckets, data=args.train_data_dir)).save(folder)

    def loss(prepared, batch):
        return unet_loss(prepared, batch, encoder, EDM(args.sigma_mean, args.sigma_std), args)

    fit(args, model, dataset, loss, save=save, validate=validate, frozen=(vae,))


class VideoAutoencoder(nn.Module):
    """Clips (B, F, 3, H, W) to their reconstruction and the moments (B F, 2 C, h, w) of their posterior, in one forward."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder):
        super().__init__()
        self.vae = vae

    def forward(self, clips):
        B, F = clips.shape[:2]
        posterior = self.vae.encode(clips.flatten(0, 1)).latent_dist
        # The decoder's error does not reach the encoder, which has its latents to imitate.
        decoded = self.vae.decode(posterior.sample().detach(), num_frames=F).sample
        return decoded.unflatten(0, (B, F)), posterior.parameters


class ImageToVideo(nn.Module):
    """Image encoder and UNet, which learn together; called as the UNet is.

    The image encoder runs before, and several processes still agree on its gradients: they find its parameters through the embeddings.
    """

    def __init__(self, image_encoder, unet):
        super().__init__()
        self.image_encoder, self.unet = image_encoder, unet
        # At these sizes plain products take half the time of fused attention (measured on a CPU, in bfloat16).
        unet.set_attn_processor(AttnProcessor())

    def forward(self, inputs, timestep, embeddings, added_time_ids, return_dict):
        return self.unet(inputs, timestep, embeddings, added_time_ids, return_dict=return_dict)


def vae_loss(model, batch, teacher, decoder_only):
    """Error of the frames, and of the latents against the teacher's."""
    frames = batch["pixel_values"][:, :-1]
    flow = batch["flow"][: max(1, len(frames) // FLOW_SHARE)]
    clips = torch.cat([frames, FlowPicture().encode(flow)])
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


def whole_clips(args):
    """The data set with all frames of its clips, from the first on."""
    return read_video_dataset(args, num_frames=args.clip_frames, first_frames=True)


def load_vae(args, teacher):
    if args.init_from:
        with loading(args.init_from):
            return AutoencoderKLTemporalDecoder.from_pretrained(args.init_from, dtype=torch.float32)
    if args.decoder_only:
        raise ValueError("--decoder_only needs --init_from, the autoencoder whose encoder stays.")
    vae = make_vae(teacher.config.scaling_factor)
    inherit_layers(vae, teacher)
    return vae


def load_parts(folder):
    with loading(folder):
        pipe = StableVideoDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    return ImageToVideo(pipe.image_encoder, pipe.unet)


def draw_samples(pipe, shown, args) -> dict[str, Image.Image]:
    """Clips that no training saw, each above a sample from its first frame."""
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(args.seed)
    samples = [shown[i] for i in range(len(shown))]
    latents = torch.stack([sample["latents"] for sample in samples]).to(pipe.vae.device)
    truth = pipe.decode_latents(latents * pipe.vae.config.scaling_factor, args.num_frames).transpose(1, 2)
    drawn = [draw(pipe, sample, args) for sample in samples]
    return {"samples": sheet(interleave(truth.cpu().clamp(-1, 1), torch.stack(drawn)))}


def draw(pipe, sample: dict, args) -> torch.Tensor:
    """Frames (F, 3, H, W) in [-1, 1], without guidance."""
    frames = pipe(
        to_image(sample["image"]),
        height=args.height,
        width=args.width,
        num_frames=args.num_frames,
        num_inference_steps=20,
        max_guidance_scale=1.0,
        fps=float(sample["fps"]),
        motion_bucket_id=int(sample["motion_bucket_id"]),
        generator=torch.Generator().manual_seed(args.seed),
        output_type="pt",
    ).frames
    return frames[0].cpu() * 2 - 1


def interleave(truth: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Clips (N, F, 3, H, W) twice, each truth above what was drawn: (2N, F, 3, H, W)."""
    return torch.stack([truth, drawn], dim=1).flatten(0, 1)


def sheet(clips: torch.Tensor) -> Image.Image:
    """Clips (N, F, 3, H, W) in [-1, 1], a row each."""
    return contact_sheet(clips.flatten(0, 1), columns=clips.shape[1])


if __name__ == "__main__":
    run_script(main)
