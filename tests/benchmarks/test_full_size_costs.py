"""Memory and arithmetic that are counted from shapes."""

from pathlib import Path

import pytest
import torch
from torch import nn

import patch
from benchmarks.full_size_costs import STATE, WEIGHT, Job, count, count_kept, image_inputs, jobs, parser
from tests.tiny_pipeline import tiny_models

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_a_chain_keeps_is_the_input_of_each_layer():
    network, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 4, requires_grad=True)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)

    class BasicTransformerBlock(Wrapped):
        pass

    kept, checkpointed = count_kept(BasicTransformerBlock(), {"x": x})
    assert kept == 4 * 3 * (4 + 8)  # x, and the output of the first layer after its ReLU
    assert checkpointed == kept + 4 * 3 * 4  # nothing is spared where there is one block, and its input stays


@pytest.fixture(scope="module")
def tiny_job(tmp_path_factory):
    def make():
        unet = tiny_models(tmp_path_factory.mktemp("words"))["unet"]
        patch.add_joint(unet, "depth", rank=2)
        patch.set_pairs(unet, [(0, 1, "depth")])
        return unet.to("meta"), patch.joint_parameters(unet, "depth")

    def inputs(pairs):
        return image_inputs(8)(pairs) | {"encoder_hidden_states": torch.randn(2 * pairs, 5, 8)}

    return Job(make, inputs, 1, 1, 1)


def test_the_costs_of_a_joint_training_follow_from_its_numbers(tiny_job):
    unet, trained = tiny_job.make()
    costs = count(tiny_job)
    numbers, learnt = (sum(p.numel() for p in parameters) for parameters in (unet.parameters(), trained))
    assert costs.held == WEIGHT * numbers + STATE * learnt
    assert 0 < costs.kept_checkpointed < costs.kept
    assert costs.flops > 0


def test_the_trainings_are_those_of_the_page():
    names = list(jobs(parser().parse_args([])))
    page = (REPOSITORY / "docs/real_models.md").read_text()
    assert len(names) == 3 and all(f"\n| {name} |" in page for name in names)
