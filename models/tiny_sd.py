"""The parts of `tiny_sd`: a Stable Diffusion of 64x64 pixels, small enough to be trained on a CPU."""

import json
import string
import tempfile
from collections.abc import Iterable
from pathlib import Path

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

RESOLUTION = 64
LATENT_CHANNELS = 8  # at 4 a network of this size draws blurred edges
MAX_TOKENS = 32
TEXT_WIDTH = 128


def make_vae() -> AutoencoderKL:
    """Pixels (B, 3, 64, 64) to latents (B, 8, 16, 16)."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def make_unet() -> UNet2DConditionModel:
    """Attention at 16x16, 8x8 and 4x4; `attention_head_dim` is the number of heads, as in Stable Diffusion 1.5."""
    return UNet2DConditionModel(
        sample_size=RESOLUTION // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
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


def make_scheduler() -> DDPMScheduler:
    """v-prediction, so that the last timestep carries signal about the picture; the betas of Stable Diffusion."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
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
