"""The parts of `tiny_sd`: a Stable Diffusion of 64x64 pixels, small enough to be trained on a CPU."""

import json
import string
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from utils.pretrained import load_pipeline

RESOLUTION = 64
LATENT_CHANNELS = 4
MAX_TOKENS = 32
TEXT_WIDTH = 128
NOISE_SCHEDULE = {  # betas of Stable Diffusion
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
TRIGGERS = ("depth_map", "edge_map")  # words of the pairs that are trained on this base


def make_vae(latent_channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """Pixels (B, 3, 64, 64) to latents (B, `latent_channels`, 16, 16)."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


class Autoencoder(nn.Module):
    """`AutoencoderKL` from pixels to reconstruction and divergence in one forward."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.vae.encode(pixels).latent_dist
        return self.vae.decode(posterior.sample()).sample, posterior.kl().mean()


class TextToImage(nn.Module):
    """Text encoder and UNet in one forward: (x_t, t, input_ids) -> v."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        return self.unet(x_t, t, self.text_encoder(input_ids).last_hidden_state).sample


@torch.no_grad()
def latent_deviation(vae: AutoencoderKL, pixels: torch.Tensor) -> float:
    """Standard deviation of the latents of images (N, 3, H, W), whose inverse is the scaling factor."""
    return float(vae.encode(pixels.to(vae.device)).latent_dist.mean.std())


@torch.no_grad()
def narrow_latents(vae: AutoencoderKL, pixels: torch.Tensor, latent_channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """An autoencoder with the latent channels that carry most, each with mean 0 and deviation 1 over `pixels`.

    A divergence term leaves channels that the decoder does not need at the prior; as noise they would cost a diffusion
    model its capacity. What a channel carries is the information of a Gaussian channel, log(1 + var(mean) / var(noise))
    / 2. The result is equal to `vae` with the other channels at their mean, but for one bias at the border: train it on
    for a moment.

    Args:
        vae: With more latent channels.
        pixels: Images (N, 3, 64, 64) to measure on.
        latent_channels: How many remain.
    """
    posterior = vae.encode(pixels).latent_dist
    mean, std = posterior.mean.mean((0, 2, 3)), posterior.mean.std((0, 2, 3))
    carried = torch.log1p(std.square() / posterior.var.mean((0, 2, 3)))
    kept = carried.topk(latent_channels).indices.sort().values
    narrow = make_vae(latent_channels)
    same = {key: value for key, value in vae.state_dict().items() if narrow.state_dict()[key].shape == value.shape}
    narrow.load_state_dict(same, strict=False)
    _narrow_encoder(narrow, vae, kept, mean[kept], std[kept])
    _narrow_decoder(narrow, vae, kept, mean, std[kept])
    return narrow


def _narrow_encoder(narrow, vae, kept, mean, std) -> None:
    last, quant, wide = vae.encoder.conv_out, vae.quant_conv.weight[..., 0, 0], vae.config.latent_channels
    weight = torch.einsum("oc,cihw->oihw", quant, last.weight)
    bias = quant @ last.bias + vae.quant_conv.bias
    rows, scale = torch.cat([kept, wide + kept]), torch.cat([std, torch.ones_like(std)])
    shift = torch.cat([mean, 2 * std.log()])
    narrow.encoder.conv_out.weight.copy_(weight[rows] / scale[:, None, None, None])
    narrow.encoder.conv_out.bias.copy_((bias[rows] - shift) / scale)
    _set_identity(narrow.quant_conv)


def _narrow_decoder(narrow, vae, kept, mean, std) -> None:
    first, post = vae.decoder.conv_in, vae.post_quant_conv.weight[..., 0, 0]
    constant = post @ mean + vae.post_quant_conv.bias
    narrow.decoder.conv_in.weight.copy_(torch.einsum("ochw,ci->oihw", first.weight, post[:, kept] * std))
    narrow.decoder.conv_in.bias.copy_(first.bias + first.weight.sum((2, 3)) @ constant)
    _set_identity(narrow.post_quant_conv)


def _set_identity(conv) -> None:
    torch.nn.init.dirac_(conv.weight)
    torch.nn.init.zeros_(conv.bias)


def make_unet(latent_channels: int = LATENT_CHANNELS) -> UNet2DConditionModel:
    """Attention at 16x16, 8x8 and 4x4; `attention_head_dim` is the number of heads, as in Stable Diffusion 1.5."""
    return UNet2DConditionModel(
        sample_size=RESOLUTION // 4,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers over the words of the procedural world."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges are learnt from `texts` until each of their words is one token."""
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]|[^\sa-z0-9]+"), "removed", invert=True)
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = [*string.ascii_lowercase, *string.digits, *",.-_'"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    model.train_from_iterator([*texts, *alphabet], trainer)
    learnt = json.loads(model.to_str())["model"]
    return _read_tokenizer(learnt["vocab"], learnt["merges"])


def make_parts(captions: Iterable[str], latent_channels: int) -> tuple[TextToImage, CLIPTokenizer]:
    """Networks with random weights, and a tokenizer of the words in the captions and the trigger words of the pairs."""
    tokenizer = make_tokenizer([*captions, *TRIGGERS])
    return TextToImage(make_text_encoder(tokenizer), make_unet(latent_channels)), tokenizer


def load_parts(folder: str) -> tuple[TextToImage, CLIPTokenizer]:
    """The parts of a pipeline's folder, to be trained further."""
    pipe = load_pipeline(StableDiffusionPipeline, folder, flag="--init_from", safety_checker=None)
    return TextToImage(pipe.text_encoder, pipe.unet), pipe.tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (B, L)."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def make_pipeline(model: TextToImage, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
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


def make_scheduler() -> DDPMScheduler:
    """v-prediction, so that the last timestep carries signal about the image; the betas of Stable Diffusion."""
    return DDPMScheduler(
        **NOISE_SCHEDULE,
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def _read_tokenizer(vocabulary: dict, merges: list) -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
        lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS, pad_token="<|endoftext|>")
