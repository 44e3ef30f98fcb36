"""A recorded module gives the module's bytes, at the first call and at later ones, and leaves no Python to run."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import numpy as np
import pytest
import torch
from torch import nn

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.inference import packed
from tiny_biomoe.inference.engine import exactly, fast_copy
from tiny_biomoe.inference.fast_network import FastNetwork
from tiny_biomoe.inference.recorded import UNRECORDED, Recorded

CPU = torch.device("cpu")


def pictures(n: int, *channels: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, (n, 1, 224, 224, *channels)).astype(np.uint8))


@pytest.mark.parametrize("channels", [(), (3,)], ids=["levels", "rgb"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_call_gives_the_bytes_of_the_layers(dtype, channels):
    fast = FastNetwork(TinyBioMoE.from_pretrained(), dtype).eval()
    recorded = Recorded(fast)
    with exactly(CPU):
        for _ in range(UNRECORDED):
            for picture in pictures(2, *channels):
                assert torch.equal(recorded(picture), fast(picture))
    assert len(recorded._graphs) == 1


def test_threads_that_meet_record_it_once(monkeypatch):
    traced = []
    original = torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", lambda *args, **options: (traced.append(1), original(*args, **options))[1])
    recorded, together = Recorded(nn.Linear(3, 2)), Barrier(4)

    def call(x: torch.Tensor) -> torch.Tensor:
        together.wait()
        with torch.inference_mode():
            return recorded(x)

    inputs = [torch.full((1, 3), float(number)) for number in range(4)]
    with torch.inference_mode():
        for x in inputs[:UNRECORDED]:
            recorded(x)
    assert not traced
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, inputs))
    assert len(traced) == 1
    with torch.inference_mode():
        for x, y in zip(inputs, found, strict=True):
            assert torch.equal(y, recorded._module(x))
        for _ in range(UNRECORDED + 1):
            assert recorded(torch.zeros(2, 3)).shape == (2, 2)  # another shape is recorded by itself
    assert len(traced) == 2


def test_embedding_runs_no_layer_in_python_after_the_first_pictures(monkeypatch):
    model = TinyBioMoE.from_pretrained(compile=False)
    picture = pictures(1)[0].numpy()
    copy = fast_copy(model)
    before = [copy.run(picture) for _ in range(UNRECORDED + 1)][-1]
    for name in ("Dense", "Conv", "Norm"):
        monkeypatch.setattr(getattr(packed, name), "forward", lambda *args: pytest.fail("Python between layers"))
    assert copy.run(picture).tobytes() == before.tobytes()


def test_recording_warns_of_nothing_and_leaves_the_callers_settings():
    optimised = torch._C._get_graph_executor_optimize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TinyBioMoE.from_pretrained(compile=False).embed([np.sin(np.arange(1000) / 7)] * (UNRECORDED + 1), 100, "ecg")
    assert torch._C._get_graph_executor_optimize() == optimised


class Slow(nn.Module):
    def forward(self, x):
        sleep(0.2)
        return x * float(x.shape[0])  # tracing warns of the size


def test_two_recordings_at_once_leave_the_filters_of_warnings_as_they_were():
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda delay: (sleep(delay), Recorded(Slow())._record(torch.ones(2)))[1], (0.0, 0.1)):
            assert result(torch.ones(2)).tolist() == [2.0, 2.0]
    assert warnings.filters == before
