"""A random Stable Video Diffusion that runs in a moment."""

import torch
from diffusers import AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import patch
from models.svd_controlnet import ControlNetSVD
from models.tiny_svd import make_feature_extractor, make_scheduler
from utils.flow.code import FlowCode
from utils.latents import LatentScale
from utils.motion_helper import PROCEDURAL
from utils.tracks.control_map import CONTROL_CHANNELS


def tiny_video_pipeline(seed: int = 0) -> StableVideoDiffusionPipeline:
    """4 frames by default; latents are a quarter of the image's side."""
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


def save_flow_adapter(folder, **training):
    """Writes a joint adapter of flow and video for it, as trained with these settings, and returns the folder."""
    unet = tiny_video_pipeline().unet
    patch.add_joint(unet, "flow", rank=2, post="aligned")
    patch.save(unet, folder, "flow", training=FlowCode(scale=LatentScale(0.1, 0.7)).to_training() | training)
    return folder


def save_controlnet(folder):
    """Writes a ControlNet of tracks for it and returns the folder."""
    unet = tiny_video_pipeline().unet
    ControlNetSVD.from_unet(unet, conditioning_channels=CONTROL_CHANNELS, vae_scale_factor=4).save_pretrained(folder)
    return folder
