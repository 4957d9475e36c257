"""What docs/patch.md shows runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

import patch

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "patch.md").read_text(), re.DOTALL)


def test_the_example_and_the_file_it_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[0], {})  # noqa: S102
    exec(BLOCKS[3], {})  # noqa: S102


def test_inference(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y")])
    expected = tiny.run(joint_net, batch=2)[:1]
    latents, levels, text = tiny.inputs("sd", 2).values()
    names = {"patch": patch, "torch": torch, "unet": joint_net, "latents": latents, "levels": levels, "text": text}
    exec(BLOCKS[1], names)  # noqa: S102
    torch.testing.assert_close(names["noise"], expected, atol=1e-5, rtol=1e-5)


def test_the_steps(net):
    exec(BLOCKS[2], {"patch": patch, "unet": net, "LoraConfig": LoraConfig})  # noqa: S102
    assert [(pair.x, pair.y) for pair in patch.get_pairs(net)] == [(0, 1)]


@pytest.mark.parametrize("name", patch.__all__)
def test_every_public_name_is_explained(name):
    assert getattr(patch, name).__doc__
    assert getattr(patch.patch, name) is getattr(patch, name)
