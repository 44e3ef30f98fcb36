"""Streams: order, how far they run ahead, errors from either side, and the caller's threads as they were."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from tiny_biomoe.threads import in_streams, threads


def test_results_come_in_order_from_threads_that_compute_alone():
    def work(item):
        time.sleep(0.01 * (item % 3))
        return item, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    with threads(2):
        found = list(in_streams(work, range(9), 2, 4))
        assert torch.get_num_threads() == 2
    assert found == [(item, 1, False) for item in range(9)]


def test_no_more_is_taken_than_asked_for():
    taken, given = [], []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for result in in_streams(lambda item: time.sleep(0.002) or item, items(), 2, 5):
        given.append(result)
        assert len(taken) - len(given) < 5
    assert given == list(range(20))


@pytest.mark.parametrize("fails", ["function", "items"])
def test_an_error_of_either_side_is_raised_and_threads_are_restored(fails):
    def work(item):
        return 1 // (item - 3) if fails == "function" else item

    def items():
        yield from range(6)
        if fails == "items":
            raise ZeroDivisionError

    before, alive = torch.get_num_threads(), threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_streams(work, items(), 2, 3))
    assert (torch.get_num_threads(), threading.active_count()) == (before, alive)
