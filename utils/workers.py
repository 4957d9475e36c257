"""Work split over processes of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence


def map_in_order(function: Callable, tasks: Sequence, num_workers: int) -> Iterator:
    """`function` of each task, in order; with one worker in this process.

    Workers are started afresh: a fork of a process that has threads, as PyTorch's, may hang. Function and tasks have to
    pickle.
    """
    if num_workers == 1:
        yield from map(function, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
        yield from pool.imap(function, tasks)
