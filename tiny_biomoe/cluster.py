"""The batch road on a Ray cluster: the same shards with the same names and bytes, computed by many actors.

A group of files (see `shard_plan`) is one task of one actor. An actor that dies is started again and its group goes on
behind the last whole shard; a driver that dies is run again and does the same. Inputs and output must lie where every
machine sees them under the same path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .batch.parts import Record
from .batch.pipeline import Drawers
from .batch.plan import Group
from .batch.worker import Observer, Run, embed_group
from .embedding import Embedder
from .errors import ConfigError, SignalError, TinyBioMoEError, need
from .inference.threads import thread_count, use_threads
from .signals.filters import MODALITIES
from .signals.request import representation_name
from .signals.validation import check_positive

need("ray", extra="ray", what="embedding on a cluster")

import pyarrow as pa  # noqa: E402
import ray  # noqa: E402

if TYPE_CHECKING:
    from ray.data import Dataset

RETRIES = 10  # of a group whose actor died; each goes on where the last one stopped
WAITING = 2  # groups an actor has at hand, so that it never waits for the driver
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers; this library tells nobody
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
        Of `TinyBioMoE.embed`: band, scale, nan_policy, max_gap.

    Returns
    -------
    Dataset
        All columns but the signal; one of 192 float32 a representation, null where the row could not be embedded; and
        `error`, which says why, null elsewhere.
    """
    names = [representation] if isinstance(representation, str) else list(representation)
    canonical = [representation_name(name) for name in names]
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    return dataset.map_batches(
        _Embedder,
        fn_constructor_args=(canonical, (fs, modality, signal), weights, options),
        batch_size=batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
    )


class _Embedder:
    """A stage of a Ray data set, with a model of its own."""

    def __init__(self, names: list[str], columns: tuple[Any, str, str], weights: str | None, options: Any) -> None:
        self._model, self._names, self._options = Embedder.from_pretrained(weights), names, options
        self._fs, self._modality, self._signal = columns

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        signals = batch[self._signal]
        n = len(signals)
        rates = batch[self._fs] if isinstance(self._fs, str) else [self._fs] * n
        known = self._modality.lower() in {alias for name, row in MODALITIES.items() for alias in (name, *row.aliases)}
        modalities = [self._modality] * n if known else batch[self._modality]
        vectors: list[Any] = []
        errors: list[str | None] = []
        for row, rate, modality in zip(signals, rates, modalities, strict=True):
            try:
                samples = np.asarray(row, np.float64)
                with use_threads(1):
                    found = self._model.embed(samples, float(rate), str(modality), self._names, **self._options)
                vectors.append(found.reshape(len(self._names), -1))
                errors.append(None)
            except (SignalError, ConfigError, TypeError, ValueError) as error:  # a cell may hold anything
                vectors.append(None)
                errors.append(str(error))
        columns = {name: pa.array(list(values)) for name, values in batch.items() if name != self._signal}
        kind = pa.list_(pa.float32(), self._model.architecture.embedding_dim)
        for place, name in enumerate(self._names):
            columns[name] = pa.array([None if each is None else each[place] for each in vectors], kind)
        columns["error"] = pa.array(errors, pa.string())
        return pa.table(columns)
