"""The JSON file of a recording's own name that lies beside it: the sampling rate that it gives."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import SignalError, printable
from ..signals.validation import is_number
from .channel import AGREEMENT, Channel, names_rate
from .text_files import read_unpacked

MAX_SIDECAR = 1 << 24  # bytes


def sidecar_of(path: Path) -> Path | None:
    """`a.json` of `a.csv` or `a.csv.gz`, where there is one."""
    own = str(path)
    found = f"{os.path.splitext(own[:-3] if own.lower().endswith('.gz') else own)[0]}.json"
    return Path(found) if os.path.isfile(found) and found != own and not os.path.islink(found) else None


def with_rate_beside(channels: Sequence[Channel], path: Path) -> list[Channel]:
    """The channels, those whose file says no rate with the one that its sidecar gives.

    Raises
    ------
    SignalError
        The file says another rate.
    """
    sidecar = sidecar_of(path)
    fs = None if sidecar is None else _stated_rate(sidecar)
    if fs is None or sidecar is None:
        return list(channels)
    own = {each.fs for each in channels if each.fs is not None}
    if own and not any(abs(each / fs - 1) <= AGREEMENT for each in own):
        rates = ", ".join(f"{each:g}" for each in sorted(own))
        raise SignalError(
            f"it is sampled at {rates} Hz, and {printable(sidecar.name)} beside it says {fs:g} Hz: correct one"
        )
    return [replace(each, fs=fs) if each.fs is None else each for each in channels]


def _stated_rate(sidecar: Path) -> float | None:
    """The rate in Hz among the facts of a JSON file; notes of another form say none."""
    try:
        facts = json.loads(read_unpacked(sidecar, MAX_SIDECAR))
    except (ValueError, RecursionError):
        return None
    stated = [value for key, value in facts.items() if names_rate(key)] if isinstance(facts, dict) else []
    rates = {float(each) for each in stated if is_number(each) and each > 0}
    return rates.pop() if len(rates) == 1 else None
