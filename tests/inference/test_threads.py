"""Threads: order, how far they run ahead, errors from either side, how many there are, and forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from textwrap import dedent

import pytest
import torch

from tiny_biomoe.inference.threads import in_threads, processors, thread_count, use_threads


def test_results_come_in_order_from_other_threads():
    def work(item):
        time.sleep(0.01 * (item % 3))
        return item, threading.current_thread() is threading.main_thread()

    assert list(in_threads(work, range(9), 2, 4)) == [(item, False) for item in range(9)]


def test_no_more_is_taken_than_asked_for():
    taken, given = [], []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for result in in_threads(lambda item: time.sleep(0.002) or item, items(), 2, 5):
        given.append(result)
        assert len(taken) - len(given) < 5
    assert given == list(range(20))


@pytest.mark.parametrize("fails", ["function", "items"])
def test_an_error_of_either_side_is_raised_and_the_pool_goes_on(fails):
    def work(item):
        return 1 // (item - 3) if fails == "function" else item

    def items():
        yield from range(6)
        if fails == "items":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_threads(work, items(), 2, 3))
    assert list(in_threads(abs, range(5), 2, 3)) == list(range(5))


def test_the_number_of_threads_is_the_callers_then_pytorchs():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert thread_count() == 2
        with use_threads(3) as used:
            assert (used, thread_count()) == (3, 3)
            with use_threads(None) as inner:
                assert inner == 3
        assert thread_count() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "expected"), [("3", "3"), ("", None), ("many", None), ("0", None)])
def test_without_pytorch_the_environment_decides(given, expected):
    script = "from tiny_biomoe.inference.threads import thread_count; print(thread_count())"
    environment = {**os.environ, "OMP_NUM_THREADS": given}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == (expected or str(processors()))


MODELS = """
    import os, signal, sys, threading, time
    import numpy as np
    from tiny_biomoe.embedding import Embedder
    from tiny_biomoe.inference.threads import use_threads
    x, model = np.sin(np.arange(1000) / 9), Embedder.from_pretrained()
    def alone(n=4):
        with use_threads(n):
            return model.embed(x, fs=100, modality="ecg").tobytes()
    def many(n=4):
        with use_threads(n):
            return {row.tobytes() for row in model.embed([x] * 3, fs=100, modality="ecg")}
    expected = alone(1)
"""


def run(script):
    done = subprocess.run([sys.executable, "-c", dedent(MODELS) + dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_row_121_a_child_forked_while_others_embed_computes_the_same_bytes():
    script = """
        stop = threading.Event()
        def work():
            while not stop.is_set():
                alone(), many()
        workers = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        [worker.start() for worker in workers]
        codes = []
        for i in range(12):
            stop.wait(0.003 * (i % 5))
            if not (child := os.fork()):
                signal.alarm(60)
                os._exit(0 if many() == {alone()} == {expected} else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        print(codes)
    """
    assert set("".join(run(script)).strip("[]").split(",")) == {"0"}


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_row_123_calls_at_once_leave_no_more_threads_than_one_call():
    script = """
        def count():
            time.sleep(0.5)  # threads that have ended are listed for a moment
            return len(os.listdir("/proc/self/task")) - before
        before = len(os.listdir("/proc/self/task"))
        def burst(calls, function):
            barrier = threading.Barrier(calls)
            def call():
                barrier.wait()
                assert function(16) in (expected, {expected})
            threads = [threading.Thread(target=call) for _ in range(calls)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        alone(16)
        print(count() <= 15)
        burst(40, alone)
        print(count() <= 15)
        burst(10, many)
        print(count() <= 15 + 16)
        for n in range(2, 9):
            alone(n)
        print(count() <= 7 + 16)
    """
    assert run(script) == ["True"] * 4
