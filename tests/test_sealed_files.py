"""Files that are whole or not there, and damage that is found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_biomoe import ConfigError, sealed_files
from tiny_biomoe.sealed_files import read_sealed, sealed, sha256_of, unsealed, write

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "seal"), PLAIN, max_size=4))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_what_is_sealed_comes_back(content):
    assert unsealed(sealed(content)) == content


def test_every_flipped_byte_is_found():
    content = {"name": "shard", "rows": 12, "next": [3, 0.5], "reason": None}
    data = sealed(content)
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        assert unsealed(bytes(spoilt)) in (None, content)  # blanks between two values are not part of the content


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'{"a": 1}', b'{"seal": "0"}', b"[" * 100_000, b"\xff"])
def test_what_was_never_sealed(data, tmp_path):
    (tmp_path / "x.json").write_bytes(data)
    assert read_sealed(tmp_path / "x.json") is None
    assert read_sealed(tmp_path / "missing.json") is None


def test_hashes_are_those_of_the_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x" * 3_000_000)
    second.write_bytes(b"y")
    assert sha256_of(first) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert sha256_of(first, second) == hashlib.sha256(b"x" * 3_000_000 + b"y").hexdigest()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    write(tmp_path / "x", b"old")
    monkeypatch.setattr(f"tiny_biomoe.sealed_files.os.{step}", refuse)
    with pytest.raises(ConfigError, match="No space left on device; 3 bytes are needed"):
        write(tmp_path / "x", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_a_write_reaches_the_disk_with_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(sealed_files.os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    sealed_files.write_whole(tmp_path / "a.json", b"{}")
    assert [Path(each).name.startswith(".a.json.") for each in synced] == [True, False]
    assert synced[1] == str(tmp_path)


def test_row_124_a_cached_file_that_others_may_write_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "cached"
    sealed_files.write_checked(path, b"weights")
    assert sealed_files.read_checked(path) == b"weights"
    path.chmod(0o666)
    assert sealed_files.read_checked(path) is None
    path.chmod(0o644)
    monkeypatch.setattr(sealed_files.os, "geteuid", lambda: os.getuid() + 1)
    assert sealed_files.read_checked(path) is None
