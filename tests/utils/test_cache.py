import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from utils.data.cache import cache_latents, cache_texts, encode_pair
from utils.data.pairs import PairDataset
from utils.data.records import read_records


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    ).eval()


@pytest.fixture
def dataset(folder):
    return PairDataset(read_records(folder), 16, "depth", center_crop=True)


def remove_spread(vae):
    vae.quant_conv.weight.data[4:] = 0
    vae.quant_conv.bias.data[4:] = -60


def folders(cache):
    return sorted(path.name for path in cache.iterdir())


def test_cached_latents_are_draws_of_the_same_posterior(dataset, vae, tmp_path):
    cached = cache_latents(dataset, vae, tmp_path / "cache", batch_size=2)
    draws = torch.stack([cached[1]["latents"] for _ in range(2000)])
    with torch.no_grad():
        posterior = vae.encode(dataset[1]["pixel_values"][None]).latent_dist
    torch.testing.assert_close(draws.mean(0), posterior.mean[0], atol=0.15, rtol=0)
    torch.testing.assert_close(draws.std(0), posterior.std[0], atol=0.15, rtol=0)
    assert cached[1]["caption"] == "scene 1" and len(cached) == 3


def test_a_batch_of_pixels_and_one_of_cached_latents_encode_alike(dataset, vae, tmp_path):
    remove_spread(vae)
    collate = torch.utils.data.default_collate
    pixels = encode_pair(collate([dataset[i] for i in range(3)]), vae)
    cached = cache_latents(dataset, vae, tmp_path / "cache")
    latents = encode_pair(collate([cached[i] for i in range(3)]), vae)
    for a, b in zip(pixels, latents, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)
    assert pixels[0].shape == (3, 4, 8, 8)


def test_without_a_condition_only_images_are_encoded(dataset, vae, tmp_path):
    plain = PairDataset(dataset.records, 16)
    image, condition = encode_pair(
        torch.utils.data.default_collate([cache_latents(plain, vae, tmp_path / "c")[0]]), vae
    )
    assert image.shape == (1, 4, 8, 8) and condition is None


def test_mirrored_samples_are_cached_and_drawn(dataset, vae, tmp_path):
    remove_spread(vae)
    flipping = PairDataset(dataset.records, 16, "depth", center_crop=True, random_flip=True)
    cached = cache_latents(flipping, vae, tmp_path / "cache")
    assert cached.arrays["latents"].shape == (3, 2, 2, 4, 8, 8)
    plain = cache_latents(dataset, vae, tmp_path / "cache")
    np.testing.assert_allclose(cached.arrays["latents"][:, 0], plain.arrays["latents"][:, 0], atol=1e-2)
    draws = {round(cached[0]["latents"].mean().item(), 4) for _ in range(20)}
    means = cached.arrays["latents"][0, :, 0].astype(np.float32).mean(axis=(1, 2, 3))
    assert draws == {round(float(mean), 4) for mean in means} and len(draws) == 2


def test_an_unchanged_cache_is_used_again_without_encoding(dataset, vae, tmp_path):
    cache_latents(dataset, vae, tmp_path / "cache")
    before = folders(tmp_path / "cache")
    vae.encode = None
    cache_latents(dataset, vae, tmp_path / "cache")
    assert folders(tmp_path / "cache") == before


def test_the_kind_of_depth_that_is_not_read_makes_no_other_cache(dataset, vae, tmp_path):
    for kind in ("metres", "disparity"):
        records = [replace(record, depth_kind=kind) for record in dataset.records]
        cache_latents(PairDataset(records, 16, "edge"), vae, tmp_path / "cache")
    assert len(folders(tmp_path / "cache")) == 1


def change_weights(dataset, vae):
    next(vae.parameters()).data[0] += 1
    return dataset


def change_file(dataset, vae):
    os.utime(dataset.records[0].image, (1, 1))
    return dataset


def change_resolution(dataset, vae):
    return PairDataset(dataset.records, 8, "depth")


def change_condition(dataset, vae):
    return PairDataset(dataset.records, 16, "edge")


def drop_a_sample(dataset, vae):
    return PairDataset(dataset.records[1:], 16, "depth")


def change_kind(dataset, vae):
    return PairDataset([replace(record, depth_kind="disparity") for record in dataset.records], 16, "depth")


CHANGES = [change_weights, change_file, change_resolution, change_condition, change_kind, drop_a_sample]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_inputs_make_another_cache(dataset, vae, tmp_path, change):
    cache_latents(dataset, vae, tmp_path / "cache")
    cache_latents(change(dataset, vae), vae, tmp_path / "cache")
    assert len(folders(tmp_path / "cache")) == 2


def test_an_interrupted_encoding_leaves_nothing_behind(dataset, vae, tmp_path):
    vae.encode = interrupt
    with pytest.raises(KeyboardInterrupt):
        cache_latents(dataset, vae, tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


def interrupt(*args):
    raise KeyboardInterrupt


def test_texts_are_embedded_once_each_and_found_by_their_words(tmp_path):
    encoder, seen = nn.Embedding(256, 6), []

    def encode(texts):
        seen.extend(texts)
        return torch.stack([encoder(torch.tensor([len(text)] * 3)) for text in texts])

    texts = ["", "a cube", "a red ball", "a cube"]
    cached = cache_texts(texts, encoder, encode, tmp_path / "cache", batch_size=2)
    assert sorted(seen) == sorted(set(texts)) == sorted(cached)
    torch.testing.assert_close(cached["a cube"], encode(["a cube"])[0].detach(), atol=1e-3, rtol=1e-3)
    seen.clear()
    cache_texts(texts, encoder, encode, tmp_path / "cache")
    assert not seen
    with pytest.raises(KeyError):
        cached["a cone"]


def test_a_changed_image_of_a_pair_makes_another_cache(folder, name_pairs, vae, tmp_path):
    for color in ((10, 200, 30), (200, 10, 30)):
        name_pairs(folder, color)
        cache_latents(PairDataset(read_records(folder, "normals"), 16, "normals"), vae, tmp_path / "cache")
    assert len(folders(tmp_path / "cache")) == 2
