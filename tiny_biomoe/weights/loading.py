"""Weights: from the package, a folder, a file or the Hub to verified tensors, and back to a folder.

Whatever the source, the same things are checked before a tensor leaves this file: the sha256 of the file and that of
its config, where one is stated; every name and shape, against the architecture in `config.json`; and that all values
are finite.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from ..config import Config, config_digest
from ..errors import ConfigError, WeightsError, listed
from ..sealed_files import write_whole
from .model_card import MARK, model_card
from .shapes import tensor_shapes
from .tensor_files import (
    DamagedError,
    Tensors,
    compare,
    quote,
    read_metadata,
    read_safetensors,
    require_finite,
)

if TYPE_CHECKING:
    from . import hub

BUNDLED = Path(__file__).with_name("bundled")
REPO_ID = re.compile(r"[a-z0-9][\w.-]{0,95}/[a-z0-9][\w.-]{0,95}", re.ASCII | re.IGNORECASE)
CONFIG, TENSORS, RELEASED, CARD = "config.json", "model.safetensors", "Tiny-BioMoE.pth", "README.md"
SUMS = "SHA256SUMS"  # beside the bundled weights
COUNTER = "num_batches_tracked"
CONFIG_SHA256 = "config_sha256"  # in the metadata of the tensors' file
MAX_FILE = 256 << 20  # bytes; the network in float32 is 29 MB, the authors' file 89 MB
MAX_CONFIG = 64 << 10  # bytes; ours are 3 kB
LAYOUTS = ((CONFIG, TENSORS), (RELEASED,))  # of a Hub repository: ours, or the authors'
MISTAKEN = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"version https://git-lfs": "a Git LFS pointer",
}  # what is often found in place of a file, by its first bytes
RELEASED_CONFIG = Config(name="Tiny-BioMoE v1.0 (released)")


@dataclass(frozen=True, eq=False)
class Weights:
    """Verified tensors and the numbers that belong to them."""

    tensors: Tensors = field(repr=False)  # our names, float32, without BatchNorm's counters
    config: Config
    sha256: str  # of the file that held the tensors, as it was read
    source: str  # "bundled", the folder or file, or "owner/name@<commit>"


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Weights:
    """Load and verify weights.

    Parameters
    ----------
    source
        None for the weights that come with the package; a folder with `model.safetensors` and `config.json`, or with
        the authors' `.pth`; one such file; or "owner/name" on the Hub. What exists on disk is never looked for there.
    revision, token, cache_dir, force_download, local_files_only
        For the Hub: branch, tag or commit; access token; where files are kept; fetch again; never connect.

    Raises
    ------
    WeightsError
        Not found, damaged, unsafe to read, or of another architecture.
    ConfigError
        `config.json` is not one of ours.

    Examples
    --------
    >>> load("no/such/folder")
    Traceback (most recent call last):
    ...
    tiny_biomoe.errors.WeightsError: 'no/such/folder' is no file or folder, nor of the form 'owner/name' ...
    """
    if source is None:
        if revision is not None or force_download:
            raise WeightsError("revision= and force_download= are for the Hub: name a repository, 'owner/name'")
        if not (BUNDLED / TENSORS).is_file():
            raise WeightsError(f"{BUNDLED}: this installation has no weights; reinstall tiny-biomoe, or name others")
        _verify_bundled_config()
        return _from_folder(BUNDLED, "bundled")
    name = os.fspath(source)
    path = Path(name)
    if not os.path.exists(name):
        file = name.endswith((".pth", ".pt", ".safetensors", ".json"))
        if file or not isinstance(source, str) or not REPO_ID.fullmatch(name):
            raise WeightsError(
                f"{quote(name)} is no file or folder, nor of the form 'owner/name' of a Hub repository; check it, "
                "or give none for the weights that come with the package"
            )
        from . import hub  # its client takes longer to import than the bundled weights to load

        return _from_hub(hub.Place(name, revision, token, cache_dir, local_files_only), force_download)
    if revision is not None:
        raise WeightsError(f"revision={revision!r} is for the Hub, and {name!r} is a local path: drop one of the two")
    return _from_folder(path, name) if path.is_dir() else _from_file(path, name)


def _from_folder(folder: Path, source: str) -> Weights:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise WeightsError(f"{source}: the folder cannot be read ({error}); check its path and rights") from error
    if TENSORS in names:
        return _from_file(folder / TENSORS, source)
    checkpoints = [RELEASED] if RELEASED in names else [name for name in names if name.endswith(".pth")]
    if len(checkpoints) != 1:
        held = listed(map(quote, names), 20, ", ...") or "nothing"
        raise WeightsError(f"{source}: the folder holds neither {TENSORS} nor a single .pth file, but {held}")
    return _from_file(folder / checkpoints[0], source)


def _from_hub(place: hub.Place, force: bool) -> Weights:
    """From the Hub, by way of its cache: what is damaged there is fetched once more."""
    from . import hub

    snapshot = hub.fetch(place, LAYOUTS, force=force)
    try:
        return _from_snapshot(snapshot, place)
    except (DamagedError, ConfigError) as damage:
        if force or place.offline:
            raise
        try:
            snapshot = hub.fetch(place, LAYOUTS, force=True)
        except WeightsError as error:
            raise WeightsError(f"{damage}. No other copy could be fetched: {error}") from error
    return _from_snapshot(snapshot, place)


def _from_snapshot(snapshot: hub.Snapshot, place: hub.Place) -> Weights:
    name = TENSORS if TENSORS in snapshot.files else RELEASED
    return _from_file(snapshot.files[name], f"{place.repo_id}@{snapshot.commit}", snapshot.stated_sha256(name))


def _from_file(path: Path, source: str, stated: str | None = None) -> Weights:
    """From a safetensors file with its `config.json` beside it, or from the authors' checkpoint."""
    config, digests = RELEASED_CONFIG, [stated]
    if path.suffix == ".safetensors":
        beside = path.with_name(CONFIG)
        config, facts = Config.from_json(_read(beside, MAX_CONFIG).decode("utf-8", "replace"), str(beside))
        digests.append(facts.get("sha256"))
    data = _read(path, MAX_FILE)
    digest = _verified(data, digests, path)
    shapes = tensor_shapes(config.architecture)
    if path.suffix != ".safetensors":
        from .released_checkpoint import read_pth  # needs torch

        return Weights(read_pth(data, shapes, str(path)), config, digest, source)
    tensors = read_safetensors(data, shapes, str(path))
    if read_metadata(data).get(CONFIG_SHA256, own := config_digest(config)) != own:
        raise DamagedError(
            f"{path.with_name(CONFIG)}: not what {path.name} was saved with, for its sha256 differs; copy or fetch the "
            "folder again, or, where the change is meant, save the tensors anew with tiny_biomoe.weights.loading.save"
        )
    return Weights(tensors, config, digest, source)


def _verify_bundled_config() -> None:
    """The package's `config.json` is the one that its list of sha256 names."""
    if not (BUNDLED / SUMS).is_file():
        return
    digest = hashlib.sha256(_read(BUNDLED / CONFIG, MAX_CONFIG)).hexdigest()
    if f"{digest}  {CONFIG}" not in _read(BUNDLED / SUMS, MAX_CONFIG).decode("utf-8", "replace").splitlines():
        raise DamagedError(f"{BUNDLED / CONFIG}: its sha256 is {digest}, not that in {SUMS}; reinstall tiny-biomoe")


def _read(path: Path, limit: int) -> bytes:
    """All of a file, if it is one, is not longer than `limit`, and is not one of the usual mistakes."""
    if not path.is_file():
        beside = f"; {CONFIG} belongs beside {TENSORS}" if path.name == CONFIG else ""
        raise WeightsError(f"{path}: there is no such regular file{beside}")
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); check its rights and the disk") from error
    if len(data) > limit:
        raise WeightsError(f"{path}: more than {limit} bytes, which no weights of this network need; it is not read")
    for beginning, kind in MISTAKEN.items():
        if data[:100].lstrip().lower().startswith(beginning):
            raise DamagedError(f"{path}: {kind} and not the file itself; fetch it again")
    return data


def _verified(data: bytes, stated: list[str | None], path: Path) -> str:
    """The sha256 of the data, which is also every one that was stated."""
    digest = hashlib.sha256(data).hexdigest()
    for wanted in stated:
        if wanted is not None and wanted != digest:
            raise DamagedError(
                f"{path}: its sha256 is {digest}, and {quote(wanted)} was stated: the file is damaged, or not the one "
                "that config.json describes. Copy or save it again; from the Hub, load with force_download=True"
            )
    return digest


def arrays(tensors: Mapping[str, Any]) -> Tensors:
    """A network's state as float32 arrays, without BatchNorm's counts of batches, which no result depends on.

    Parameters
    ----------
    tensors : our names with arrays or PyTorch's tensors, on any device; those of float32 on the CPU are not copied
    """
    return {name: _array(t).astype(np.float32, copy=False) for name, t in tensors.items() if not name.endswith(COUNTER)}


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def tensor_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and float32 values: equal for equal weights, wherever and however they are kept."""
    digest = hashlib.sha256()
    for name, tensor in sorted(arrays(tensors).items()):
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def save(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    config: Config,
    *,
    half: bool = False,
    card: str | None = None,
) -> Weights:
    """Write `model.safetensors`, `README.md` and `config.json`, each at once or not at all.

    Parameters
    ----------
    folder : made if missing
    tensors : our names, arrays or PyTorch's tensors; counters of BatchNorm may be among them and are left out
    half : store float16, half the size; the values loaded then are the rounded ones
    card : text of `README.md`; None writes one of our own, unless somebody else's is there already

    Returns
    -------
    Weights
        What a later `load` of the folder gives.

    Raises
    ------
    WeightsError
        The tensors are not those of `config.architecture`, a value does not fit, or the folder cannot be written.
    """
    folder = Path(folder)
    kept, dtype = arrays(tensors), np.dtype(np.float16 if half else np.float32)
    compare({name: tensor.shape for name, tensor in kept.items()}, tensor_shapes(config.architecture), str(folder))
    with np.errstate(over="ignore"):  # a value too large for float16 is found to be infinite
        stored = {name: np.ascontiguousarray(tensor, dtype) for name, tensor in kept.items()}
    finite = {n: require_finite(t, f"{n} as {dtype}", str(folder)) for n, t in stored.items()}
    data = safetensors.numpy.save(finite, {CONFIG_SHA256: config_digest(config)})
    digest = hashlib.sha256(data).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / TENSORS, data)
        if card is not None or not _is_own_text(folder / CARD):
            write_whole(folder / CARD, (card or model_card(config, TENSORS, digest)).encode())
        write_whole(folder / CONFIG, config.to_json(sha256=digest).encode())  # last: its digest seals the folder
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be written ({error}); make room, or choose another folder") from error
    return _from_folder(folder, str(folder))


def _is_own_text(card: Path) -> bool:
    return card.exists() and MARK not in card.read_text("utf-8", "replace")


def convert(pth: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Weights:
    """Turn the authors' `Tiny-BioMoE.pth` into a folder of ours, once, so that it need not be unpickled again."""
    released = _from_file(Path(pth), os.fspath(pth))
    return save(folder, released.tensors, released.config)
