"""Errors of the libraries that decode files -> one clear error for a damaged file."""

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
    *(TokenError, SyntaxError),  # NumPy's headers, and XML
    UserWarning,  # edfio cuts a file short with no more than that
)


@contextmanager
def damage(format_name: str, *more: type[Exception]) -> Iterator[None]:
    """Report a damaged file in one way, whatever the library that decodes it raises.

    Parameters
    ----------
    format_name
        As users know it.
    more
        Exceptions of that library which derive from nothing but `Exception`.

    Raises
    ------
    SignalError
        In place of each of these exceptions, and of a `UserWarning`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            yield
    except SignalError:
        raise
    except (*DAMAGE, *more) as error:
        raise SignalError(f"not a whole {format_name} file ({brief(error)}): fetch it again") from error


def check_samples(n_samples: int) -> None:
    """Refuse what a small file can claim to hold."""
    if n_samples * 8 > MAX_BYTES:
        raise SignalError(f"{n_samples} samples, more than {MAX_BYTES // 8}: choose a column=, or split the file")
