"""Damaged files: what the libraries that decode them raise, in our words, and claims that are refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SignalError, TinyBioMoEError, brief
from .channel import MAX_BYTES


@contextmanager
def damage(format_name: str) -> Iterator[None]:
    """Report in our words that a file is damaged, whatever the library that decodes it raises.

    A warning of that library, which reads a file in part with no more than that, is an error too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            yield
    except TinyBioMoEError:
        raise
    except MemoryError as error:  # asked for by a length that is damaged, more often than by one that is true
        raise SignalError(
            f"the {format_name} file says that it holds more than fits into memory: fetch it again, or choose a column="
        ) from error
    except Exception as error:  # some raise what derives from nothing else
        raise SignalError(f"not a whole {format_name} file ({brief(error)}): fetch it again") from error


def bounded(n_samples: int, remedy: str = "choose a column=, or split the file") -> None:
    """Refuse what a small file can claim to hold."""
    if n_samples * 8 > MAX_BYTES:
        raise SignalError(f"{n_samples} samples, more than {MAX_BYTES // 8}: {remedy}")
