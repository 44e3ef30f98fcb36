"""Damaged files: what the libraries that decode them raise, in our words, and claims that are refused."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError

from ..errors import SignalError
from .recording import MAX_BYTES, brief

DAMAGE: tuple[type[Exception], ...] = (  # what those libraries raise on a damaged file
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(TokenError, SyntaxError),  # headers that NumPy parses as Python
    UserWarning,  # a file that is read in part with no more than that
)


@contextmanager
def damage(format_name: str, *more: type[Exception]) -> Iterator[None]:
    """Report in our words that a file is damaged, whatever the library that decodes it raises.

    Parameters
    ----------
    more : exceptions of that library that derive from nothing but `Exception`
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            yield
    except SignalError:
        raise
    except (*DAMAGE, *more) as error:
        raise SignalError(f"not a whole {format_name} file ({brief(error)}): fetch it again") from error


def bounded(n_samples: int) -> None:
    """Refuse what a small file can claim to hold."""
    if n_samples * 8 > MAX_BYTES:
        raise SignalError(f"{n_samples} samples, more than {MAX_BYTES // 8}: choose a column=, or split the file")
