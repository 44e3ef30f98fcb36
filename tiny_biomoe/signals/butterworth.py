"""Butterworth filters, and a quick recursion in NumPy: importing `scipy.signal` takes as long as half of PyTorch.

A filter is a cascade of second-order sections (b0, b1, b2, 1, a1, a2), in SciPy's layout. Its gain agrees with SciPy's
to 1e-7 where the lower edge is above a hundred-thousandth of the sampling rate; below, both lose digits beside z = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STRIDE = 64  # samples whose responses are one row of a matrix product
ROWS = 32  # of a product at once: a BLAS shares larger ones out among its threads, and then rounds by their number


def butterworth(order: int, fs: float, low: float | None, high: float | None) -> Array:
    """Sections of a digital Butterworth filter, (n_sections, 6), by the bilinear transform.

    Parameters
    ----------
    order : of the low-pass that it is made of; a band-pass has twice as many poles
    fs : sampling rate, Hz
    low, high : edges in Hz, 3 dB down, below fs / 2; None where that side is open, but not both
    """
    poles = np.exp(1j * np.pi * (np.arange(order) * 2 + order + 1) / (2 * order))  # of the analogue low-pass at 1 rad/s
    below, above = (None if edge is None else np.tan(np.pi * edge / fs) for edge in (low, high))
    if below is None:
        poles, zeros, reference = poles * above, [-1.0] * order, 1.0 + 0j
    elif above is None:
        poles, zeros, reference = below / poles, [1.0] * order, -1.0 + 0j
    else:
        half, centre = poles * (above - below) / 2, np.sqrt(above * below)
        root = np.sqrt(half**2 - centre**2)
        poles, zeros = np.concatenate([half + root, half - root]), [1.0] * order + [-1.0] * order
        reference = (1 + 1j * centre) / (1 - 1j * centre)  # where the gain shall be 1
    poles = (1 + poles) / (1 - poles)
    real = np.sort(poles[np.abs(poles.imag) < 1e-12].real)[::-1]
    upper = poles[poles.imag >= 1e-12]
    denominators = [(abs(np.angle(p)), -2 * p.real, abs(p) ** 2) for p in upper]
    denominators += [(0.0, -a - b, a * b) for a, b in zip(real[0::2], real[1::2], strict=False)]
    denominators += [(0.0, -real[-1], 0.0)] if len(real) % 2 else []
    sections = []
    for _, a1, a2 in sorted(denominators):  # the slow poles take the zeros at 0 Hz
        pair, zeros = (zeros[:2], zeros[2:]) if a2 else (zeros[:1], zeros[1:])
        b = np.poly(pair)
        b = np.append(b, np.zeros(3 - len(b)))
        a = np.array([1.0, a1, a2])
        sections.append(np.concatenate([b * np.abs(np.polyval(a, reference) / np.polyval(b, reference)), a]))
    return np.array(sections)


@dataclass(frozen=True)
class Recursion:
    """What `STRIDE` samples of a cascade give, as matrices: y = x @ direct + s @ free, s' = x @ driven + s @ decay.

    A state s holds two numbers a section: the first of the transposed direct form II, and the sum of its two, which
    would be lost to rounding where they nearly cancel, in a band far below the sampling rate.
    """

    direct: Array  # (STRIDE, STRIDE), of inputs on outputs
    free: Array  # (n_states, STRIDE), of the state on outputs
    driven: Array  # (STRIDE, n_states), of inputs on the state after the last
    decay: Array  # (STRIDE + 1, n_states, n_states), of the state on that after so many samples
    settled: Array  # (n_states,), the state that a constant 1 leads to

    @classmethod
    def of(cls, sections: Array) -> Recursion:
        """Step through the cascade once: one column for an impulse, and one for each state alone."""
        n = 2 * len(sections)
        states = np.hstack([np.zeros((n, 1)), np.eye(n)])
        outputs, after = [], [states]
        for step in range(STRIDE):
            y, states = np.zeros(n + 1), states.copy()
            y[0] = step == 0
            for k, (b0, b1, b2, _, a1, a2) in enumerate(sections):
                given, first, total = y, *states[2 * k : 2 * k + 2]
                y, at_zero = b0 * given + first, 1 + a1 + a2
                states[2 * k : 2 * k + 2] = (
                    (b1 - a1 * b0) * given - (1 + a1) * first + total,
                    (b0 + b1 + b2 - at_zero * b0) * given - at_zero * first + total,
                )
            outputs.append(y)
            after.append(states)
        response, trajectory = np.array(outputs), np.array(after)
        lags = np.arange(STRIDE) - np.arange(STRIDE)[:, None]  # of an output behind an input
        settled, level = [], 1.0
        for b0, b1, b2, _, a1, a2 in sections:
            constant, level = level, level * (b0 + b1 + b2) / (1 + a1 + a2)
            start = level - b0 * constant
            settled += [start, (2 + a1) * start - (b1 - a1 * b0) * constant]
        return cls(
            direct=np.where(lags >= 0, response[np.maximum(lags, 0), 0], 0.0),
            free=np.ascontiguousarray(response[:, 1:].T),
            driven=np.ascontiguousarray(trajectory[:0:-1, :, 0]),
            decay=np.ascontiguousarray(trajectory[:, :, 1:].transpose(0, 2, 1)),
            settled=np.array(settled),
        )

    def run(self, x: Array, state: Array) -> tuple[Array, Array]:
        """Filter x, (n,), from a state on: the output, (n,), and the state after it."""
        whole, rest = divmod(x.size, STRIDE)
        strides, tail = x[: whole * STRIDE].reshape(whole, STRIDE), x[whole * STRIDE :]
        states = np.vstack([state, product(strides, self.driven)])  # before each stride: so far what the last one adds
        step, reach = self.decay[-1], 1
        while reach <= whole:  # each line gathers what twice as many before it left behind
            states[reach:] = states[reach:] + product(states[:-reach], step)
            step, reach = step @ step, 2 * reach
        y = np.concatenate([
            (product(strides, self.direct) + product(states[:-1], self.free)).ravel(),
            tail @ self.direct[:rest, :rest] + states[-1] @ self.free[:, :rest],
        ])  # fmt: skip
        return y, tail @ self.driven[STRIDE - rest :] + states[-1] @ self.decay[rest]


def product(rows: Array, matrix: Array) -> Array:
    """`rows @ matrix`, whose bytes do not depend on how many threads NumPy's BLAS may use: (n, k), (k, m) to (n, m)."""
    whole = len(rows) // ROWS * ROWS
    stacked = rows[:whole].reshape(-1, ROWS, rows.shape[1]) @ matrix
    return np.concatenate([stacked.reshape(whole, matrix.shape[1]), rows[whole:] @ matrix])


@lru_cache(maxsize=64)
def recursion(order: int, fs: float, low: float | None, high: float | None) -> Recursion:
    """The recursion of `butterworth`, built once."""
    return Recursion.of(butterworth(order, fs, low, high))
