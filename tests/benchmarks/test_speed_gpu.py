"""The accelerator's bench: what it calls the products alone is the network's arithmetic, all of it."""

from __future__ import annotations

from timeit import timeit

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import speed_gpu
from tiny_biomoe import TinyBioMoE


def test_the_products_alone_are_the_arithmetic_of_the_network():
    again = speed_gpu.products_alone(TinyBioMoE.from_pretrained(), torch.zeros(2, 224, 224, dtype=torch.uint8), False)
    with FlopCounterMode(display=False) as counter:
        again()
    assert counter.get_total_flops() == pytest.approx(2 * 3.08e9, rel=0.05)


def test_seconds_are_the_median_of_the_calls_behind_two_that_warm_up(monkeypatch):
    clock = iter([0, 50, 0, 40, 0, 3, 0, 2, 0, 9])
    monkeypatch.setattr(speed_gpu.time, "perf_counter", lambda: next(clock))
    assert speed_gpu.seconds(lambda: None, torch.device("cpu"), 3) == 3


def test_a_table_line_on_a_cpu(monkeypatch):
    monkeypatch.setattr(speed_gpu, "seconds", lambda case, *_: timeit(case, number=1))
    lines = list(speed_gpu.rates(torch.device("cpu"), batch=1, windows=1, repetitions=1))
    assert [line.split(" | ")[1] for line in lines] == ["float32", "tf32", "bfloat16"]
    for line in lines:
        products, network, share, whole = line.strip("| ").split(" | ")[2:]
        assert min(map(float, (products, network, whole))) > 0
        assert share.endswith("%")
    assert torch.get_float32_matmul_precision() == "highest"
