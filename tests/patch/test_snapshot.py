"""What counts as a change of weights."""

import copy

import pytest
import torch

from patch.snapshot import PLACES, WHOLE, Snapshot


class TestSnapshot:
    """Of a layer whose weight is larger than what is compared as a whole."""

    @pytest.fixture
    def layer(self):
        return torch.nn.Linear(64, 2 * WHOLE // 64, dtype=torch.bfloat16)

    @pytest.fixture
    def snapshot(self, layer):
        return Snapshot([layer], [])

    def test_unchanged(self, layer, snapshot):
        assert not snapshot.changed()
        layer.weight.data = layer.weight.data.clone()
        assert not snapshot.changed()
        assert not copy.deepcopy((snapshot, layer))[0].changed()

    def test_one_number_that_is_counted(self, layer, snapshot):
        with torch.no_grad():
            layer.weight[3, 5] += 1
        assert snapshot.changed()

    def test_one_number_of_a_small_tensor_that_is_not_counted(self, layer, snapshot):
        layer.bias.data[-1] += 1
        assert snapshot.changed()

    def test_a_large_tensor_that_is_not_counted(self, layer, snapshot):
        layer.weight.data.mul_(1.5)
        assert snapshot.changed()
        assert len(Snapshot([layer], []).views[torch.bfloat16][0]) == PLACES

    def test_after_the_memory_was_let_go(self, layer, snapshot):
        snapshot.release()
        assert snapshot.views is None and not snapshot.changed()
        snapshot.release()
        layer.weight.data.mul_(1.5)
        assert snapshot.changed()

    def test_another_precision(self, layer, snapshot):
        layer.float()
        assert snapshot.changed()
