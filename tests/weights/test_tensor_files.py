"""Tensor files that a stranger may have written: the authors' checkpoint is read, and nothing hostile is run.

Numbers in the names are rows of the project's table of faults.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hub_server import random_tensors
from torch import Tensor
from torch.torch_version import TorchVersion

from tiny_biomoe.config import Architecture, Config
from tiny_biomoe.errors import TinyBioMoEError, WeightsError
from tiny_biomoe.weights import loading as weights
from tiny_biomoe.weights.released_checkpoint import read_pth, released_layout
from tiny_biomoe.weights.released_names import released_names
from tiny_biomoe.weights.shapes import tensor_shapes
from tiny_biomoe.weights.tensor_files import DamagedError, read_safetensors

LAYOUT = json.loads((Path(__file__).parents[1] / "data" / "released_layout.json").read_text())  # name: [dtype, *shape]
TABLE = "enc2.blocks1.0.mixer.m.attn.attention_bias_idxs"


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """A state dict as the authors' checkpoint holds it: 510 entries."""
    ours = random_tensors(Architecture())
    state = {theirs: ours[name] for name, theirs in released_names(ours).items()}
    for name, (_, *shape) in LAYOUT.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        if name.endswith("attention_bias_idxs"):
            side = math.isqrt(shape[0])
            tokens = [divmod(token, side) for token in range(side * side)]
            state[name] = torch.tensor([[abs(r - s) * side + abs(c - d) for s, d in tokens] for r, c in tokens])
    return {name: state[name] for name in LAYOUT}


def as_pth(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def as_zip(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def as_safetensors(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor_entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Bomb:
    """Unpickled the ordinary way, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


# Hostile safetensors


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + b"{}",
        as_safetensors(b"[1]"),
        as_safetensors(b"{"),
        as_safetensors(b"[" * 10**5),
        as_safetensors(b'{"a": 1}'),
        as_safetensors(b'{"a": {"dtype": "F32"}}'),
        as_safetensors({"a": tensor_entry([2], 0, 8)}, bytes(9)),
        as_safetensors({"a": tensor_entry([2], 0, 8)}, bytes(7)),
        as_safetensors({"a": tensor_entry([2], 4, 12)}, bytes(12)),
        as_safetensors({"a": tensor_entry([2], 0, 2**62)}, bytes(8)),
        as_safetensors({"a": tensor_entry([2], 0, 4)}, bytes(4)),
    ],
    ids=[
        "empty", "short", "length of header", "list", "cut off", "deep", "number", "no shape", "trailing byte",
        "missing byte", "hole", "offset beyond", "shape that lies",
    ],
)  # fmt: skip
def test_row_97_a_header_that_lies(data: bytes) -> None:
    with pytest.raises(DamagedError, match="safetensors"):
        read_safetensors(data, {"a": (2,)}, "here")


def test_row_97_overlap() -> None:
    data = as_safetensors({"a": tensor_entry([2], 0, 8), "b": tensor_entry([2], 4, 12)}, bytes(12))
    with pytest.raises(DamagedError, match="invalid offset"):
        read_safetensors(data, {"a": (2,), "b": (2,)}, "here")


@pytest.mark.parametrize("shape", [[2**40, 2**40], [2.0], [-2], "22", [[2]]])
def test_row_96_a_shape_that_is_not_the_expected_one_is_never_allocated(shape: Any) -> None:
    data = as_safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}, bytes(8))
    with pytest.raises(WeightsError, match="'a' is|not a sound safetensors file"):
        read_safetensors(data, {"a": (2,)}, "here")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {"dtype": "F32", "shape": [2]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "shape": [2], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"k": "1", "k": "2"}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    ],
)  # fmt: skip
def test_row_98_a_key_twice_in_the_header(header: bytes) -> None:
    with pytest.raises(DamagedError, match=r"'(a|shape|k)' appears 2 times"):
        read_safetensors(as_safetensors(header, bytes(8)), {"a": (2,)}, "here")


def test_metadata_in_the_header_is_no_tensor() -> None:
    data = safetensors.torch.save({"a": torch.tensor([1.0, 2.0])}, metadata={"format": "pt"})
    assert read_safetensors(data, {"a": (2,)}, "here")["a"].tolist() == [1.0, 2.0]


def test_row_99_a_header_of_300_000_tensors_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    entry = b'"%06d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    data = as_safetensors(b"{" + b",".join(entry % i for i in range(300_000)) + b"}")
    with pytest.raises(WeightsError, match=r"a header of \d{8} bytes, more than 1048576, is not read"):
        read_safetensors(data, {"a": (2,)}, "here")


# The authors' checkpoint


def test_all_510_released_entries_are_covered_both_ways() -> None:
    shapes = tensor_shapes(Architecture())
    assert len(shapes) == 441
    assert released_layout(shapes) == {name: tuple(shape) for name, (_, *shape) in LAYOUT.items()}
    floats = {name for name, (dtype, *_) in LAYOUT.items() if dtype == "float32"}
    assert set(released_names(shapes).values()) == floats
    assert len(LAYOUT) == 510
    assert len(floats) == 441


def test_the_released_checkpoint_is_read_under_our_names(tmp_path: Path, released: dict[str, Tensor]) -> None:
    file = tmp_path / "Tiny-BioMoE.pth"
    file.write_bytes(as_pth({"model_state_dict": released}))
    for source in (file, tmp_path):
        loaded = weights.load(source)
        assert loaded.config == Config(name="Tiny-BioMoE v1.0 (released)")
        assert loaded.source == str(source)
        assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert list(loaded.tensors) == list(tensor_shapes(Architecture()))
        for ours, theirs in released_names(loaded.tensors).items():
            assert np.array_equal(loaded.tensors[ours], released[theirs])


def test_conversion_is_the_same_weights_in_our_format(tmp_path: Path, released: dict[str, Tensor]) -> None:
    (tmp_path / "w.pth").write_bytes(as_pth(released))  # a bare state dict will do
    converted = weights.convert(tmp_path / "w.pth", tmp_path / "ours")
    assert converted.source == str(tmp_path / "ours")
    assert converted.config.name == "Tiny-BioMoE v1.0 (released)"
    assert weights.tensor_digest(converted.tensors) == weights.tensor_digest(weights.load(tmp_path / "w.pth").tensors)


def test_row_73_optimizer_state_is_ignored_with_a_notice(released: dict[str, Tensor]) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {"epoch": 3, "model_state_dict": released, "optimizer_state_dict": optimizer.state_dict()}
    with pytest.warns(UserWarning, match="only 'model_state_dict' is used; ignored: 'epoch', 'optimizer_state_dict'"):
        loaded = read_pth(as_pth(content), tensor_shapes(Architecture()), "here")
    assert len(loaded) == 441


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ln_e.bias": None}, r"1 missing \('ln_e\.bias'\)"),
        ({"ln_e.other": torch.zeros(2)}, r"1 too many \('ln_e\.other'\)"),
        ({"ln_e.bias": torch.zeros(2)}, r"'ln_e\.bias' is \(2,\), expected \(96,\)"),
        ({"ln_e.bias": torch.zeros(96).double()}, r"ln_e\.bias is torch\.float64, expected torch\.float32"),
        ({"ln_e.bias": torch.zeros(96).half()}, r"ln_e\.bias is torch\.float16, expected torch\.float32"),
        ({"ln_e.bias": torch.zeros(1).expand(96)}, r"ln_e\.bias claims 96 values and holds fewer"),
        ({"ln_e.bias": torch.zeros(1).expand(2**40)}, r"'ln_e\.bias' is \(1099511627776,\), expected \(96,\)"),
        ({"ln_e.bias": torch.full((96,), math.nan)}, r"embedding_norm\.bias holds NaN or infinity"),
        ({"ln_e.bias": torch.zeros(96).to_sparse()}, r"'ln_e\.bias' is not a plain tensor"),
        ({"ln_e.bias": torch.zeros(96, device="meta")}, r"'ln_e\.bias' is not a plain tensor"),
        ({"ln_e.bias": [0.0] * 96}, r"'ln_e\.bias' is not a plain tensor"),
        ({TABLE: torch.zeros(49, 49, dtype=torch.int64)}, "orders the position biases in another way"),
        ({TABLE: torch.zeros(49, 49)}, r"torch\.float32, expected torch\.int64"),
    ],
    ids=[
        "missing", "extra", "shape", "float64", "float16", "row 96 stride 0", "row 96 huge", "row 71 NaN", "sparse",
        "meta", "list", "table", "table's dtype",
    ],
)  # fmt: skip
def test_row_70_other_tensors_in_a_pth(released: dict[str, Tensor], change: dict[str, Any], message: str) -> None:
    state = {name: tensor for name, tensor in {**released, **change}.items() if tensor is not None}
    with pytest.raises(WeightsError, match=message):
        read_pth(as_pth({"model_state_dict": state}), tensor_shapes(Architecture()), "here")


@pytest.mark.parametrize("content", [[1, 2], {"model_state_dict": 3}, {1: torch.zeros(2)}, None], ids=str)
def test_a_pth_without_named_tensors(content: Any) -> None:
    with pytest.raises(WeightsError, match="holds neither 'model_state_dict' nor named tensors"):
        read_pth(as_pth(content), {}, "here")


def test_torch_before_2_10_does_not_read_pth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1"))
    with pytest.raises(WeightsError, match=r"torch 2\.9\.1 cannot read \.pth files safely; install torch>=2\.10"):
        read_pth(as_pth({}), {}, "here")


# Hostile checkpoints


@pytest.mark.parametrize("name", ["bomb.pth", "bomb.safetensors", "bomb"])
@pytest.mark.parametrize("form", ["pickle", "legacy", "zip"])
def test_row_94_a_pickle_bomb_is_never_run(tmp_path: Path, name: str, form: str) -> None:
    bomb = {"model_state_dict": Bomb(tmp_path / "it ran")}
    forms = {
        "pickle": pickle.dumps(bomb),
        "legacy": as_pth(bomb, _use_new_zipfile_serialization=False),
        "zip": as_pth(bomb),
    }
    (tmp_path / name).write_bytes(forms[form])
    (tmp_path / "config.json").write_text(Config().to_json())
    with pytest.raises(WeightsError, match=r"posix\.mkdir|not a zip archive|not a whole safetensors file"):
        weights.load(tmp_path / name)
    assert not (tmp_path / "it ran").exists()


def test_row_94_a_legacy_file_is_refused_even_if_harmless(released: dict[str, Tensor]) -> None:
    data = as_pth(released, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="not a zip archive, so a legacy pickle"):
        read_pth(data, tensor_shapes(Architecture()), "here")


def test_row_94_a_pickle_that_fills_memory_is_refused_before_torch_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    pickled = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R."
    with pytest.raises(WeightsError, match=r"asks for 'builtins\.bytearray', which no tensor needs; nothing was run"):
        read_pth(as_zip([("a/data.pkl", pickled), ("a/version", b"3\n")]), {}, "here")


def test_row_94_torchs_own_list_holds_where_ours_does_not_reach() -> None:
    pickled = pickle.dumps(torch.hub.load, protocol=2)
    with pytest.raises(WeightsError, match=r"not a sound checkpoint of tensors alone \(UnpicklingError\)"):
        read_pth(as_zip([("a/data.pkl", pickled), ("a/version", b"3\n"), ("a/byteorder", b"little")]), {}, "here")


def overlapping() -> bytes:
    """An archive with two entries of 100 bytes, both the same 100 bytes of the file."""
    data = bytearray(as_zip([("a/data.pkl", bytes(100)), ("a/data.pkm", bytes(100))]))
    central = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    data[central[1] + 42 : central[1] + 46] = data[central[0] + 42 : central[0] + 46]
    for start in central:
        data[start + 20 : start + 28] = struct.pack("<II", 10**6, 10**6)
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(as_zip([("a/data.pkl", b"\x80\x02N.")]))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


SOUND = as_zip([("a/data.pkl", b"\x80\x02N."), ("a/version", b"3\n")])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (as_zip([("a/data.pkl", bytes(10**7))], zipfile.ZIP_DEFLATED), "compressed entries"),
        (as_zip([("a/data.pkl", bytes(2**20 + 1))]), "a data.pkl of more than 1048576 bytes"),
        (as_zip([("a/data.pkl", b"N."), ("a/../../b", b"")]), r"a name with '\.\.'"),
        (as_zip([("a/data.pkl", b"N."), ("/a", b"")]), "an absolute name"),
        (as_zip([("a/data.pkl", b"N."), ("a/data.pkm", b"N.")]).replace(b".pkm", b".pkl"), "a name that appears twice"),
        (as_zip([("a/data.pkl", b"N."), ("a/DATA.PKL", b"N.")]), "a name that appears twice"),
        (as_zip([("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]), "more than one folder"),
        (as_zip([("a/version", b"3\n")]), "no data.pkl"),
        (as_zip([(f"a/{'x' * 1000}{i}", b"") for i in range(1100)]), "directory exceeds 1048576 bytes"),
        (overlapping(), r"entries of 2000000 bytes in a file of \d{3}"),
        (encrypted(), "encrypted entries"),
        (SOUND + b"more", "has something behind its end"),
        (SOUND[:-1], "cut off"),
        (SOUND[:40], "cut off"),
        (SOUND[:4] + bytes(len(SOUND) - 26) + SOUND[-22:], "is not sound|no data.pkl"),
        (b"", "not a zip archive"),
    ],
    ids=[
        "deflated", "large pickle", "dots", "absolute", "twice", "twice but for case", "two folders", "no pickle",
        "directory", "overlap", "encrypted", "trailing", "truncated by 1", "truncated", "zeroed", "empty",
    ],
)  # fmt: skip
def test_row_95_an_archive_that_torch_save_does_not_write(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(WeightsError, match=message):
        read_pth(data, {}, "here")


def test_row_95_a_value_that_changed_is_found_by_its_checksum(released: dict[str, Tensor]) -> None:
    data = bytearray(as_pth(released))
    values = released["fcn.1.weight"].numpy().tobytes()
    data[data.index(values) + 2] ^= 1
    with pytest.raises(DamagedError, match=r"released: 'archive/data/\d+' is not what its checksum says"):
        read_pth(bytes(data), tensor_shapes(Architecture()), "released")


def test_row_95_an_oversized_pth_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_FILE", 1000)
    (tmp_path / "w.pth").write_bytes(as_pth({"a": torch.zeros(1000)}))
    with pytest.raises(WeightsError, match="more than 1000 bytes"):
        weights.load(tmp_path)


def test_row_96_a_storage_that_claims_more_than_its_record() -> None:
    tensor = as_pth({"model_state_dict": {"a": torch.zeros(4)}})
    with zipfile.ZipFile(io.BytesIO(tensor)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    short = [(name, data[:8] if name.endswith("data/0") else data) for name, data in entries]
    with pytest.raises(WeightsError, match=r"not a sound checkpoint of tensors alone \(RuntimeError\)"):
        read_pth(as_zip(short), {"a": (4,)}, "here")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:here")
def test_row_94_any_mutation_is_read_or_refused(seed: int) -> None:
    """Whatever a few changed bytes make of the pickle, the archive or the header, no other error escapes."""
    generator = random.Random(seed)
    shapes = {"gate.weight": (3, 4), "gate.bias": (2,)}
    state = {"fcn.1.weight": torch.zeros(3, 4), "fcn.1.bias": torch.ones(2)}
    with zipfile.ZipFile(io.BytesIO(as_pth({"model_state_dict": state, "epoch": 3}))) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    ours = as_safetensors(
        {"gate.weight": tensor_entry([3, 4], 0, 48), "gate.bias": tensor_entry([2], 48, 56)}, bytes(56)
    )
    outcomes = []
    for _ in range(150):
        pickled = [(name, mutated(data, generator) if name.endswith(".pkl") else data) for name, data in entries]
        for read, data in (
            (read_pth, as_zip(pickled)),
            (read_pth, mutated(as_zip(entries), generator)),
            (read_safetensors, mutated(ours, generator)),
        ):
            try:
                read(data, shapes, "here")
                outcomes.append("read")
            except TinyBioMoEError:
                outcomes.append("refused")
    assert outcomes.count("refused") > 200
    assert outcomes.count("read") > 10


def mutated(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)
