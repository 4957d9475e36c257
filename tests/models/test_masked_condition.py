"""A UNet that is conditioned on any frames begins as Stable Video Diffusion's, bit for bit."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from utils.diffusion.known_frames import encode_known_frames
from utils.diffusion.svd_condition import ConditionEncoder

F, SIDE = 4, 32
NUMBERS = (7.0, 127.0, 0.02)


@pytest.fixture
def masked(tiny_svd):
    return UNetSpatioTemporalMaskedConditionModel.from_unet(tiny_svd.unet).eval()


@pytest.fixture
def encoder(tiny_svd):
    return ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)


def images(count):
    return torch.rand(2, count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def predict(unet, condition, seed=1):
    noisy = torch.randn(2, F, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(seed))
    sample = torch.cat([noisy, condition.image_latents], dim=2)
    with torch.no_grad():
        return unet(sample, torch.tensor(0.3), condition.image_embeddings, condition.time_ids, return_dict=False)[0]


def test_with_the_first_frame_alone_it_is_the_base_bit_for_bit(tiny_svd, masked, encoder):
    known = images(1)
    noise = torch.zeros_like(known)
    plain = predict(tiny_svd.unet, encoder(known[:, 0], F, *NUMBERS, noise[:, 0]))
    assert torch.equal(predict(masked, encode_known_frames(encoder, known, [0], F, *NUMBERS, noise)), plain)


def test_the_mask_channel_says_which_frames_are_known(encoder):
    condition = encode_known_frames(encoder, images(2), [0, F - 1], F, *NUMBERS)
    mask = condition.image_latents[:, :, -1]
    assert mask.flatten(2).mean(dim=2).tolist() == [[1, 0, 0, 1]] * 2
    assert condition.image_embeddings.shape[1] == 2


def test_unknown_frames_have_the_latents_of_the_guess_and_the_embedding(masked, encoder):
    known, guess = images(2), images(F).flip(-1)
    noise = torch.zeros_like(known)
    condition = encode_known_frames(encoder, known, [0, F - 1], F, *NUMBERS, noise, guess)
    latents = condition.image_latents[:, :, :-1]
    torch.testing.assert_close(latents[:, 1], encoder.encode_latents(guess[:, 1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents[:, -1], encoder.encode_latents(known[:, 1]), rtol=0, atol=1e-5)
    plain = predict(masked, condition)
    masked.mask_embedding.data += 1
    assert not torch.allclose(predict(masked, condition), plain, atol=1e-2)


def test_without_a_guess_unknown_frames_have_the_embedding_alone(masked, encoder):
    condition = encode_known_frames(encoder, images(2), [0, F - 1], F, *NUMBERS)
    assert not condition.image_latents[:, 1:-1].any() and condition.image_latents[:, 0].any()
    ones = condition.image_latents.clone()
    ones[:, 1:-1, :-1] = 1
    by_latents = predict(masked, replace(condition, image_latents=ones))
    masked.mask_embedding.data += 1
    assert torch.equal(predict(masked, condition), by_latents)


def test_the_last_frame_changes_the_prediction(masked, encoder):
    known = images(2)
    noise = torch.zeros_like(known)
    plain = predict(masked, encode_known_frames(encoder, known, [0, F - 1], F, *NUMBERS, noise))
    known[:, 1] *= -1
    assert not torch.allclose(
        predict(masked, encode_known_frames(encoder, known, [0, F - 1], F, *NUMBERS, noise)), plain
    )


def test_what_is_new_learns(masked, encoder):
    condition = encode_known_frames(encoder, images(2), [0, F - 1], F, *NUMBERS)
    sample = torch.cat([torch.randn(2, F, 4, SIDE // 4, SIDE // 4), condition.image_latents], dim=2)
    masked.requires_grad_(True)
    out = masked(sample, torch.tensor(0.3), condition.image_embeddings, condition.time_ids, return_dict=False)[0]
    out.square().mean().backward()
    assert masked.mask_embedding.grad.abs().sum() > 0
    assert masked.conv_in.weight.grad[:, -1].abs().sum() > 0


def test_saved_and_loaded_it_predicts_the_same(masked, encoder, tmp_path):
    masked.mask_embedding.data += 0.5
    masked.save_pretrained(tmp_path)
    loaded = UNetSpatioTemporalMaskedConditionModel.from_pretrained(tmp_path).eval()
    condition = encode_known_frames(encoder, images(2), [0, F - 1], F, *NUMBERS)
    assert torch.equal(predict(loaded, condition), predict(masked, condition))


def test_a_unet_with_an_adapter_or_a_mask_channel_is_refused(tiny_svd, masked):
    with pytest.raises(ValueError, match="mask channel already"):
        UNetSpatioTemporalMaskedConditionModel.from_unet(masked)
    inject_adapter_in_model(LoraConfig(target_modules=["to_q"]), tiny_svd.unet, "style")
    with pytest.raises(ValueError, match="style"):
        UNetSpatioTemporalMaskedConditionModel.from_unet(tiny_svd.unet)


@pytest.mark.parametrize("places", [[1, 3], [0, 4], [3, 0], [0]])
def test_numbers_that_do_not_fit_are_refused(encoder, places):
    with pytest.raises(ValueError, match="number them"):
        encode_known_frames(encoder, images(2), places, F, *NUMBERS)
