"""Precision by what the processor has."""

from __future__ import annotations

import pytest
import torch

from pretraining.precision import on_threads, quick_precision, reproducible


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_f": True, "avx512_bf16": True}, "float32"),
        ({"amx_tile": True, "amx_bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_bfloat16_only_where_a_cpu_multiplies_matrices_in_it(monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert quick_precision() == precision
    assert quick_precision("cuda") == "bfloat16"


def test_this_processor_is_asked():
    assert quick_precision() in ("bfloat16", "float32")


def test_the_callers_threads_and_denormal_numbers_come_back():
    def now():
        return torch.get_num_threads(), (torch.tensor(1e-40) * 1).item() > 0

    before, kept = now()
    with on_threads(before + 1):
        with reproducible(before + 2, 0):
            assert now() == (before + 2, False)
        assert now() == (before + 1, False)
    assert now() == (before, kept) == (before, True)
