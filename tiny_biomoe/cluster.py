"""Runs on a cluster of machines (Ray): the same shards with the same names and bytes, computed by many actors.

A group of files (see `shard_plan`) is one task of one actor. An actor that dies is started again and its group goes on
behind the last whole shard; a driver that dies is run again and does the same. Inputs and output must lie where every
machine sees them under the same path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .batch.pipeline import Drawers
from .batch.plan import Group
from .batch.shards import Record
from .batch.worker import Observer, Run, embed_group
from .config import Recipe
from .embedding import Embedder
from .errors import ConfigError, SignalError, TinyBioMoEError, need, one_warning_a_kind, unknown
from .inference.threads import thread_count, use_threads
from .signals.filters import MODALITIES, modality_name
from .signals.request import Call, representation_name
from .signals.validation import check_fs, check_positive, check_signals

need("ray", extra="ray", what="embedding on a cluster")

import pyarrow as pa  # noqa: E402
import ray  # noqa: E402

if TYPE_CHECKING:
    from ray.data import Dataset

RETRIES = 10  # of a group whose actor died; each goes on where the last one stopped
WAITING = 2  # groups an actor has at hand, so that it never waits for the driver
OPTIONS = ("readout", "band", "scale", "nan_policy", "max_gap")  # of `embed`, for the rows of a data set
TICK = 0.5  # seconds between two looks at whether the driver was asked to stop


class _Actor:
    """Embeds groups with a network of its own, and draws in a thread beside it."""

    def __init__(self, model: Embedder, threads: int, backend: dict[str, Any]) -> None:
        self._model, self._threads, self._backend, self._drawers = model, threads, backend, Drawers(0)

    def embed(self, group: Group, run: Run) -> list[Record]:
        """The records of a group's shards, which are all on the disk.

        Raises
        ------
        ConfigError
            This machine has another native program than the one that began the run.
        """
        if (here := self._model.backend.facts()) != self._backend:
            raise ConfigError(
                f"the run began with {self._backend['program']}, and this machine has {here['program']}: their vectors "
                'differ in the last digits; begin with backend="torch" (--backend torch), so that PyTorch computes on '
                "all, or give the cluster machines of one kind, with one wheel of this package"
            )
        with use_threads(self._threads):
            return list(embed_group(self._model, group, run, self._drawers))


@dataclass(frozen=True)
class OnRay:
    """An engine for `embed_study`.

    >>> OnRay(address="auto", actors=64)  # of a running cluster; address=None starts one on this machine
    OnRay(address='auto', actors=64, cpus=1.0)
    """

    address: str | None = None
    actors: int | None = None  # one a processor of the cluster otherwise
    cpus: float = 1.0  # that an actor takes up; the network's threads are `embed_study`'s

    def __call__(self, model: Embedder, plan: Sequence[Group], run: Run, observer: Observer) -> Iterator[Record | None]:
        """The records of all shards, a group at a time, in any order.

        Raises
        ------
        TinyBioMoEError
            A group's actor died again and again.
        """
        ours = _connect(self.address)
        try:
            yield from self._spread(model, plan, run, observer)
        finally:
            if ours:
                ray.shutdown()

    def _spread(self, model: Embedder, plan: Sequence[Group], run: Run, observer: Observer) -> Iterator[Record | None]:
        found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        wanted = self.actors or max(1, int(found.get("CPU", 1) // self.cpus))
        count = min(check_positive(wanted, "actors"), len(plan))
        make: Any = ray.remote(num_cpus=self.cpus, max_restarts=-1, max_task_retries=RETRIES)(_Actor)
        shared, threads = ray.put(model), thread_count()
        actors = [make.remote(shared, threads, model.backend.facts()) for _ in range(count)]
        try:
            yield from _shared_out(actors, plan, run, observer)
        finally:
            for actor in actors:  # also where the run was stopped: none is to write on into the folder
                ray.kill(actor)


def _shared_out(actors: list[Any], plan: Sequence[Group], run: Run, observer: Observer) -> Iterator[Record | None]:
    """The records of all groups, each embedded by the next actor that is free; None where none is ready yet."""
    left = iter(plan)
    busy: dict[Any, Any] = {}  # task -> its actor
    for actor in actors * WAITING:
        if (group := next(left, None)) is not None:
            busy[actor.embed.remote(group, run)] = actor
    while busy:
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=TICK)
        if not ready:
            yield None
        for each in ready:
            actor = busy.pop(each)
            if (group := next(left, None)) is not None:
                busy[actor.embed.remote(group, run)] = actor
            for record in _result(each):
                observer.embedded(record.windows, record.input_bytes)
                yield record


def _connect(address: str | None) -> bool:
    """Join a cluster, or start one here; whether it was not there before."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    ray.init(address=address, log_to_driver=False, **options)
    return True


def _result(task: Any) -> list[Record]:
    try:
        return list(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the actor raised
    except ray.exceptions.RayActorError as error:
        raise TinyBioMoEError(
            f"an actor died more than {RETRIES} times over one group, perhaps for want of memory: give each more, "
            "with fewer actors= or more cpus="
        ) from error


def embed_dataset(
    dataset: Dataset,
    representation: str | Sequence[str] = "scalogram",
    *,
    fs: float | str = "fs",
    modality: str = "modality",
    signal: str = "signal",
    weights: str | None = None,
    concurrency: int | tuple[int, int] = 1,
    batch_size: int = 64,
    **options: Any,
) -> Dataset:
    """Embed the rows of a Ray data set, each a signal, as one stage of its pipeline.

    Parameters
    ----------
    dataset
        A row holds one signal, (n_samples,), in column `signal`.
    fs, modality
        A rate in Hz and the name of a modality for all rows, or the names of the columns that hold them.
    weights
        As `TinyBioMoE.from_pretrained` takes them; every machine must reach them.
    concurrency, batch_size
        Actors, and rows an actor takes at a time.
    options
        Of `TinyBioMoE.embed`: readout, band, scale, nan_policy, max_gap.

    Returns
    -------
    Dataset
        As many rows: all columns but the signal, as they are; one of 192 float32 a representation (of readout="rows" of
        1056), null where the row could not be embedded; and `error`, which says why, null elsewhere.

    Raises
    ------
    SignalError, ConfigError
        An option, a rate or a modality that no row can have; a column that is missing, or whose name a new one takes.
        Where the columns of the data set are not known yet, the last two are raised when it is computed.
    """
    names = [representation] if isinstance(representation, str) else list(representation)
    canonical = [representation_name(name) for name in names]
    check_options(canonical, fs, options)
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    for value, name in ((least, "concurrency"), (most, "concurrency"), (batch_size, "batch_size")):
        check_positive(value, name)
    if (schema := dataset.schema(fetch_if_missing=False)) is not None:
        check_columns(list(schema.names), canonical, fs, modality, signal)
    return dataset.map_batches(
        _Embedder,
        fn_constructor_args=(canonical, (fs, modality, signal), weights, options),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
    )


def check_options(names: Sequence[str], fs: float | str, options: Mapping[str, Any]) -> None:
    """Refuse options that no row can have.

    Raises
    ------
    SignalError, ConfigError
    """
    if "fusion" in options:
        raise ConfigError("fusion=: every representation has a column of its own, which you join as you like")
    if "window" in options:
        raise ConfigError(
            "window=: a row is one signal; embed_study cuts recordings into windows, on a cluster as well"
        )
    for name in options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)
    if not isinstance(fs, str):
        check_fs(fs)
    Call.check(Recipe(), 1e6, "ecg", list(names), **options)


def check_columns(held: Sequence[str], names: Sequence[str], fs: float | str, modality: str, signal: str) -> None:
    """Refuse a data set without the columns that are named, or with one that a new column is called like.

    Raises
    ------
    ConfigError
    """
    wanted = [signal, *([fs] if isinstance(fs, str) else []), *([] if _is_modality(modality) else [modality])]
    for name in wanted:
        if name not in held:
            raise unknown("column", name, held)
    if taken := [name for name in (*names, "error") if name in held and name != signal]:
        raise ConfigError(f"the data set has a column {taken[0]!r}, which the result has as well: rename it")


def _is_modality(name: str) -> bool:
    return name.lower() in {alias for key, row in MODALITIES.items() for alias in (key, *row.aliases)}


class _Embedder:
    """A stage of a Ray data set, with a model of its own."""

    def __init__(self, names: list[str], columns: tuple[Any, str, str], weights: str | None, options: Any) -> None:
        self._model, self._names, self._options = Embedder.from_pretrained(weights), names, options
        self._fs, self._modality, self._signal = columns

    def __call__(self, table: pa.Table) -> pa.Table:
        with one_warning_a_kind():
            return self._embedded(table)

    def _embedded(self, table: pa.Table) -> pa.Table:
        check_columns(table.column_names, self._names, self._fs, self._modality, self._signal)
        n = len(table)
        rates = table[self._fs].to_pylist() if isinstance(self._fs, str) else [self._fs] * n
        same = _is_modality(self._modality)
        modalities = [self._modality] * n if same else table[self._modality].to_pylist()
        vectors: list[Any] = []
        errors: list[str | None] = []
        for cell, rate, modality in zip(table[self._signal], rates, modalities, strict=True):
            found = self._row(cell, rate, modality)
            vectors.append(None if isinstance(found, str) else found)
            errors.append(found if isinstance(found, str) else None)
        kept = table.drop_columns([self._signal])
        network = self._model.architecture
        rows = self._options.get("readout") == "rows"
        kind = pa.list_(pa.float32(), network.rows_dim if rows else network.embedding_dim)
        for place, name in enumerate(self._names):
            kept = kept.append_column(name, pa.array([None if v is None else v[place] for v in vectors], kind))
        return kept.append_column("error", pa.array(errors, pa.string()))

    def _row(self, cell: Any, rate: Any, modality: Any) -> Any:
        """The vectors of a row, (n_representations, 192), or what is wrong with it; other faults are raised."""
        try:
            known = modality_name(modality)
        except ConfigError as error:
            return str(error)
        try:
            (samples, *others), single = check_signals(_samples(cell))
            if others or not single:
                return "the row holds several signals, and one is meant: give each a row"
            with use_threads(1):
                found = self._model.embed(samples, check_fs(rate), known, self._names, **self._options)
            return found.reshape(len(self._names), -1)
        except SignalError as error:
            return str(error)


def _samples(cell: Any) -> Any:
    """A cell of a column of signals: lists, or tensors."""
    if not cell.is_valid:
        raise SignalError("the row has no signal")
    values = getattr(cell, "values", None)
    return cell.as_py() if values is None else values.to_numpy(zero_copy_only=False)
