"""Arithmetic that is counted from a configuration is the arithmetic of the network."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.flops import FORMS, Adapter, base_flops, joint_flops, main
from benchmarks.patch_forms import Setting, inference_forms
from benchmarks.timing import count_flops

RANK, SIZE = 2, 8


@pytest.fixture(scope="module", params=[(8, 16, 16), (8, 64, 64)], ids=["merged", "thin"])
def setting(request):
    torch.manual_seed(0)
    net = UNet2DConditionModel(
        sample_size=SIZE,
        block_out_channels=request.param,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return Setting(net.eval().requires_grad_(False), SIZE, RANK, compiled=False)


def test_the_count_is_that_of_the_network(setting):
    forms = {form.name: form for form in inference_forms(setting)}
    base = base_flops(setting.base.config, SIZE).total()
    assert count_flops(forms["base, 4 rows"].run) == 4 * base
    for name in FORMS:
        form = forms[name]
        rows = 4 if form.reference == "base, 4 rows" else 2
        extra = joint_flops(setting.base.config, SIZE, Adapter(RANK, 2 * RANK), name).total()
        assert count_flops(form.run) == rows * base + extra, name


def test_the_command_prints_the_share_of_each_part(capsys):
    main(["--models", "tiny_sd", "--latent_size", "16"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith(FORMS)] == list(FORMS)
    assert "100.0% (convolutions" in lines[2] and "joint attention" in lines[3]
