"""Reliability in figures: what kills, broken disks, mutants of files and bad downloads do, and which test guards what.

    python benchmarks/faults.py kills      [--network stub|real] [--count 1000]
    python benchmarks/faults.py disk
    python benchmarks/faults.py many       [--windows 10000000] [--count 20]
    python benchmarks/faults.py tensors    [--count 1000000]
    python benchmarks/faults.py checkpoint [--count 250000]
    python benchmarks/faults.py downloads  [--count 200]
    python benchmarks/faults.py guards     [--only NAME]
    python benchmarks/faults.py all        every part, as large as above

Every part counts on in `--state` (faults.json beside this file, unless named): stopped at any moment, the same
command goes on where it was, and `--count` may grow. It ends with an error at the first fault that is not met.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]
SEED = 20251123
WHOLE = 0.02  # share of the mutants that are of a whole network's file


class State:
    """What was counted, kept in a file after every piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, part: str, **numbers: float) -> None:
        """Count something of a part."""
        held = self.found.setdefault(part, {})
        for name, number in numbers.items():
            held[name] = held.get(name, 0) + number
        self.save()

    def of(self, part: str, name: str) -> int:
        """A number of a part so far."""
        return int(self.found.get(part, {}).get(name, 0))

    def save(self) -> None:
        """Write all, whole or not at all."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.found, indent=1, sort_keys=True))
        partial.replace(self.path)


# Kills


def kills(state: State, network: str, count: int, piece: int = 50) -> None:
    """SIGKILLs at random moments; every run that was gone on with must have the bytes of one that nobody killed."""
    part = f"kills, {network}"
    while (done := state.of(part, "kills")) < count:
        now = min(piece, count - done)
        with tempfile.TemporaryDirectory() as folder:
            program = f"from killed_runs import main; main({folder!r}, {now}, {network!r}, {SEED + done})"
            path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
            environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)
        state.add(part, kills=now)


def many(state: State, windows: int, count: int) -> None:
    """A run of very many windows, without drawing and network, killed again and again: memory and ids."""
    from batch import WINDOW, ids_are_unique, make_files

    folder = state.path.with_suffix(".many")
    study, out = folder / "study", folder / "out"
    if not study.exists():
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / "new", ignore_errors=True)
        make_files(folder / "new", windows, 4.0, 1.0, 10_000)
        (folder / "new").rename(study)
    moments = random.Random(SEED + state.of("many", "kills"))
    program = (
        "from batch import stub_out; from tiny_biomoe import TinyBioMoE, embed_study; "
        f"stub_out(); embed_study({str(study)!r}, {str(out)!r}, model=TinyBioMoE.from_pretrained(), window={WINDOW}, "
        "stride=1.0, fs=4.0, modality='eda')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    typical = max(20.0, windows / 20_000 / max(count, 1))  # seconds, so that the kills are spread over the run
    while True:
        left = count - state.of("many", "kills")
        child = subprocess.Popen([sys.executable, "-c", program], env=environment)
        if left > 0:
            time.sleep(moments.uniform(0.5, 2) * typical)
            child.kill()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peak = max(state.found.get("many", {}).get("peak, MB", 0), used.ru_maxrss / 1024)
        state.found.setdefault("many", {})["peak, MB"] = peak
        if child.returncode == 0:
            break
        if left <= 0 or child.returncode != -9:
            raise SystemExit(f"a run ended with {child.returncode}")
        state.add("many", kills=1)
    if not ids_are_unique(out, windows):
        raise SystemExit("an id is missing, or there twice")
    state.found["many"] |= {"windows": windows, "every id once": True}
    state.save()


# A disk that fails once


class Failing:
    """The n-th call of the operations of a disk fails; all are counted."""

    def __init__(self, at: int, code: int) -> None:
        self.at, self.code, self.calls, self.names = at, code, 0, Counter[str]()

    def _check(self, name: str) -> None:
        self.calls += 1
        self.names[name] += 1
        if self.calls - 1 == self.at:
            raise OSError(self.code, os.strerror(self.code))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put this in the way of write, fsync and rename."""
        genuine = os.fsync, os.replace, Path.open
        failing = self

        def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
            file = genuine[2](path, mode, *more, **options)
            if "w" not in mode:
                return file
            write = file.write
            proxy = _Proxy(file)
            proxy.write = lambda data: (failing._check("write"), write(data))[1]  # type: ignore[attr-defined]
            return proxy

        def fsync(handle: int) -> None:
            failing._check("fsync")
            genuine[0](handle)

        def replace(source: Any, target: Any) -> None:
            failing._check("rename")
            genuine[1](source, target)

        os.fsync, os.replace, Path.open = fsync, replace, opened  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            os.fsync, os.replace, Path.open = genuine  # type: ignore[method-assign]


class _Proxy:
    """A file whose `write` can be replaced."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def disk(state: State) -> None:
    """Every write, fsync and rename of a run, and of one whose study grew, fails once with ENOSPC and once with EIO."""
    from stub_study import Stub, digests, e4, make_study, pulse

    from tiny_biomoe import ConfigError
    from tiny_biomoe.batch.run import embed_study

    def run(study: Path, out: Path) -> None:
        embed_study(study, out, "waveform", model=Stub(), window=10, shard_windows=5)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, grown = make_study(folder / "study"), make_study(folder / "grown")
        e4(grown / "S00" / "EDA.csv", 1 + pulse(30, 4, 0.07), 4)
        run(study, folder / "before")
        run(grown, folder / "after")
        cases = {
            "new": (study, None, folder / "before"),
            "grown": (grown, folder / "before", folder / "after"),
        }
        for case, (source, begun, whole) in cases.items():
            expected, number, out = digests(whole), 0, folder / "out"
            for code in (errno.ENOSPC, errno.EIO):
                part = f"disk, {case}, {errno.errorcode[code]}"
                number = state.of(part, "failed once")
                while True:
                    shutil.rmtree(out, ignore_errors=True)
                    if begun is not None:
                        shutil.copytree(begun, out)
                    failing = Failing(number, code)
                    try:
                        with failing.applied():
                            run(source, out)
                    except ConfigError:
                        pass
                    else:
                        if failing.calls <= number:
                            break
                        raise SystemExit(f"{part}: operation {number} failed and nobody reported it")
                    run(source, out)
                    if digests(out) != expected:
                        raise SystemExit(f"{part}: operation {number} failed, and the next run's bytes are others")
                    number += 1
                    state.add(part, **{"failed once": 1})


# Mutants of files


def mutate(data: bytes, chance: random.Random, text: int) -> bytes:
    """A file with one to four changes; those in its first `text` bytes are the likelier."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(min(text, len(made)) if chance.random() < 0.8 else len(made)) if made else 0
        match chance.randrange(9):
            case 0:
                made[at : at + 1] = bytes([made[at] ^ 1 << chance.randrange(8)]) if made else b""
            case 1:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 2:
                made[at : at + chance.randrange(1, 9)] = b""
            case 3:
                made[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
            case 4:
                length = chance.randrange(1, 65)
                other = chance.randrange(max(1, len(made) - length))
                made[at : at + length] = made[other : other + length]
            case 5:
                made[at : at + 8] = chance.choice(
                    (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, len(made))
                ).to_bytes(8, "little")
            case 6:
                digits = [i for i, byte in enumerate(made[:text]) if 48 <= byte < 58]
                if digits:
                    made[chance.choice(digits)] = 48 + chance.randrange(10)
            case 7:
                del made[chance.randrange(len(made)) if made else 0 :]
            case 8:
                made += bytes(chance.randrange(256) for _ in range(chance.randrange(1, 65)))
    return bytes(made)


def few_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """One layer of each kind that the loaders tell apart: most mutants are of these, which are read in no time."""
    layers = ("patch_embedding.0.", "blocks.0.attention.position_bias", "gate.")
    return {name: shape for name, shape in shapes.items() if any(layer in name for layer in layers)}


def tensors_of(data: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The tensors of a safetensors file by the format's own words, in another way than the loader's."""
    length = int.from_bytes(data[:8], "little")
    header, found = json.loads(data[8 : 8 + length]), {}
    for name, shape in shapes.items():
        begin, end = header[name]["data_offsets"]
        kind = {"F16": "<f2", "F32": "<f4"}[header[name]["dtype"]]
        found[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], kind).astype(np.float32).reshape(shape)
    return found


def some_tensors(seed: int, number: int, out: Any) -> None:
    """Mutants of two safetensors files under their loader; sends what became of them."""
    from hub_server import TINY, random_tensors
    from safetensors.numpy import save

    from tiny_biomoe.errors import WeightsError
    from tiny_biomoe.weights.shapes import tensor_shapes
    from tiny_biomoe.weights.tensor_files import read_safetensors

    np.seterr(all="ignore")
    whole, chance, ours = tensor_shapes(TINY), random.Random(seed), random_tensors()
    files = []
    for shapes in (few_shapes(whole), whole):
        data = save({name: ours[name].numpy().astype(np.float16) for name in shapes})
        files.append((data, 8 + int.from_bytes(data[:8], "little"), shapes))
    found = Counter[str]()
    for _ in range(number):
        data, header, shapes = files[chance.random() < WHOLE]
        made = mutate(data, chance, header)
        try:
            tensors = read_safetensors(made, shapes, "mutant")
        except WeightsError:
            found["refused"] += 1
            continue
        stated = tensors_of(made, shapes)
        right = list(tensors) == list(shapes) and all(
            np.array_equal(tensors[name], stated[name]) and np.isfinite(tensors[name]).all() for name in shapes
        )
        found["read as they stand" if right else "wrong"] += 1
    out.send(dict(found))


HOSTILE = (
    b"cos\nsystem\n(S'touch /tmp/x'\ntR.",
    b"cbuiltins\nexec\n(S'1'\ntR.",
    b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    b"\x80\x02csubprocess\nPopen\n(](S'id'\netR.",
    b"ctorch.hub\nload\n(S'a/b'\nS'c'\ntR.",
)
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "shutil.rmtree")
FORBIDDEN += ("os.remove", "ctypes.dlopen", "pty.spawn")


class _Plain(pickle.Unpickler):
    """The tensors of an archive that was accepted, by another reader of zip files and pickles than torch's."""

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))  # which compares each entry with its checksum
        self._pickle = next(name for name in self._archive.namelist() if name.endswith("data.pkl"))
        super().__init__(self._archive.open(self._pickle))

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a plain tensor needs."""
        return {"_rebuild_tensor_v2": self._tensor, "OrderedDict": dict, "FloatStorage": "<f4", "LongStorage": "<i8"}[
            name
        ]

    def persistent_load(self, about: tuple[Any, ...]) -> Any:
        """The values of one storage."""
        return np.frombuffer(self._archive.read(self._pickle.replace("data.pkl", f"data/{about[2]}")), about[1])

    @staticmethod
    def _tensor(values: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Any:
        places = np.full(shape, offset)
        for axis, stride in enumerate(strides):
            places += stride * np.expand_dims(np.arange(shape[axis]), tuple(range(1, len(shape) - axis)))
        return values[places]


def some_checkpoints(seed: int, number: int, out: Any) -> None:
    """Mutants of a released checkpoint under its loader, and what Python's audit events say that it did."""
    import torch
    from hub_server import TINY, random_tensors

    from tiny_biomoe.errors import WeightsError
    from tiny_biomoe.weights.released_checkpoint import COUNTER, TABLE, read_pth, released_layout
    from tiny_biomoe.weights.released_names import released_names
    from tiny_biomoe.weights.shapes import position_offsets, tensor_shapes

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    whole, chance, ours = tensor_shapes(TINY), random.Random(seed), random_tensors()
    files = []
    for shapes in (few_shapes(whole), whole):
        state = {theirs: ours[name] for name, theirs in released_names(shapes).items()}
        for name, shape in released_layout(shapes).items():
            if name.endswith(COUNTER):
                state[name] = torch.tensor(7)
            if name.endswith(TABLE):
                state[name] = torch.tensor(position_offsets(round(shape[0] ** 0.5)))
        buffer = io.BytesIO()
        torch.save({name: state[name] for name in released_layout(shapes)}, buffer)
        data = buffer.getvalue()
        read_pth(data, shapes, "whole")
        at = data.index(b"data.pkl") + len(b"data.pkl")
        files.append((data, at, data.index(b"PK\x03\x04", at), shapes))
    done: list[str] = []
    sys.addaudithook(lambda event, _: done.append(event) if event.startswith(FORBIDDEN) else None)
    found = Counter[str]()
    for _ in range(number):
        data, at, end, shapes = files[chance.random() < WHOLE]
        if chance.random() < 0.1:  # a pickle that asks for something, in place of as many bytes
            hostile = chance.choice(HOSTILE)
            place = chance.randrange(at, end - len(hostile))
            made = mutate(data[:place] + hostile + data[place + len(hostile) :], chance, end)
        elif chance.random() < 0.5:
            made = data[:at] + mutate(data[at:end], chance, end - at) + data[end:]
        else:
            made = mutate(data, chance, end)
        try:
            tensors = read_pth(made, shapes, "mutant")
        except WeightsError:
            found["refused"] += 1
        else:
            stated, names = _Plain(made).load(), released_names(shapes)
            right = {name: tensor.shape for name, tensor in tensors.items()} == shapes and all(
                np.array_equal(tensor, stated[names[name]]) and tensor.dtype == np.float32 and np.isfinite(tensor).all()
                for name, tensor in tensors.items()
            )
            found["read as they stand" if right else "wrong"] += 1
        if done:
            raise SystemExit(f"a mutant made the loader do {done}")
    out.send(dict(found))


def mutants(state: State, part: str, work: Callable[[int, int, Any], None], count: int, piece: int) -> None:
    """Mutants, a piece in each process: one that crashes is found, and costs no other."""
    context = multiprocessing.get_context("fork")
    while (done := state.of(part, "mutants")) < count:
        now = min(piece, count - done)
        receive, send = context.Pipe(False)
        child = context.Process(target=work, args=(SEED + done, now, send))
        child.start()
        send.close()
        try:
            found = receive.recv()
        except EOFError:
            found = None
        child.join()
        if found is None or child.exitcode:
            raise SystemExit(f"{part}: the process of mutants {done} to {done + now} ended with {child.exitcode}")
        if found.get("wrong"):
            raise SystemExit(f"{part}: {found['wrong']} of mutants {done} to {done + now} gave wrong tensors")
        state.add(part, mutants=now, **found)


# Downloads


def downloads(state: State, count: int) -> None:
    """Downloads that go wrong, in turn in each way: refused in words or right, and right once the fault is gone."""
    from hub_server import BODIES, REFUSALS, REPO, TINY, HubServer, random_tensors
    from huggingface_hub import close_session, constants

    from tiny_biomoe.config import Config
    from tiny_biomoe.errors import WeightsError
    from tiny_biomoe.weights import hub, loading

    warnings.simplefilter("ignore")
    kinds = [*REFUSALS, *BODIES, "failing files", "page", "stalled"]
    hub.PAUSES = (0.01, 0.01)  # type: ignore[assignment]
    constants.HF_HUB_ETAG_TIMEOUT = constants.HF_HUB_DOWNLOAD_TIMEOUT = 1
    while (done := state.of("downloads", "faulty")) < count:
        kind, cached = kinds[done % len(kinds)], done // len(kinds) % 2 == 1
        with tempfile.TemporaryDirectory() as name, HubServer() as server:
            folder = Path(name)
            constants.ENDPOINT = server.url
            constants.HUGGINGFACE_CO_URL_TEMPLATE = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            constants.HF_HUB_CACHE = str(folder / "cache")
            loading.save(folder / "repository", random_tensors(seed=done), Config(name="tiny", architecture=TINY))
            server.publish({each.name: each.read_bytes() for each in (folder / "repository").iterdir()})
            expected = loading.tensor_digest(loading.load(folder / "repository").tensors)
            if cached:
                loading.load(REPO)
            server.fault = kind
            try:
                got = loading.tensor_digest(loading.load(REPO).tensors)
                outcome = "right in spite of it"
            except WeightsError:
                got, outcome = expected, "refused"
            server.fault = None
            close_session()
            if got != expected or loading.tensor_digest(loading.load(REPO).tensors) != expected:
                raise SystemExit(f"download {done}, {kind}: other weights than those that were published")
        state.add("downloads", faulty=1, **{outcome: 1})
    state.found["downloads"]["kinds"] = len(kinds)
    state.save()


# Guards


GUARDS: dict[str, tuple[str, str, str, str]] = {  # name: file, text, what stands there without the guard, its test
    "own(): a cached file of another user": (
        "sealed_files.py", "if status.st_uid != os.geteuid() or status.st_mode & 0o022:", "if False:",
        "test_sealed_files.py::test_row_124_a_cached_file_that_others_may_write_is_not_read",
    ),
    "the state of a file between survey and reading": (
        "batch/segments.py", "if file.state and state_of(parts_of(file.path)) != file.state:", "if False:",
        "batch/test_run.py::test_row_57_a_file_that_changes_while_a_run_is_at_work_fails_and_is_embedded_by_the_next",
    ),
    "the hash of a file": (
        "batch/plan.py", "return sum(part[0] for part in state), sha256_of(*parts), None, state",
        'return sum(part[0] for part in state), "0", None, state',
        "batch/test_growing.py::test_an_input_that_changed_is_embedded_anew_and_one_that_went_is_gone",
    ),
    "folder sync": (
        "sealed_files.py", "        sync_folder(path.parent)\n", "",
        "test_sealed_files.py::test_a_write_reaches_the_disk_with_its_name",
    ),
    "fsync of a file": (
        "sealed_files.py", "            os.fsync(file.fileno())\n", "",
        "batch/test_run.py::test_row_77_a_shard_that_does_not_reach_the_disk_is_not_committed",
    ),
    "_is_best": (
        "train/finetuning.py", "return losses[epoch] == min(losses) and losses.index(losses[epoch]) == epoch",
        "return True",
        "train/test_finetuning.py::test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss",
    ),
    "the hash of a shard on resuming": (
        "batch/shards.py", "return record if sha256_of(shard_paths(out, name)[0]) == record.sha256 else None",
        "return record", "batch/test_run.py::test_row_85_damage_is_found_by_hash_and_mended",
    ),
    "the hash of a shard on reading": (
        "batch/loading.py", 'if sha256_of(path) != facts["sha256"]:', "if False:",
        "batch/test_loading.py::test_what_is_not_whole_is_refused",
    ),
    "the hash of a shard that is kept": (
        "batch/study_changes.py",
        "return all(self._digest(part.path) == part.sha256 for part in kept.parts)",
        "return True",
        "batch/test_growing.py::test_a_kept_shard_that_is_damaged_is_not_used",
    ),
    "names of shards in a manifest": (
        "batch/loading.py", "if not (NAME.fullmatch(name) or NAME_1.fullmatch(name)):", "if False:",
        "batch/test_loading.py::test_row_101_a_manifest_names_shards_and_nothing_else",
    ),
    "the seal of a record": (
        "sealed_files.py", "return content if hashlib.sha256(plain_json(content)).hexdigest() == seal else None",
        "return content", "test_sealed_files.py::test_every_flipped_byte_is_found",
    ),
    "one run a folder": (
        "batch/run.py", "        lock.acquire(timeout=0)\n", "",
        "batch/test_run.py::test_row_81_two_runs_on_one_output",
    ),
    "windows asked for twice": (
        "batch/segments.py", "if np.isin(mine, starts.get(channel, [])).any():", "if False:",
        "batch/test_run.py::test_the_rows_of_a_study_file",
    ),
    "other settings": (
        "batch/manifest.py", "if earlier is not None and _identity(earlier) != _identity(facts):", "if False:",
        "batch/test_run.py::test_row_82_another_model_or_other_arguments",
    ),
    "signals wait for the shard": (
        "batch/run.py", "        received.append(number)\n", "        raise KeyboardInterrupt\n",
        "batch/test_run.py::test_row_75_signals_finish_the_shard",
    ),
    "a dead worker's work is done again": (
        "batch/pipeline.py", "for _ in range(TRIES - 1):", "for _ in range(0):",
        "batch/test_run.py::test_row_79_a_killed_worker_is_replaced",
    ),
    "directory of a safetensors file": (
        "weights/tensor_files.py", "    if length > MAX_DIRECTORY:", "    if False:",
        "weights/test_tensor_files.py::test_row_99_a_header_of_300_000_tensors_is_not_parsed",
    ),
    "names twice in a header": (
        "weights/tensor_files.py", "    if len(found) < len(pairs):", "    if False:",
        "weights/test_tensor_files.py::test_row_98_a_key_twice_in_the_header",
    ),
    "values that are not finite": (
        "weights/tensor_files.py", "    if not np.isfinite(tensor.sum(dtype=np.float64)):", "    if False:",
        "weights/test_loading.py::test_row_71_values_that_are_not_finite",
    ),
    "what a pickle may name": (
        "weights/released_checkpoint.py", "            _check_pickle(archive.read(pickled), where)\n", "",
        "weights/test_tensor_files.py::test_row_94_a_pickle_that_fills_memory_is_refused_before_torch_reads_it",
    ),
    "entries of an archive": (
        "weights/released_checkpoint.py", "    if pickled is None or found:", "    if pickled is None:",
        "weights/test_tensor_files.py::test_row_95_an_archive_that_torch_save_does_not_write",
    ),
    "tensors of stride 0": (
        "weights/released_checkpoint.py",
        "if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():", "if False:",
        "weights/test_tensor_files.py::test_row_70_other_tensors_in_a_pth",
    ),
    "checksums of an archive": (
        "weights/released_checkpoint.py", "            if damaged := archive.testzip():", "            if False:",
        "weights/test_tensor_files.py::test_row_95_a_value_that_changed_is_found_by_its_checksum",
    ),
}  # fmt: skip


def guards(state: State, only: str | None) -> None:
    """Each guard is removed once, in a copy, and the test that is named must fail; with all of them it passes."""
    for name, (file, text, without, test) in GUARDS.items():
        if (only is not None and only not in name) or name in state.found.get("guards", {}):
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for part in ("tiny_biomoe", "tests", "examples", "benchmarks", "pretraining"):
                shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.many"))
            for part in ("pyproject.toml", "README.md", "weights_card.md"):
                shutil.copy(ROOT / part, place / part)
            if not _passes(place, test):
                raise SystemExit(f"{name}: {test} fails with the guard in its place")
            source = place / "tiny_biomoe" / file
            written = source.read_text()
            if written.count(text) != 1:
                raise SystemExit(f"{name}: {text!r} stands {written.count(text)} times in {file}: mend GUARDS")
            source.write_text(written.replace(text, without))
            after = _passes(place, test)
        state.found.setdefault("guards", {})[name] = test if not after else f"NOT GUARDED by {test}"
        state.save()
    if lost := [name for name, test in state.found.get("guards", {}).items() if test.startswith("NOT")]:
        raise SystemExit(f"guards that no test notices: {', '.join(lost)}")


def _passes(place: Path, test: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{test}"]
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=["kills", "disk", "many", "tensors", "checkpoint", "downloads", "guards", "all"]
    )
    parser.add_argument("--network", choices=["stub", "real"])
    parser.add_argument("--count", type=int)
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--only", help="guards whose names hold this")
    parser.add_argument("--state", type=Path, default=ROOT / "benchmarks" / "faults.json")
    chosen = parser.parse_args()
    state, every = State(chosen.state.absolute()), chosen.what == "all"
    if chosen.what == "kills" or every:
        for network, count in (("stub", 1000), ("real", 60)):
            if chosen.network in (None, network):
                kills(state, network, chosen.count or count)
    if chosen.what == "disk" or every:
        disk(state)
    if chosen.what == "tensors" or every:
        mutants(state, "tensors", some_tensors, chosen.count or 1_000_000, 20_000)
    if chosen.what == "checkpoint" or every:
        mutants(state, "checkpoint", some_checkpoints, chosen.count or 250_000, 5_000)
    if chosen.what == "downloads" or every:
        downloads(state, chosen.count or 200)
    if chosen.what == "guards" or every:
        guards(state, chosen.only)
    if chosen.what == "many" or every:
        many(state, chosen.windows, chosen.count or 20)
    print(json.dumps(state.found, indent=1, sort_keys=True))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
