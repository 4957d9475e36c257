"""The parts of tiny_sd."""

import torch
from transformers import CLIPTokenizer

from models.tiny_sd import (
    LATENT_CHANNELS,
    MAX_TOKENS,
    make_scheduler,
    make_tokenizer,
    make_unet,
    make_vae,
    narrow_latents,
)
from utils.scenes import caption, sample_scene

CAPTIONS = [caption(sample_scene(seed)) for seed in range(200)]


def test_each_word_of_the_captions_is_one_token():
    tokenizer = make_tokenizer(CAPTIONS)
    for text in CAPTIONS:
        words = text.replace(",", " ,").split()
        assert [token.removesuffix("</w>") for token in tokenizer.tokenize(text)] == words


def test_captions_fit_with_a_trigger_word():
    tokenizer = make_tokenizer([*CAPTIONS, "depth_map"])
    assert max(len(tokenizer(f"depth_map, {text}").input_ids) for text in CAPTIONS) <= MAX_TOKENS


def test_unknown_words_are_spelled_and_not_lost():
    assert make_tokenizer(CAPTIONS).tokenize("zoo") == ["z", "o", "o</w>"]


def test_a_saved_tokenizer_gives_the_same_tokens(tmp_path):
    tokenizer = make_tokenizer(CAPTIONS)
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded(CAPTIONS).input_ids == tokenizer(CAPTIONS).input_ids


def test_autoencoder_and_unet_agree_on_the_latents():
    with torch.no_grad():
        latents = make_vae().encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean
        assert latents.shape == (1, LATENT_CHANNELS, 16, 16)
        prediction = make_unet()(latents, 3, torch.zeros(1, MAX_TOKENS, 128)).sample
    assert prediction.shape == latents.shape


@torch.no_grad()
def test_narrowed_latents_are_the_fullest_channels_with_mean_0_and_deviation_1():
    wide, pixels = make_vae(8), torch.rand(4, 3, 64, 64) * 2 - 1
    wide.quant_conv.bias[8:] = torch.tensor(
        [0.0, -12, 0, -12, -12, 0, -12, 0]
    )  # log variances: small noise is a full channel
    narrow = narrow_latents(wide, pixels, 4)
    expected = wide.encode(pixels).latent_dist.mean[:, [1, 3, 4, 6]]
    expected = (expected - expected.mean((0, 2, 3), keepdim=True)) / expected.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(narrow.encode(pixels).latent_dist.mean, expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_narrowed_decoder_draws_as_the_wide_one_with_the_other_channels_at_their_mean():
    wide, pixels = make_vae(8), torch.rand(4, 3, 64, 64) * 2 - 1
    wide.quant_conv.bias[8:] = torch.tensor([-12.0] * 4 + [0] * 4)
    latents = wide.encode(pixels).latent_dist.mean
    latents[:, 4:] = latents[:, 4:].mean((0, 2, 3), keepdim=True)
    wide.post_quant_conv.bias.copy_(-wide.post_quant_conv.weight[..., 0, 0] @ latents.mean((0, 2, 3)))
    narrow = narrow_latents(wide, pixels, 4)
    drawn = narrow.decode(narrow.encode(pixels).latent_dist.mean).sample
    torch.testing.assert_close(drawn, wide.decode(latents).sample, atol=1e-4, rtol=1e-3)


def test_files_stay_below_15_mb_in_float16():
    assert all(2 * sum(p.numel() for p in net.parameters()) < 15e6 for net in (make_vae(), make_unet()))


def test_the_scheduler_predicts_v():
    assert make_scheduler().config.prediction_type == "v_prediction"
