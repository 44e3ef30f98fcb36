"""Weights: from the package, a folder, a file or the Hub to verified tensors, and back to a folder.

Whatever the source, the same things are checked before a tensor leaves this file: the sha256 of the file and that of
its config, where one is stated; every name and shape, against the architecture in `config.json`; and that all values
are finite.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..config import Architecture, Config, config_digest
from ..errors import ConfigError, WeightsError
from ..inference.threads import threads
from ..network.network import outline
from ..sealed_files import write_whole
from . import hub
from .model_card import MARK, model_card
from .tensor_files import (
    DamagedError,
    Shapes,
    compare,
    few,
    quote,
    read_metadata,
    read_pth,
    read_safetensors,
    require_finite,
)

BUNDLED = Path(__file__).with_name("bundled")
CONFIG, TENSORS, RELEASED, CARD = "config.json", "model.safetensors", "Tiny-BioMoE.pth", "README.md"
SUMS = "SHA256SUMS"  # beside the bundled weights
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

    tensors: dict[str, Tensor] = field(repr=False)  # our names, float32, on the CPU, without BatchNorm's counters
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
        if file or not isinstance(source, str) or not hub.REPO_ID.fullmatch(name):
            raise WeightsError(
                f"{quote(name)} is no file or folder, nor of the form 'owner/name' of a Hub repository; check it, "
                "or give none for the weights that come with the package"
            )
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
        held = few(map(quote, names), 20) or "nothing"
        raise WeightsError(f"{source}: the folder holds neither {TENSORS} nor a single .pth file, but {held}")
    return _from_file(folder / checkpoints[0], source)


def _from_hub(place: hub.Place, force: bool) -> Weights:
    """From the Hub, by way of its cache: what is damaged there is fetched once more."""
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


@threads(1)  # hundreds of small tensors
def _from_file(path: Path, source: str, stated: str | None = None) -> Weights:
    """From a safetensors file with its `config.json` beside it, or from the authors' checkpoint."""
    config, digests, read = RELEASED_CONFIG, [stated], read_pth
    if path.suffix == ".safetensors":
        beside, read = path.with_name(CONFIG), read_safetensors
        config, facts = Config.from_json(_read(beside, MAX_CONFIG).decode("utf-8", "replace"), str(beside))
        digests.append(facts.get("sha256"))
    data = _read(path, MAX_FILE)
    digest = _verified(data, digests, path)
    tensors = read(data, expected(config.architecture), str(path))
    if path.suffix == ".safetensors" and read_metadata(data).get(CONFIG_SHA256, own := config_digest(config)) != own:
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


@lru_cache(maxsize=8)
def expected(architecture: Architecture) -> Shapes:
    """Name and shape of every tensor that weights of an architecture hold: parameters and running statistics."""
    state = outline(architecture).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in _without_counters(state).items()}


def _without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without BatchNorm's counts of batches, which no result depends on."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 values: equal for equal weights, wherever and however they are kept."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_without_counters(tensors).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().ravel().data)
    return digest.hexdigest()


def save(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    config: Config,
    *,
    half: bool = False,
    card: str | None = None,
) -> Weights:
    """Write `model.safetensors`, `README.md` and `config.json`, each at once or not at all.

    Parameters
    ----------
    folder : made if missing
    tensors : our names; counters of BatchNorm may be among them and are left out
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
    kept = _without_counters(tensors)
    compare({name: tuple(tensor.shape) for name, tensor in kept.items()}, expected(config.architecture), str(folder))
    dtype = torch.float16 if half else torch.float32
    stored = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in kept.items()}
    finite = {n: require_finite(t, f"{n} as {dtype}", str(folder)) for n, t in stored.items()}
    data = safetensors.torch.save(finite, {CONFIG_SHA256: config_digest(config)})
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
