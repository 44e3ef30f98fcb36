"""Weights from folders and files: what is read back, and what is refused.

Numbers in the names are rows of the project's table of faults.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hub_server import PAGE, TINY, random_tensors
from torch import Tensor

from tiny_biomoe.config import Architecture, Config
from tiny_biomoe.errors import ConfigError, WeightsError
from tiny_biomoe.network.network import Network
from tiny_biomoe.weights import loading as weights
from tiny_biomoe.weights.shapes import tensor_shapes
from tiny_biomoe.weights.tensor_files import DamagedError

CONFIG = Config(name="tiny", architecture=TINY)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return random_tensors()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    weights.save(folder, tensors, CONFIG)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A folder of weights that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def rewrite(folder: Path, data: bytes) -> Path:
    """Put another tensor file into a folder, with a config.json that states its sha256: the file alone is at fault."""
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text(CONFIG.to_json(sha256=hashlib.sha256(data).hexdigest()))
    return folder


# Folders: there and back


def test_what_is_saved_is_what_is_loaded(folder: Path, tensors: dict[str, Tensor]) -> None:
    loaded = weights.load(folder)
    assert loaded.config == CONFIG
    assert loaded.source == str(folder)
    assert loaded.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads((folder / "config.json").read_text())["sha256"] == loaded.sha256
    assert list(loaded.tensors) == list(tensors)
    assert all(np.array_equal(loaded.tensors[name], tensors[name]) for name in tensors)
    assert sorted(entry.name for entry in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_equal_weights_give_equal_files(folder: Path, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    reversed_order = dict(reversed(tensors.items()))
    again = weights.save(tmp_path / "again", reversed_order, CONFIG)
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert again.sha256 == weights.load(folder).sha256


def test_half_is_half_the_size_and_comes_back_as_float32(
    tmp_path: Path, folder: Path, tensors: dict[str, Tensor]
) -> None:
    loaded = weights.save(tmp_path / "half", tensors, CONFIG, half=True)
    sizes = [(place / "model.safetensors").stat().st_size for place in (tmp_path / "half", folder)]
    assert sizes[1] - sizes[0] == pytest.approx(2 * sum(tensor.numel() for tensor in tensors.values()), abs=2000)
    assert {tensor.dtype for tensor in loaded.tensors.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(loaded.tensors[name], tensors[name]) for name in tensors)


def test_half_refuses_what_float16_cannot_hold(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    large = {**tensors, "gate.bias": torch.full((8,), 1e5)}
    with pytest.raises(WeightsError, match=r"gate\.bias as torch\.float16 holds NaN or infinity"):
        weights.save(tmp_path / "half", large, CONFIG, half=True)
    assert not (tmp_path / "half").exists()


def test_a_networks_state_is_saved_without_its_counters(tmp_path: Path) -> None:
    network = Network(CONFIG)
    loaded = weights.save(tmp_path, network.state_dict(), CONFIG)
    assert any(name.endswith("num_batches_tracked") for name in network.state_dict())
    assert not any(name.endswith("num_batches_tracked") for name in loaded.tensors)
    assert loaded.tensors.keys() == tensor_shapes(TINY).keys()
    assert weights.tensor_digest(network.state_dict()) == weights.tensor_digest(loaded.tensors)


def test_a_card_is_kept_where_somebody_wrote_it_and_else_belongs_to_the_weights(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    card = tmp_path / "README.md"
    first = weights.save(tmp_path, tensors, CONFIG)
    second = weights.save(tmp_path, {name: -tensor for name, tensor in tensors.items()}, CONFIG)
    assert first.sha256 not in card.read_text()
    assert second.sha256 in card.read_text()
    card.write_text("mine")
    weights.save(tmp_path, tensors, CONFIG)
    assert card.read_text() == "mine"
    weights.save(tmp_path, tensors, CONFIG, card="yours")
    assert card.read_text() == "yours"


def test_a_full_disk_leaves_the_weights_that_were_there(
    folder: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="cannot be written .*No space left on device.*make room"):
        weights.save(folder, {name: tensor + 1 for name, tensor in tensors.items()}, CONFIG)
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before


def test_death_between_two_files_is_noticed(
    folder: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def dies(source: Path, target: Path) -> None:
        if target.name == "config.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        weights.save(folder, {name: tensor + 1 for name, tensor in tensors.items()}, CONFIG)
    with pytest.raises(WeightsError, match="sha256"):
        weights.load(folder)


def test_a_folder_that_cannot_be_made(folder: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match="cannot be written .*choose another folder"):
        weights.save(folder / "config.json" / "below", tensors, CONFIG)


def test_digest_of_tensors_is_of_values_alone(tensors: dict[str, Tensor]) -> None:
    digest = weights.tensor_digest(tensors)
    assert weights.tensor_digest({name: tensor.half() for name, tensor in reversed(tensors.items())}) == digest
    assert weights.tensor_digest({**tensors, "a.num_batches_tracked": torch.tensor(3)}) == digest
    assert weights.tensor_digest({**tensors, "gate.bias": tensors["gate.bias"] + 1e-3}) != digest


# Sources


def test_bundled_weights_are_the_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BUNDLED", folder)
    assert weights.load().source == "bundled"
    assert weights.load().sha256 == weights.load(folder).sha256


def test_bundled_weights_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    with pytest.raises(WeightsError, match="this installation has no weights; reinstall tiny-biomoe"):
        weights.load()


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_needs_its_config_beside_it(folder: Path, kind: type) -> None:
    file = folder / "model.safetensors"
    assert weights.load(kind(file)).source == str(file)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json: there is no such regular file; .* belongs beside"):
        weights.load(kind(file))


@pytest.mark.parametrize(
    "name", ["", "gone", "./gone", "/gone/away.pth", "a/b/c", "gone.safetensors", "~/w", "x" * 5000]
)
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(WeightsError, match="is no file or folder, nor of the form 'owner/name'"):
        weights.load(name)


def test_a_path_object_is_never_looked_for_on_the_hub() -> None:
    with pytest.raises(WeightsError, match="'owner/name' is no file or folder"):
        weights.load(Path("owner/name"))


def test_a_revision_is_no_property_of_a_folder(folder: Path) -> None:
    with pytest.raises(WeightsError, match="revision='main' is for the Hub"):
        weights.load(folder, revision="main")


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(WeightsError, match="no such regular file"):
        weights.load(tmp_path)


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("a.pth", "b.pth")])
def test_row_69_a_folder_without_weights_is_listed(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    held = ", ".join(map(repr, names)) or "nothing"
    with pytest.raises(WeightsError, match=rf"neither model\.safetensors nor a single \.pth file, but {held}"):
        weights.load(tmp_path)


def test_row_69_safetensors_before_pth(folder: Path) -> None:
    (folder / "Tiny-BioMoE.pth").write_bytes(b"not even looked at")
    assert weights.load(folder).config.name == "tiny"


# Damage


def test_row_59_same_size_corruption_shows_both_hashes(folder: Path) -> None:
    file = folder / "model.safetensors"
    stated = weights.load(folder).sha256
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedError, match=stated) as caught:
        weights.load(folder)
    assert hashlib.sha256(data).hexdigest() in str(caught.value)
    assert "Copy or save it again" in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 8, 1000, -1])
def test_row_60_truncation(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DamagedError, match="sha256"):
        weights.load(folder)


@pytest.mark.parametrize("size", [0, 5, 8, 1000, -1])
def test_row_60_truncation_is_found_without_a_stated_hash(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    (folder / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(DamagedError, match="safetensors"):
        weights.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PAGE, "an HTML page"),
        (b"\n <HTML>", "an HTML page"),
        (b"version https://git-lfs.github.com", "a Git LFS pointer"),
    ],
)
def test_row_61_a_page_instead_of_a_file(folder: Path, name: str, data: bytes, kind: str) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(DamagedError, match=f"{name}: {kind} and not the file itself"):
        weights.load(folder)


# Other tensors than expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate.bias": None, "gate.weight": None}, r"2 missing \('gate\.weight', 'gate\.bias'\)"),
        ({"gate.extra": torch.zeros(1)}, r"1 too many \('gate\.extra'\)"),
        ({"gate.bias": torch.zeros(9)}, r"1 of another shape \('gate\.bias' is \(9,\), expected \(8,\)\)"),
        ({"\x1b[2J" + "x" * 10**5: torch.zeros(1)}, r"1 too many \('\\x1b\[2Jx{50,100}\.\.\.\)"),
    ],
)
def test_row_70_other_tensors(folder: Path, tensors: dict[str, Tensor], change: dict[str, Any], message: str) -> None:
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    rewrite(folder, safetensors.torch.save(changed))
    with pytest.raises(WeightsError, match=message):
        weights.load(folder)
    with pytest.raises(WeightsError, match=message):
        weights.save(folder, changed, CONFIG)


def test_row_70_another_architecture(folder: Path) -> None:
    (folder / "config.json").write_text(Config().to_json())
    with pytest.raises(
        WeightsError, match=r"40 missing \(.*, \.\.\.\); \d+ of another shape \(.*, \.\.\.\)\. Use the config"
    ):
        weights.load(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_row_71_values_that_are_not_finite(folder: Path, tensors: dict[str, Tensor], value: float) -> None:
    bad = {**tensors, "gate.bias": tensors["gate.bias"].clone()}
    bad["gate.bias"][3] = value
    rewrite(folder, safetensors.torch.save(bad))
    with pytest.raises(WeightsError, match=r"gate\.bias holds NaN or infinity"):
        weights.load(folder)
    with pytest.raises(WeightsError, match=r"gate\.bias as torch\.float32 holds NaN or infinity"):
        weights.save(folder, bad, CONFIG)


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "complex64", "float64", "bfloat16"])
def test_row_72_other_dtypes(folder: Path, tensors: dict[str, Tensor], dtype: str) -> None:
    stored = {**tensors, "gate.bias": torch.ones(8, dtype=getattr(torch, dtype))}
    rewrite(folder, safetensors.torch.save(stored))
    with pytest.raises(
        WeightsError, match=r"gate\.bias is '(I64|I8|BOOL|C64|F64|BF16)'; weights are stored as F16 or F32"
    ):
        weights.load(folder)


# Hostile config files and sizes


def test_row_98_a_key_twice_in_the_config(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"name": "tiny"', '"name": "tiny", "name": "other"', 1))
    with pytest.raises(ConfigError, match="'name' appears twice"):
        weights.load(folder)


@pytest.mark.parametrize(("name", "limit"), [("model.safetensors", "MAX_FILE"), ("config.json", "MAX_CONFIG")])
def test_row_99_a_file_beyond_its_limit_is_not_read(
    folder: Path, name: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, limit, 1000)
    with pytest.raises(WeightsError, match=f"{name}: more than 1000 bytes"):
        weights.load(folder)


def test_row_102_a_config_names_no_code(folder: Path) -> None:
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ConfigError, match="unknown key 'auto_map'"):
        weights.load(folder)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"waterfall_heads": (10**9, 3, 4)}, "no network can be built"),
        ({"waterfall_key_dim": -1}, "no network can be built"),
        ({"spectral_heads": (1,) * 1000}, "no network can be built"),
        ({"spectral_heads": (0, 0, 10)}, "no network can be built"),
        ({"waterfall_heads": (0, 3, 4)}, "no network can be built"),
    ],
)
def test_an_architecture_that_cannot_be_built(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tensor_shapes(Architecture(**numbers))


# Names


@pytest.mark.parametrize(
    "name",
    ["../owner", "owner/..", "owner/na..me", "-owner/name", "owner/.git", "owner/na--me", "owner/na me", "öwner/n"],
)
def test_row_100_a_repository_name_that_is_none(name: str) -> None:
    with pytest.raises(WeightsError, match="owner/name"):
        weights.load(name)


@pytest.mark.parametrize(
    "revision", ["../main", "a/../../b", "/main", "a//b", "main\n", "", "a b", "-main", "a?b=c", "x" * 300]
)
def test_row_100_a_revision_that_is_none(revision: str) -> None:
    with pytest.raises(WeightsError, match="cannot be the revision of weights on the Hub"):
        weights.load("owner/name", revision=revision)


def test_a_changed_digit_of_the_config_is_refused(folder: Path) -> None:
    file = folder / "config.json"
    text = file.read_text()
    file.write_text(text.replace('"psd_range_db": 80.0', '"psd_range_db": 70.0'))
    assert file.read_text() != text
    with pytest.raises(WeightsError, match=r"config\.json: not what model\.safetensors was saved with"):
        weights.load(folder)
    file.write_text(json.dumps(json.loads(text.replace("80.0", "80"))))  # the same numbers, laid out otherwise
    assert weights.load(folder).config.recipe.psd_range_db == 80


def test_tensors_that_state_no_config_are_accepted(folder: Path) -> None:
    file, facts = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    file.write_bytes(safetensors.torch.save(safetensors.torch.load(file.read_bytes())))
    facts["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(facts))
    assert weights.load(folder).sha256 == facts["sha256"]


def test_the_bundled_config_is_the_one_that_was_packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BUNDLED", folder)
    digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  config.json\n")
    assert weights.load().source == "bundled"
    with (folder / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(WeightsError, match="not that in SHA256SUMS; reinstall tiny-biomoe"):
        weights.load()
