"""A random text to video base that runs in a moment."""

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet3DConditionModel

from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from tests.tiny_pipeline import SIDE, tiny_models


def tiny_text_unet(width: int = 8) -> UNet3DConditionModel:
    """Whose parts over time, which start at zero, have learned something; width: of the embeddings of text."""
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        sample_size=SIDE // 4, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=width,
        attention_head_dim=8, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    for name, parameter in unet.named_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
        assert parameter.any(), name
    return unet.eval().requires_grad_(False)


def tiny_text_video(folder, scheduler=None, fusion=None) -> TextToVideoTripPipeline:
    """Its tokenizer is written to the folder."""
    parts = tiny_models(folder)
    names = ("vae", "text_encoder", "tokenizer")
    pipe = TextToVideoTripPipeline(
        **{name: parts[name] for name in names},
        unet=tiny_text_unet(), scheduler=scheduler or DDPMScheduler(beta_schedule="scaled_linear"), fusion=fusion,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddim() -> DDIMScheduler:
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True, steps_offset=1)
