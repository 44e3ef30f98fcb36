"""Held samples: a slow sensor exported at a higher rate is told from a real signal of that rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiny_biomoe.errors import SignalWarning
from tiny_biomoe.readers.held_samples import Held, held, reduced
from tiny_biomoe.readers.read import read
from tiny_biomoe.readers.wide_files import read_each


@pytest.fixture
def slow(rng):
    return 2 + np.cumsum(rng.standard_normal(600)) / 50


def exported(slow: np.ndarray, own: float, fs: float) -> np.ndarray:
    """Each value until the next one came."""
    return slow[np.floor(np.arange(int(slow.size * fs / own)) * own / fs + 1e-9).astype(int)]


@pytest.mark.parametrize(
    ("own", "fs"), [(4, 64), (4, 50), (4, 700), (64, 700), (1, 125), (32, 64), (4, 10), (64, 250), (25, 64)]
)
def test_the_own_samples_come_back(slow, own, fs):
    signal = exported(slow, own, fs)
    found = held(signal)
    assert found.rate(fs) == own
    values, begin = reduced(signal, found)
    assert values.tolist() == slow.tolist()
    assert begin == pytest.approx(0, abs=0.01)
    values, begin = reduced(signal[9:], found := held(signal[9:]))  # cut within a run
    assert values.tolist() == slow[-values.size :].tolist()
    assert begin == pytest.approx((slow.size - values.size) * fs / own - 9, abs=0.15)


def test_values_of_few_digits_and_missing_ones(slow):
    coarse = np.round(slow, 2)
    signal = np.repeat(coarse, 16)
    assert held(signal).period == 16
    assert reduced(signal, held(signal))[0].tolist() == coarse.tolist()
    signal[1600:2400] = np.nan
    values, _ = reduced(signal, held(signal))
    assert np.flatnonzero(np.isnan(values)).tolist() == list(range(100, 150))
    saturation = np.round(97 + 8 * (slow - slow.mean()))
    assert held(np.repeat(saturation, 125)).period == 125


def test_times_that_jitter_do_not_matter(slow, rng):
    arrived = np.arange(600) / 4 + rng.uniform(-0.02, 0.02, 600)
    signal = slow[np.clip(np.searchsorted(arrived, np.arange(9600) / 64, side="right") - 1, 0, None)]
    values, _ = reduced(signal, held(signal))
    assert values.tolist() == slow.tolist()


@pytest.mark.parametrize(
    "signal",
    [
        np.round(np.sin(np.arange(20_000) / 300), 2),  # a coarse converter
        np.round(512 + 100 * np.sin(np.arange(60_000) / 600)),
        np.floor(np.arange(4000) / 10),  # a slope in steps of a converter
        np.where(np.arange(10_000) // 50 % 2, 1.0, 0.0),
        np.zeros(5000),
        np.sin(np.arange(5000)),
        np.repeat([1.0, 5.0, 2.0], 16),  # too few changes to tell
        np.full(5000, np.nan),
    ],
    ids=["coarse sine", "10 bits", "slope", "square wave", "flat", "sine", "few", "missing"],
)
def test_what_is_not_held(signal):
    assert held(signal) is None


@pytest.fixture
def table(tmp_path, slow, rng) -> Path:
    """EDA of 4 Hz beside a pulse, both at 64 Hz, and a trigger that nobody embeds."""
    rows = zip(np.arange(9600) / 64, np.repeat(slow, 16), rng.standard_normal(9600), strict=True)
    text = "".join(f"{t:.6f},{a:.6f},{b:.6f},{a - 2:.6f}\n" for t, a, b in rows)
    (tmp_path / "a.csv").write_text("time [s],EDA,BVP,ACC_X\n" + text)
    return tmp_path / "a.csv"


def test_read_warns_once_with_the_true_rate_or_reads_at_it(table, slow):
    with pytest.warns(SignalWarning, match=r"a\.csv: column 'EDA' repeats each value: it was sampled at 4 Hz") as given:
        found = read(table)
    assert len(given) == 1
    assert 'on_held="reduce" (--on-held reduce)' in str(given[0].message)
    assert [(each.channel, each.fs, each.held_fs) for each in found] == [
        ("EDA", 64, 4),
        ("BVP", 64, None),
        ("ACC_X", 64, None),
    ]
    eda, bvp, _ = read(table, on_held="reduce")
    assert (eda.fs, eda.signal.size, eda.held_fs, bvp.fs) == (4, 600, None, 64)
    np.testing.assert_allclose(eda.signal, slow, atol=1e-6)


def test_the_option_counts_where_many_columns_are_read_in_one_pass(table):
    eda, bvp = read_each(table, [{"column": "EDA"}, {"column": "BVP"}], on_held="reduce")
    assert (eda[0].fs, bvp[0].fs) == (4, 64)


def test_a_start_is_that_of_the_first_value(tmp_path, slow):
    signal = np.repeat(slow, 16)[9:]
    rows = "".join(f"{1_700_000_000 + n / 64:.6f},{a:.6f}\n" for n, a in enumerate(signal))
    (tmp_path / "a.csv").write_text("timestamp [s],EDA\n" + rows)
    (found,) = read(tmp_path / "a.csv", on_held="reduce")
    assert found.start == pytest.approx(1_700_000_000 - 9 / 64, abs=1e-6)
    assert isinstance(held(signal), Held)


def test_a_value_that_is_missing_in_part_of_its_run_comes_back(slow):
    signal = np.repeat(slow, 16)
    signal.reshape(-1, 16)[:, 7:9] = np.nan  # also the middle
    assert reduced(signal, Held(16.0, 0.0))[0].tolist() == slow.tolist()
