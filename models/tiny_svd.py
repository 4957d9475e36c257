"""The parts of `tiny_svd`: a Stable Video Diffusion of 8 frames of 64x64 pixels, small enough to be trained on a CPU."""

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

RESOLUTION = 64
NUM_FRAMES = 8
LATENT_CHANNELS = 4
IMAGE_WIDTH = 64
CLIP_SIDE = 224  # pixels, written into the pipeline of diffusers


def make_vae(scaling_factor: float = 1.0) -> AutoencoderKLTemporalDecoder:
    """Frames (B F, 3, 64, 64) to latents (B F, 4, 16, 16) and back; the decoder looks at neighbouring frames.

    The class normalises in 32 groups: with 64 channels two are left to a group, and with 32 a picture would lose its brightness.
    """
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(64, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=RESOLUTION,
        scaling_factor=scaling_factor,
    )
    _start_still(vae.decoder)
    return vae


@torch.no_grad()
def inherit_layers(vae: AutoencoderKLTemporalDecoder, image_vae: AutoencoderKL) -> int:
    """Copy the weights of an image autoencoder that have a place of the same shape; returns how many tensors did."""
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
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 3, 3),
        cross_attention_dim=IMAGE_WIDTH,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=3 * 32,
        num_frames=NUM_FRAMES,
    )  # fmt: skip


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """Pictures (B, 3, 224, 224) to embeddings (B, 64), in two layers over 7x7 patches."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=2 * IMAGE_WIDTH,
            projection_dim=IMAGE_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=CLIP_SIDE,
            patch_size=32,
        )
    )


def make_scheduler() -> EulerDiscreteScheduler:
    """That of Stable Video Diffusion, but for its largest noise level: 80 hides 16x16 latents as well as 700."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
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
