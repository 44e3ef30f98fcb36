"""Files that are there whole or not at all, whatever happens to the machine; hashes by which damage is found."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from threading import get_ident
from typing import Any

from .errors import ConfigError

BLOCK = 1 << 20  # bytes hashed at a time
RESUME = ": make room and run the same command again; what is written stays and is not computed anew"


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file so that its name holds the old content or the new one, also after a power cut.

    The bytes go to a file beside it and onto the disk, and only then take the name; the folder is synced last.

    Raises
    ------
    OSError
        The disk is full or refuses; the name keeps what it held, or holds all that is new.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            if mode is not None:
                os.chmod(partial, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        remove(partial)


def write(path: Path, data: bytes, remedy: str = RESUME) -> None:
    """`write_whole` for what a user asked for, by default of a run that can be resumed.

    Raises
    ------
    ConfigError
        The disk is full or refuses: what to do.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise ConfigError(
            f"{str(path)!r} cannot be written ({error.strerror}; {len(data)} bytes are needed){remedy}"
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk."""
    if os.name == "nt":  # a folder cannot be opened there, and its names are written through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that syncs no folders
            raise
    finally:
        os.close(handle)


def write_checked(path: Path, data: bytes) -> None:
    """`write_whole` of a file in a shared cache: the 32 bytes of its sha256, then the data."""
    write_whole(path, hashlib.sha256(data).digest() + data, mode=0o644)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote; None where it is missing or damaged, or where another user could have written it.

    The file is opened once, and what was checked is what is read.
    """
    try:
        with path.open("rb") as file:
            if hasattr(os, "geteuid"):  # not on Windows
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return None
            kept = file.read()
    except OSError:
        return None
    return kept[32:] if hashlib.sha256(kept[32:]).digest() == kept[:32] else None


def remove(path: Path) -> None:
    """Remove a file that may be gone, or that a broken disk does not let go."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # a partial file is never read, and the next run removes it


def sha256_of(*paths: Path) -> str:
    """Digest of the content of one file, or of several in a row."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def plain_json(value: Any) -> bytes:
    """JSON that is equal where the value is equal."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def sealed(content: dict[str, Any], indent: int | None = 1) -> bytes:
    """A JSON object with its own sha256 under `seal`, for `unsealed` to find damage by.

    Without `indent` it is one line, written several times as fast.
    """
    seal = hashlib.sha256(plain_json(content)).hexdigest()
    return json.dumps({**content, "seal": seal}, sort_keys=True, indent=indent).encode() + b"\n"


def unsealed(data: bytes) -> dict[str, Any] | None:
    """What `sealed` was given, or None where the bytes are not its own any more."""
    try:
        content = json.loads(data)
        seal = content.pop("seal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return content if hashlib.sha256(plain_json(content)).hexdigest() == seal else None


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The content of a sealed file, or None where it is missing or damaged."""
    try:
        return unsealed(path.read_bytes())
    except OSError:
        return None
