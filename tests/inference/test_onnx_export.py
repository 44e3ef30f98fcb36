"""The exported file: the same vectors, any batch, what it says of itself, and the backend that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from toy_networks import NARROW, hooked_rows, randomised

from tiny_biomoe import ConfigError, TinyBioMoE, __version__
from tiny_biomoe.cli.main import main
from tiny_biomoe.config import Config
from tiny_biomoe.inference.onnx_backend import kept_onnx, run_onnx, to_pixels
from tiny_biomoe.inference.onnx_export import TOLERANCE, to_onnx
from tiny_biomoe.weights.loading import arrays


@pytest.fixture(scope="module")
def model() -> TinyBioMoE:
    return TinyBioMoE.from_pretrained()


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> bytes:
    """What `tiny-biomoe export` writes: made once, for it takes a while."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    with pytest.raises(SystemExit) as done:
        main(["export", "--format", "onnx", "-o", str(path)])
    assert done.value.code == 0
    return path.read_bytes()


def test_any_batch_is_the_plain_network_image_by_image(model, exported):
    levels = np.random.RandomState(1).randint(0, 256, (5, 224, 224)).astype(np.uint8)
    run = run_onnx(exported)
    with torch.no_grad():
        expected = torch.cat([model(torch.from_numpy(to_pixels(picture[None]))) for picture in levels]).numpy()
    for n in (1, 2, 5):
        np.testing.assert_allclose(run(levels[:n]), expected[:n], rtol=0, atol=TOLERANCE)


def test_rows_are_those_of_the_network(model, exported):
    levels = np.random.RandomState(2).randint(0, 256, (3, 224, 224)).astype(np.uint8)
    found = run_onnx(exported)(levels, True)
    np.testing.assert_allclose(found[:, 192:], hooked_rows(model, levels), rtol=1e-5, atol=2e-5)
    assert found[:, :192].tobytes() == run_onnx(exported)(levels, False).tobytes()


def test_the_file_says_what_it_is(model, exported):
    file = onnx.load_from_string(exported)
    onnx.checker.check_model(file)
    facts = {entry.key: entry.value for entry in file.metadata_props}
    own = model.provenance(100, "eda")
    assert Config.from_json(facts["config"])[0] == model.config
    assert facts["tensors_sha256"] == own["tensors_sha256"]
    assert facts["weights_sha256"] == own["weights_sha256"]
    assert facts["library"] == f"tiny-biomoe {__version__}"
    assert json.loads(facts["config"])["recipe"]["version"] == model.recipe.version
    shape = [side.dim_param or side.dim_value for side in file.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 224, 224]
    assert "DFT" not in {node.op_type for node in file.graph.node}


def test_the_backend_changes_nothing_else(model, exported, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("tiny_biomoe.inference.onnx_export.to_onnx", lambda tensors, config: exported)
    other = TinyBioMoE.from_pretrained(backend="onnx")
    signals = np.random.default_rng(0).standard_normal((5, 640))
    found = other.embed(signals, 64, "bvp")
    np.testing.assert_allclose(found, model.embed(signals, 64, "bvp"), rtol=0, atol=1e-4)
    assert [other.embed(signal, 64, "bvp").tobytes() for signal in signals] == [row.tobytes() for row in found]
    rows, expected = (m.embed(signals[0], 64, "bvp", readout="rows") for m in (other, model))
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=2e-5)
    assert other.provenance(64, "bvp")["backend"] == "onnx"
    (kept,) = (tmp_path / "tiny-biomoe").iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    tensors = arrays(model.state_dict())
    assert kept_onnx(tensors, model.config) == exported
    assert kept.read_bytes()[32:] == exported
    monkeypatch.setattr("tiny_biomoe.inference.onnx_export.to_onnx", lambda tensors, config: b"exported again")
    assert kept_onnx(tensors, model.config) == exported
    kept.chmod(0o664)  # others could have written it
    assert kept_onnx(tensors, model.config) == b"exported again"


def test_the_backend_computes_in_float32():
    with pytest.raises(ConfigError, match="leave out precision"):
        TinyBioMoE.from_pretrained(backend="onnx", precision="bfloat16")
    with pytest.raises(ConfigError, match="unknown backend 'tvm'"):
        TinyBioMoE.from_pretrained(backend="tvm")


def test_the_output_is_checked_before_the_work(tmp_path, capsys):
    for output, message in ((tmp_path / "model.pt", "ends in .onnx"), (tmp_path / "no" / "a.onnx", "is no folder")):
        with pytest.raises(SystemExit) as done:
            main(["export", "-o", str(output)])
        assert done.value.code == 1
        assert message in capsys.readouterr().err


def test_under_autocast_and_other_defaults_the_file_is_the_same():
    """Row 122: of a narrow network, which is made quickly."""
    narrow = randomised(**NARROW)
    tensors = arrays(narrow.state_dict())
    usual = to_onnx(tensors, narrow.config)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert to_onnx(tensors, narrow.config) == usual


def test_without_its_extra_the_command_says_what_to_install(tmp_path):
    script = (
        "import sys; sys.modules['onnx'] = None\n"
        "from tiny_biomoe.cli import main\n"
        f"sys.argv = ['tiny-biomoe', 'export', '-o', {str(tmp_path / 'a.onnx')!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('error: ONNX needs onnx: pip install "tiny-biomoe[onnx]"')


def test_without_its_extra_the_backend_is_refused_before_weights_are_loaded(monkeypatch):
    monkeypatch.setattr("tiny_biomoe.inference.backends.ONNX_PACKAGES", ("no_such_package",))
    monkeypatch.setattr("tiny_biomoe.weights.loading.load", lambda *_, **__: 1 // 0)
    with pytest.raises(ImportError, match=r'pip install "tiny-biomoe\[onnx\]"'):
        TinyBioMoE.from_pretrained(backend="onnx")
