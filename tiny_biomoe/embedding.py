"""The one line: signals to vectors with the bundled weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .errors import ConfigError
from .model import Embeddings, TinyBioMoE


@lru_cache(maxsize=1)
def _bundled() -> TinyBioMoE:
    return TinyBioMoE.from_pretrained()


def embed(
    signals: Any,
    fs: float | None = None,
    modality: str | None = None,
    representation: str | list[str] = "scalogram",
    *,
    sampling_rate: float | None = None,
    **options: Any,
) -> Embeddings:
    """`TinyBioMoE.embed` with the bundled weights, loaded once a process; `sampling_rate` is another name of `fs`.

    Examples
    --------
    >>> import pywt
    >>> embed(pywt.data.ecg(), fs=360, modality="ecg", representation=["scalogram", "waveform"]).shape
    (384,)
    """
    if fs is not None and sampling_rate is not None:
        raise ConfigError(f"fs={fs!r} and sampling_rate={sampling_rate!r} are two names of one argument: give one")
    rate = fs if fs is not None else sampling_rate
    return _bundled().embed(signals, rate, modality, representation, **options)  # type: ignore[arg-type]
