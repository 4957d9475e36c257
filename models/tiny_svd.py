"""The parts of `tiny_svd`: a Stable Video Diffusion of 8 frames of 64x64 pixels that a CPU can train."""

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from models.tiny_sd import NOISE_SCHEDULE
from utils.latents import FRAMES_BESIDE
from utils.pretrained import load_pipeline, loading

RESOLUTION = 64
NUM_FRAMES = 8
LATENT_CHANNELS = 4
NOISE_LEFT = 0.1  # largest deviation of the noise that the decoder learns to look through, where latents have about 1
IMAGE_WIDTH = 64
CLIP_SIDE = 224  # pixels, written into the pipeline of diffusers


def make_vae(scaling_factor: float = 1.0) -> AutoencoderKLTemporalDecoder:
    """Frames (B F, 3, 64, 64) to latents (B F, 4, 16, 16) and back; the decoder looks at neighbouring frames.

    The class normalises in 32 groups: with 64 channels two are left to a group, and with 32 an image would lose its
    brightness.
    """
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=RESOLUTION,
        scaling_factor=scaling_factor,
    )
    vae.register_to_config(**{FRAMES_BESIDE: 2})
    _start_still(vae.decoder)
    return vae


class VideoAutoencoder(nn.Module):
    """Clips (B, F, 3, H, W) to their reconstruction and the moments (B F, 2 C, h, w) of their posterior."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder):
        super().__init__()
        self.vae = vae

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        B, F = clips.shape[:2]
        posterior = self.vae.encode(clips.flatten(0, 1)).latent_dist
        # The decoder's error does not reach the encoder, which has its latents to imitate. In training each clip has
        # noise of its own strength, as a sampling leaves it, through which the decoder learns to see what stands still.
        latents = posterior.mode().detach()
        if self.training:
            left = NOISE_LEFT * torch.rand(B, device=clips.device).repeat_interleave(F)
            latents = latents + left[:, None, None, None] * torch.randn_like(latents)
        decoded = self.vae.decode(latents, num_frames=F).sample
        return decoded.unflatten(0, (B, F)), posterior.parameters


class OneTokenProcessor(AttnProcessor):
    """Cross-attention to one token is that token's value, whatever the query: neither query nor key is computed.

    A training step takes 6 to 10% less time (measured on a CPU, in bfloat16).
    """

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **others):
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] > 1:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, **others)
        value = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return attn.to_out[1](value).expand(-1, hidden_states.shape[1], -1)


class ImageToVideo(nn.Module):
    """Image encoder and UNet, which learn together; called as the UNet is.

    The image encoder runs before, and several processes still agree on its gradients: they find its parameters through
    the embeddings.
    """

    def __init__(self, image_encoder: nn.Module, unet: nn.Module):
        super().__init__()
        self.image_encoder, self.unet = image_encoder, unet
        # At these sizes plain products take half the time of fused attention (measured on a CPU, in bfloat16).
        unet.set_attn_processor(OneTokenProcessor())

    def forward(self, inputs, timestep, embeddings, added_time_ids, return_dict):
        return self.unet(inputs, timestep, embeddings, added_time_ids, return_dict=return_dict)


def make_parts() -> ImageToVideo:
    """Networks with random weights."""
    return ImageToVideo(make_image_encoder(), make_unet())


def load_parts(folder: str) -> ImageToVideo:
    """The parts of a pipeline's folder, to be trained further."""
    pipe = load_pipeline(StableVideoDiffusionPipeline, folder, flag="--init_from")
    return ImageToVideo(pipe.image_encoder, pipe.unet)


def load_vae(folder: str) -> AutoencoderKLTemporalDecoder:
    """An autoencoder to be trained further."""
    with loading(folder, AutoencoderKLTemporalDecoder, "--init_from"):
        return AutoencoderKLTemporalDecoder.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def inherit_layers(vae: AutoencoderKLTemporalDecoder, image_vae: AutoencoderKL) -> int:
    """Copy the weights of an image autoencoder where shapes agree; returns the number of copied tensors."""
    own = vae.state_dict()
    placed = {_place(name): value for name, value in image_vae.state_dict().items()}
    same = {name: value for name, value in placed.items() if name in own and own[name].shape == value.shape}
    vae.load_state_dict(same, strict=False)
    return len(same)


def make_unet() -> UNetSpatioTemporalConditionModel:
    """Spatial and temporal attention at 16x16 and 8x8."""
    return UNetSpatioTemporalConditionModel(
        sample_size=RESOLUTION // 4,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 96),
        down_block_types=(*("CrossAttnDownBlockSpatioTemporal",) * 2, "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 3, 3),
        cross_attention_dim=IMAGE_WIDTH,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        num_frames=NUM_FRAMES,
    )  # fmt: skip


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """Images (B, 3, 224, 224) to embeddings (B, 64), in two layers over 7x7 patches."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            image_size=CLIP_SIDE,
            patch_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_size=IMAGE_WIDTH,
            intermediate_size=2 * IMAGE_WIDTH,
            projection_dim=IMAGE_WIDTH,
        )
    )


def make_scheduler() -> EulerDiscreteScheduler:
    """The scheduler of Stable Video Diffusion, from noise level 80: that hides 16x16 latents as well as 700."""
    return EulerDiscreteScheduler(
        **NOISE_SCHEDULE,
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=80.0,
        steps_offset=1,
    )


def make_feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": CLIP_SIDE}, crop_size=CLIP_SIDE)


def make_pipeline(vae: nn.Module, image_encoder: nn.Module, unet: nn.Module) -> StableVideoDiffusionPipeline:
    return StableVideoDiffusionPipeline(vae, image_encoder, unet, make_scheduler(), make_feature_extractor())


@torch.no_grad()
def _start_still(decoder: nn.Module) -> None:
    """Let the decoder begin as one of single frames: its convolutions over time add nothing."""
    for module in decoder.modules():
        if temporal := getattr(module, "temporal_res_block", None):
            nn.init.zeros_(temporal.conv2.weight)
            nn.init.zeros_(temporal.conv2.bias)
    nn.init.dirac_(decoder.time_conv_out.weight)
    nn.init.zeros_(decoder.time_conv_out.bias)


def _place(name: str) -> str:
    """Where a tensor of an image autoencoder lies in a temporal one."""
    if name.startswith("decoder"):
        for block in ("mid_block.resnets.0", *(f"up_blocks.{i}.resnets.{j}" for i in range(3) for j in range(2))):
            name = name.replace(f"decoder.{block}.", f"decoder.{block}.spatial_res_block.")
    return name
