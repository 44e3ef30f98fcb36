"""Butterworth sections and their recursion, against SciPy's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.signal import butter, sosfilt, sosfilt_zi, sosfreqz

from tiny_biomoe.signals.butterworth import STRIDE, Recursion, butterworth, recursion

BANDS = [  # low, high, fs: the table's, at the lowest and the highest rates
    (None, 5.0, 16.0),
    (None, 5.0, 10_000.0),
    (0.04, 1.7, 64.0),
    (0.04, 1.7, 1000.0),
    (0.05, 0.5, 1000.0),
    (0.05, None, 1000.0),
    (40.0, None, 100.0),
    (0.1, 49.9, 100.0),
]


def scipys(order, low, high, fs):
    kind, edges = ("lowpass", high) if low is None else ("highpass", low) if high is None else ("bandpass", (low, high))
    return butter(order, edges, kind, fs=fs, output="sos")


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 10])
@pytest.mark.parametrize(("low", "high", "fs"), BANDS)
def test_sections_have_scipys_response(order, low, high, fs):
    expected, mine = scipys(order, low, high, fs), butterworth(order, fs, low, high)
    assert mine.shape == expected.shape
    frequencies = np.geomspace(1e-3, fs / 2, 400)
    (_, ours), (_, theirs) = (sosfreqz(sections, frequencies, fs=fs) for sections in (mine, expected))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)  # SciPy's own rounding, order 10


def test_an_edge_is_3_db_down_and_the_centre_untouched():
    _, (low, centre, high) = sosfreqz(butterworth(4, 64, 0.5, 8), [0.5, 2.01, 8], fs=64)
    assert np.abs([low, high]) == pytest.approx(np.sqrt(0.5), abs=1e-12)
    assert abs(centre) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("order", [1, 4, 5])
@pytest.mark.parametrize(("low", "high", "fs"), BANDS)
@pytest.mark.parametrize("n", [1, STRIDE - 1, STRIDE, 20_000])
def test_the_recursion_is_scipys_sample_by_sample(order, low, high, fs, n):
    x = np.cumsum(np.random.default_rng(0).standard_normal(n))
    sections = scipys(order, low, high, fs)
    expected, _ = sosfilt(sections, x, zi=sosfilt_zi(sections) * x[0])
    steps = Recursion.of(sections)
    found, _ = steps.run(x, steps.settled * x[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(x).max())


def test_blocks_join():
    steps = recursion(4, 64.0, 0.04, 1.7)
    x = np.random.default_rng(1).standard_normal(1000)
    whole, last = steps.run(x, steps.settled)
    parts, state = [], steps.settled
    for block in np.split(x, [1, 64, 200, 777]):
        part, state = steps.run(block, state)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-13)
    np.testing.assert_allclose(state, last, rtol=0, atol=1e-13)


def test_a_constant_stays_settled():
    steps = recursion(4, 1000.0, None, 5.0)
    found, state = steps.run(np.ones(500), steps.settled)
    np.testing.assert_allclose(found, 1, rtol=0, atol=1e-9)
    np.testing.assert_allclose(state, steps.settled, rtol=0, atol=1e-9)


BYTES = """
import hashlib
import numpy as np
from tiny_biomoe.signals.butterworth import recursion

digest = hashlib.sha256()
for size in (63, 640, 5000, 2**16, 2**16 + 17):
    for order, low, high in ((4, 0.04, 1.7), (4, None, 5.0), (10, 0.5, 8.0)):
        filter = recursion(order, 64.0, low, high)
        y, state = filter.run(np.random.default_rng(0).standard_normal(size), filter.settled)
        digest.update(y.tobytes() + state.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one processor a BLAS has one thread")
def test_the_bytes_do_not_depend_on_the_threads_of_numpys_blas():
    said = set()
    for n in ("1", "2", "4"):
        variables = {name: n for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        run = subprocess.run(
            [sys.executable, "-c", BYTES], env=os.environ | variables, capture_output=True, text=True, check=True
        )
        said.add(run.stdout)
    assert len(said) == 1
