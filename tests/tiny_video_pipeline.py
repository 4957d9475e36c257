"""A random Stable Video Diffusion that runs in a moment."""

import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from models.tiny_svd import make_feature_extractor, make_scheduler
from utils.motion_helper import PROCEDURAL


def tiny_video_pipeline(seed: int = 0) -> StableVideoDiffusionPipeline:
    """4 frames by default; latents are a quarter of the picture's side."""
    torch.manual_seed(seed)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=1,
        scaling_factor=0.5,
    )  # fmt: skip
    unet = UNetSpatioTemporalConditionModel(
        sample_size=16, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=16, num_frames=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(2, 2), addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=224, patch_size=56,
    )  # fmt: skip
    encoder = CLIPVisionModelWithProjection(vision)
    pipe = StableVideoDiffusionPipeline(vae, encoder, unet, make_scheduler(), make_feature_extractor())
    for module in (vae, unet, encoder):
        module.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_tiny_base(folder):
    """Writes it with a map of motion buckets, and returns the folder."""
    tiny_video_pipeline().save_pretrained(folder)
    PROCEDURAL.save(folder)
    return folder
