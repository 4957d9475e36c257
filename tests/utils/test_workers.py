"""Work over processes gives what it gives in one."""

import pytest

from utils.workers import map_in_order


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(num_workers):
    assert list(map_in_order(abs, [3, -1, -2], num_workers)) == [3, 1, 2]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_a_task_raises_reaches_the_caller(num_workers):
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_order(int, ["1", "x"], num_workers))
