"""Files of one commit of a Hub repository, through huggingface_hub's own client and its cache.

The client is led in small steps, because of three habits: left alone it waits minutes for a stalled server; asked for
two files of a branch that moves in between, it mixes two commits; and with `local_files_only` it may still connect,
to report its use. Nothing here trusts what was fetched: `weights` verifies it.
"""

from __future__ import annotations

import os
import re
import shlex
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is the client's own, of whichever library
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import WeightsError
from .loading import REPO_ID

REVISION = re.compile(r"\w[\w.+@/-]{0,199}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
PAUSES = (1.0, 2.0)  # seconds before a second and a third try, where the server failed at the one before
TROUBLE = (HTTPError, EntryNotFoundError, OSError, ValueError, RuntimeError)  # what the client and its helpers raise

Layouts = tuple[tuple[str, ...], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A repository and how to reach it, in the arguments that Hub users know."""

    repo_id: str
    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        for kind, value, form in (("repository", self.repo_id, REPO_ID), ("revision", self.revision, REVISION)):
            if value is not None and (not form.fullmatch(value) or ".." in value or "--" in value or "//" in value):
                example = "owner/name" if kind == "repository" else "a branch, a tag or a commit"
                raise WeightsError(f"{value!r} cannot be the {kind} of weights on the Hub; it has the form: {example}")

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision or constants.DEFAULT_REVISION}"

    @property
    def cache(self) -> Path:
        """The folder of the client's cache."""
        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser()

    @property
    def offline(self) -> bool:
        """Whether no connection may be opened."""
        return self.local_files_only or constants.HF_HUB_OFFLINE


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit, in the client's cache."""

    commit: str
    files: dict[str, Path]

    def stated_sha256(self, name: str) -> str | None:
        """The sha256 that the Hub states for a large file, by which the cache names it; None where it is not known."""
        path = self.files[name]
        blob = Path(os.readlink(path)).name if path.is_symlink() else ""
        return blob if SHA256.fullmatch(blob) else None


def fetch(place: Place, layouts: Layouts, *, force: bool = False) -> Snapshot:
    """Fetch the files of the first layout that the repository has in full.

    Parameters
    ----------
    place : which repository, and how to reach it
    layouts : alternatives, each a tuple of file names, the likeliest first
    force : download even what the cache holds

    Warns
    -----
    UserWarning
        The Hub does not answer, and the commit that the cache holds is used.

    Raises
    ------
    WeightsError
        No such repository, revision or files; no permission; no answer and nothing in the cache; or no room on disk.
    """
    pinned = COMMIT.fullmatch(place.revision or "")
    if (place.offline or pinned) and not force and (cached := _cached(place, layouts)):
        return cached
    if place.offline:
        raise WeightsError(_how_to_prepare(place, force))
    try:
        _patiently(partial(_knock, place, layouts[0][0]))
    except TROUBLE as error:
        cached = _cached(place, layouts) if _is_away(error) and not force else None
        if cached is None:
            raise _explain(error, place) from error
        warnings.warn(f"{_explain(error, place)}. Used instead: commit {cached.commit}, from the cache", stacklevel=2)
        return cached
    try:
        snapshot = _patiently(partial(_download, place, layouts, force))
    except TROUBLE as error:
        raise _explain(error, place) from error
    if snapshot is None:
        wanted = " nor ".join(" with ".join(names) for names in layouts)
        raise WeightsError(f"{place}: the repository holds no weights, neither {wanted}; name another")
    return snapshot


def _cached(place: Place, layouts: Layouts) -> Snapshot | None:
    """What the cache holds of the revision. (`hf_hub_download` would do, if it opened no connection.)"""
    for names in layouts:
        found = [try_to_load_from_cache(place.repo_id, name, place.cache, place.revision) for name in names]
        paths = [Path(path) for path in found if isinstance(path, str)]
        if len(paths) == len(names):
            return Snapshot(paths[0].parent.name, dict(zip(names, paths, strict=True)))
    return None


def _patiently(request: Callable[[], T]) -> T:
    """What a request gives, asked again where the server failed at it."""
    for pause in PAUSES:
        try:
            return request()
        except HfHubHTTPError as error:
            if (_status(error) or 0) < 500:
                raise
        time.sleep(pause)
    return request()


def _knock(place: Place, name: str) -> None:
    """Ask one small question, so that trouble is met before anything is fetched, within one time-out."""
    url = hf_hub_url(place.repo_id, name, revision=place.revision)
    try:
        answer = get_hf_file_metadata(url, token=place.token, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except EntryNotFoundError:
        return  # the repository is there, if without this file
    if answer.commit_hash is None:
        raise FileMetadataError("the answer names no commit")


def _download(place: Place, layouts: Layouts, force: bool) -> Snapshot | None:
    for names in layouts:
        revision, files = place.revision, {}
        try:
            for name in names:
                files[name] = Path(
                    hf_hub_download(
                        place.repo_id, name, revision=revision, token=place.token,
                        cache_dir=place.cache, force_download=force,
                    )
                )  # fmt: skip
                revision = files[name].parent.name  # the commit, for the next file: a branch may move in between
        except LocalEntryNotFoundError:
            raise  # no answer, which is not the same as no such file
        except EntryNotFoundError:
            continue
        return Snapshot(files[names[0]].parent.name, files)
    return None


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException) -> BaseException:
    """The error itself, or the one that the client has wrapped."""
    wrapped = isinstance(error, LocalEntryNotFoundError | ValueError) and _status(error) is None
    return error.__cause__ or error if wrapped else error


def _is_away(error: BaseException) -> bool:
    """Whether the Hub could not be asked, rather than having said no."""
    reason, status = _reason(error), _status(_reason(error))
    return isinstance(reason, HTTPError | FileMetadataError) and (status is None or status == 429 or status >= 500)


def _explain(error: Exception, place: Place) -> WeightsError:
    """The same trouble in words: what happened, and what to do."""
    reason = _reason(error)
    login = "sign in with `hf auth login`, or pass token="
    match reason, _status(reason):
        case GatedRepoError(), _:
            page = f"{constants.ENDPOINT}/{place.repo_id}"
            text = f"access is gated: accept its owner's conditions at {page}, and {login}"
        case RevisionNotFoundError(), _:
            text = f"the repository has no revision {place.revision!r}: pass a branch, a tag or a commit that it has"
        case _, 401:
            text = f"the Hub shows no such repository to you (401): if it is private, {login}; else check its name"
        case (RepositoryNotFoundError(), _) | (_, 404):
            text = "there is no such repository on the Hub, and no such file or folder here: check the name"
        case _, int(status) if status >= 500 or status == 429:
            text = f"the server of the Hub fails ({status}), not your side: try later, or load a local copy"
        case _, int(status):
            text = f"the Hub refuses access ({status}; {str(reason).splitlines()[0]}): check the name and the token"
        case FileMetadataError(), _:
            text = f"the answer of {constants.ENDPOINT} is not a Hub's ({reason}): is there a sign-in page or a proxy?"
        case HTTPError(), _:
            waits = f"HF_HUB_ETAG_TIMEOUT={constants.HF_HUB_ETAG_TIMEOUT} s"
            waits += f" and HF_HUB_DOWNLOAD_TIMEOUT={constants.HF_HUB_DOWNLOAD_TIMEOUT} s are the time-outs"
            text = f"no answer from {constants.ENDPOINT} ({type(reason).__name__}: {reason}; {waits}): try later"
        case OSError(errno=int()), _:
            text = f"the cache {str(place.cache)!r} cannot be written ({reason}): make room, or pass another cache_dir="
        case _:
            text = f"the download failed ({type(reason).__name__}: {reason}): try again"
    return WeightsError(f"{place}: {text}")


def _how_to_prepare(place: Place, force: bool) -> str:
    """What to do where no connection may be opened and the cache does not help."""
    why = "local_files_only=True" if place.local_files_only else "HF_HUB_OFFLINE is set"
    if force:
        return f"{place}: cannot be fetched again without a connection ({why}); drop force_download=True, or go online"
    options = f" --revision {place.revision}" if place.revision else ""
    options += f" --cache-dir {shlex.quote(str(place.cache))}" if place.cache_dir else ""
    return (
        f"{place}: not in the cache, and no connection may be opened ({why}). Fetch it beforehand, where there is one: "
        f"hf download {place.repo_id}{options}"
    )
