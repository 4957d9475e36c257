import json
from dataclasses import asdict

import pytest
import torch

from utils.diffusion.pairs import with_trigger
from utils.latents import LatentScale


def test_the_measured_scale_brings_latents_to_mean_0_and_deviation_1_and_back():
    latents = 1.48 * torch.randn(8, 4, 16, 16) + 0.3
    scale = LatentScale.measure(latents)
    seen = scale.normalize(latents)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.std()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scale.denormalize(seen), latents, atol=1e-5)


def test_each_channel_may_have_a_scale_of_its_own_which_json_keeps():
    latents = torch.randn(8, 3, 4, 16, 16) * torch.tensor([1.4, 0.6, 0.9, 0.5]).view(4, 1, 1) + 0.3
    scale = LatentScale.measure_channels(latents)
    seen = scale.normalize(latents).movedim(-3, 0).flatten(1)
    assert seen.mean(dim=1).tolist() == pytest.approx([0] * 4, abs=1e-5)
    assert seen.std(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    assert torch.allclose(scale.denormalize(scale.normalize(latents)), latents, atol=1e-5)
    assert LatentScale.read(json.loads(json.dumps(asdict(scale)))) == scale


def test_without_a_measurement_latents_stay_as_they_are():
    latents = torch.randn(2, 4, 8, 8)
    assert torch.equal(LatentScale().normalize(latents), latents)
    assert torch.equal(LatentScale().denormalize(latents), latents)


@pytest.mark.parametrize(
    ("trigger", "caption", "text"),
    [("depth_map", "a cube", "depth_map, a cube"), ("depth_map", "", "depth_map"), ("", "a cube", "a cube")],
)
def test_the_trigger_word_leads_the_caption(trigger, caption, text):
    assert with_trigger(trigger, caption) == text
