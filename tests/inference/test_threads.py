"""Streams: order, how far they run ahead, errors from either side, and the caller's threads as they were."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from textwrap import dedent

import pytest
import torch

from tiny_biomoe.inference.threads import callers_threads, in_streams, threads


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


def test_a_call_in_another_thread_does_not_take_this_ones_number_for_the_callers():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with threads(1):
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second():
        first_in.wait(10)
        seen.append(callers_threads())
        with threads(1):
            second_in.set()
            first_out.wait(10)

    workers = [threading.Thread(target=work) for work in (first, second)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        fresh.start()
        fresh.join()
        assert seen == [3, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_gives_the_same_bytes_and_does_not_wait_for_threads_that_it_lacks():
    program = """
        import os, signal, sys
        import numpy as np, torch
        from tiny_biomoe import TinyBioMoE
        torch.set_num_threads(2)
        x, model, hooked = np.sin(np.arange(1000) / 9), TinyBioMoE.from_pretrained(), TinyBioMoE.from_pretrained()
        hooked.gate.register_forward_hook(lambda module, given, gave: gave)
        def vectors():
            fresh = TinyBioMoE.from_pretrained()
            return [m.embed(x, fs=100, modality="ecg") for m in (model, fresh, hooked)]
        expected = vectors()
        if not (child := os.fork()):
            signal.alarm(60)
            found = vectors()
            same = all(found[i].tobytes() == expected[i].tobytes() for i in range(2))
            os._exit(0 if same and np.allclose(found[2], expected[2], rtol=0, atol=1e-5) else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
