"""Text files: bytes -> UTF-8 lines of bounded length, none of them blank, no quote left open.

Rows are counted from 1, as an editor or a spreadsheet shows them: comments and header included.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
import zlib
from pathlib import Path

import numpy as np

from ..errors import ConfigError, SignalError
from .channel import MAX_BYTES

EXCEL = re.compile(rb'"?sep=.?"?')  # what Excel writes above a table
BLANK = re.compile(rb"\n *\n")
MAX_LINE = 1 << 20  # bytes: tens of thousands of columns; what is longer is no table, or one that lies on its side


def read_lines(path: Path, encoding: str = "utf-8") -> tuple[list[str], bytes]:
    """The comments above a table, and the table: UTF-8, a row a line, each line ended by one newline but the last.

    Raises
    ------
    SignalError
        Too large, not text, damaged lines, or nothing but comments.
    ConfigError
        An encoding that Python does not know.
    """
    data = read_unpacked(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SignalError(f"the file holds more than {MAX_BYTES} bytes of text: split it, or convert it to Parquet")
    text = _as_utf8(data, encoding)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if (nul := text.find(b"\0")) >= 0:
        raise SignalError(
            f"row {text.count(10, 0, nul) + 1} holds a NUL byte: the file is damaged, or not text; UTF-16 text needs "
            'encoding="utf-16" (--encoding utf-16)'
        )
    comments, start = _comments(text)
    last = len(text.rstrip(b" \t\n"))
    stop = text.find(b"\n", last)  # blank lines at the end are no samples
    if last <= start:
        raise SignalError("the file holds no samples: it is empty, or has comments only")
    body = text[start : None if stop < 0 else stop]
    _check_lines(body, len(comments) + 1)
    return comments, body


def read_unpacked(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file, unpacked where it is compressed with gzip; a bomb unpacks to no more.

    Raises
    ------
    SignalError
        Damaged gzip data.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return file.read(min(limit, os.fstat(file.fileno()).st_size))  # a limit is what read() sets aside
            with gzip.GzipFile(fileobj=file) as unpacked:
                return unpacked.read(limit)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SignalError(f"the gzip data is damaged or cut short ({error}): fetch the file again") from error


def _as_utf8(data: bytes, encoding: str) -> bytes:
    try:
        utf8 = codecs.lookup(encoding).name == "utf-8"
        if utf8 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SignalError('the file is UTF-16 text: pass encoding="utf-16" (--encoding utf-16)')
        if utf8:
            data = data.removeprefix(codecs.BOM_UTF8)
        return data if utf8 and data.isascii() else data.decode(encoding).encode()
    except LookupError as error:
        raise ConfigError(f"unknown encoding {encoding!r}: pass e.g. utf-8, utf-16, latin-1 or cp1252") from error
    except UnicodeDecodeError as error:
        raise SignalError(
            f"row {data.count(10, 0, error.start) + 1}: byte 0x{data[error.start]:02x} is not {encoding} text: if the "
            'file is text, name its encoding, e.g. encoding="latin-1" (--encoding latin-1)'
        ) from error


def _comments(text: bytes) -> tuple[list[str], int]:
    """The comments, blank lines and Excel's `sep=;` at the top, one a row, and where the table begins."""
    comments: list[str] = []
    start = 0
    while start < len(text):
        line = text[start : start + MAX_LINE + 1].partition(b"\n")[0]
        comment = line.strip()
        if not start and EXCEL.fullmatch(comment):
            comment = b""
        elif comment and not comment.startswith((b"#", b"%")):
            break
        if len(line) > MAX_LINE:
            raise _too_long(len(comments) + 1)
        comments.append(comment.decode())
        start += len(line) + 1
    return comments, start


def _too_long(row: int) -> SignalError:
    return SignalError(f"row {row} is longer than {MAX_LINE} bytes: a table has one time a row; is it transposed?")


def _check_lines(body: bytes, first_row: int) -> None:
    values = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero(values == ord("\n"))
    if values.size > MAX_LINE:
        lengths = np.diff(ends, prepend=-1, append=values.size)  # with the newline
        if lengths.max() > MAX_LINE + 1:
            raise _too_long(first_row + int(lengths.argmax()))
    if blank := BLANK.search(body):  # neither the first line nor the last one is
        raise SignalError(
            f"row {first_row + body.count(10, 0, blank.end()) - 1} is blank: write NaN if a sample is missing there "
            "(skipping would shift time); lines above a table begin with #"
        )
    if b'"' in body:
        quotes = np.bincount(np.searchsorted(ends, np.flatnonzero(values == ord('"'))))
        if (odd := np.flatnonzero(quotes % 2)).size:
            raise SignalError(f"row {first_row + int(odd[0])} has a quote that is not closed: mend the row")
