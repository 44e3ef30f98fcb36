"""The main path: no torch where none is needed, frozen weights, the caller's settings, bad signals among good ones."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import weakref
from textwrap import dedent

import numpy as np
import pytest
import torch
from conftest import ROOT

from tiny_biomoe import ConfigError, SignalError, SignalWarning, TinyBioMoE, WeightsError, embed
from tiny_biomoe.embedding import Embedder, bundled
from tiny_biomoe.inference.native_program import native_program

FS = 100
SIGNAL = np.sin(np.arange(1000) / 9)
needs_native = pytest.mark.skipif(native_program("float32") is None, reason="no native program for this processor")


@pytest.fixture(scope="module")
def expected() -> bytes:
    return embed(SIGNAL, fs=FS, modality="ecg").tobytes()


def in_new_process(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", dedent(script), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_native
def test_vectors_files_and_commands_need_no_torch(tmp_path):
    script = """
        import sys
        import numpy as np
        from tiny_biomoe import embed, render
        from tiny_biomoe.recordings import read
        from tiny_biomoe.cli import main
        x, out = np.sin(np.arange(1000.0)), sys.argv[1]
        [embed(x, fs=100, modality=modality) for modality in ("ecg", "bvp")]
        assert not {"scipy.signal", "scipy.stats"} & set(sys.modules)
        render(x, fs=100, modality="ecg")
        read("examples/recordings/ecg.csv")
        for arguments in (["embed", "examples/recordings/ecg.csv", "-o", out + "/out.npz"], ["selfcheck"],
                          ["embed", "examples/study.csv", "--window", "5", "--workers", "0", "-o", out + "/out"],
                          ["weights", "info"], ["show", "examples/recordings/ecg.csv", "-o", out + "/out.png"],
                          ["embed", "examples/recordings/ecg.csv", "--dry-run"], ["--help"]):
            try:
                main(arguments)
            except SystemExit as stop:
                assert not stop.code, arguments
        heavy = ("torch", "huggingface_hub", "pywt", "matplotlib", "sklearn")
        print([name for name in heavy if name in sys.modules])
    """
    assert in_new_process(script, tmp_path).splitlines()[-1] == "[]"


def test_both_ways_in_give_the_same_bytes(expected):
    assert TinyBioMoE.from_pretrained().embed(SIGNAL, FS, "ecg").tobytes() == expected
    assert bundled().embed(SIGNAL, FS, "ecg").tobytes() == expected
    assert pickle.loads(pickle.dumps(bundled())).embed(SIGNAL, FS, "ecg").tobytes() == expected


@pytest.mark.parametrize("change", ["in place", "load", "replace", "to and back", "data", "numpy"])
def test_a_change_of_weights_is_seen_or_refreshed(change, expected):
    model = TinyBioMoE.from_pretrained()
    assert model.embed(SIGNAL, FS, "ecg").tobytes() == expected
    kept = model.frozen()
    weight = model.output_norm.weight
    if change == "in place":
        with torch.no_grad():
            weight += 1
    elif change == "load":
        model.load_state_dict({**model.state_dict(), "output_norm.weight": weight + 1})
    elif change == "replace":
        model.output_norm.weight = torch.nn.Parameter(weight.detach() + 1)
    elif change == "to and back":
        model.double().float()
    elif change == "data":
        weight.data += 1
    else:
        weight.detach().numpy()[...] += 1
    if change in ("data", "numpy"):  # PyTorch counts neither
        assert model.frozen() is kept
        model.refresh()
    assert model.frozen() is not kept
    found = model.embed(SIGNAL, FS, "ecg").tobytes()
    assert (found == expected) == (change == "to and back")
    assert model.frozen() is model.frozen()


def test_a_model_is_freed_with_what_it_froze():
    model = TinyBioMoE.from_pretrained()
    frozen = weakref.ref(model.frozen())
    pickled = pickle.dumps(model.frozen())
    del model
    assert frozen() is None  # at once: memory of the native program is not seen by the garbage collector
    assert pickle.loads(pickled).embed(SIGNAL, FS, "ecg").shape == (192,)


def test_what_changed_cannot_travel_under_the_old_name(tmp_path):
    TinyBioMoE.from_pretrained().save_pretrained(tmp_path)
    kept = Embedder.from_pretrained(tmp_path)
    changed = TinyBioMoE.from_pretrained()
    with torch.no_grad():
        changed.gate.bias += 1
    changed.save_pretrained(tmp_path)  # row 125: a folder that is saved anew gives the new weights
    assert Embedder.from_pretrained(tmp_path).tensors_sha256 == changed.frozen().tensors_sha256
    with pytest.raises(WeightsError, match="have changed since they were loaded"):
        pickle.dumps(kept)


@pytest.mark.parametrize("backend", [None, "torch"])
def test_row_122_the_callers_pytorch_settings_change_no_byte(backend):
    script = """
        import sys
        import numpy as np, torch
        from tiny_biomoe import TinyBioMoE
        from tiny_biomoe.embedding import Embedder
        x, backend = np.sin(np.arange(1000) / 9), sys.argv[1] or None
        def vectors():
            models = (TinyBioMoE.from_pretrained(backend=backend), Embedder.from_pretrained(backend=backend))
            return [model.embed(x, 100, "ecg").tobytes() for model in models]
        expected = vectors()
        def same(name):
            assert vectors() == expected, name
        with torch.inference_mode():
            same("inference mode")
        with torch.no_grad():
            same("no gradients")
        torch.set_default_dtype(torch.float64)
        same("default dtype")
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)
        torch.set_default_device("meta")
        same("default device")
    """
    in_new_process(script, backend or "")


def test_row_116_one_bad_signal_costs_itself():
    flat, gap = np.full(1000, 3.0), np.where(np.arange(1000) == 5, np.nan, SIGNAL)
    signals, alone = [SIGNAL, flat, SIGNAL, gap], embed(SIGNAL, fs=FS, modality="ecg")
    with pytest.raises(SignalError, match=r"signal\[1\].*flat"):
        embed(signals, fs=FS, modality="ecg")
    with pytest.warns(
        SignalWarning, match=r"2 of 4 signals cannot be embedded and are NaN: signal\[1\].*signal\[3\]"
    ) as w:
        found = embed(signals, fs=FS, modality="ecg", on_bad="nan")
    assert len(w) == 1
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], [alone, alone])
    with pytest.warns(SignalWarning, match="are left out"):
        assert embed(signals, fs=FS, modality="ecg", on_bad="skip").shape == (2, 192)
    with pytest.warns(SignalWarning, match="2 of 2"):
        assert np.isnan(embed([flat, flat], fs=FS, modality="ecg", on_bad="nan")).shape == (2, 192)
    with pytest.raises(ConfigError, match="unknown on_bad 'ignore'"):
        embed(signals, fs=FS, modality="ecg", on_bad="ignore")


def test_row_127_padding_that_would_multiply_a_signal_is_refused():
    with pytest.raises(SignalError, match="more than 10 times as long"):
        embed(SIGNAL, fs=FS, modality="ecg", window=1e7, short="pad")
    assert embed(SIGNAL, fs=FS, modality="ecg", window=100, short="pad").shape == (1, 192)


def test_compile_is_deprecated_and_names_backend():
    with pytest.warns(DeprecationWarning, match="use backend='torch'"):
        assert TinyBioMoE.from_pretrained(compile=False).frozen().backend.name == "torch"


def test_names_that_are_none_are_refused_before_weights_are_loaded(monkeypatch):
    monkeypatch.setattr("tiny_biomoe.weights.loading.load", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(ConfigError, match="unknown precision 'float16'"):
        TinyBioMoE.from_pretrained(precision="float16")
    with pytest.raises(ConfigError, match="unknown backend 'tvm'"):
        TinyBioMoE.from_pretrained(backend="tvm")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_embeds_with_a_module_of_its_parent(expected):
    script = """
        import os, signal, sys
        import numpy as np
        from tiny_biomoe import TinyBioMoE
        x, model = np.sin(np.arange(1000) / 9), TinyBioMoE.from_pretrained()
        parent = model.embed(x, fs=100, modality="ecg").tobytes()
        if not (child := os.fork()):
            signal.alarm(60)
            same = TinyBioMoE.from_pretrained().embed(x, fs=100, modality="ecg").tobytes() == parent
            os._exit(0 if same and model.embed(x, fs=100, modality="ecg").tobytes() == parent else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    in_new_process(script)


def test_row_116_one_bad_window_costs_itself():
    recording = np.concatenate([SIGNAL, np.full(1000, 3.0), SIGNAL, SIGNAL])
    recording[3500:3600] = np.nan
    options = {"fs": FS, "modality": "ecg", "window": 10}
    with pytest.raises(SignalError, match="missing samples"):
        embed(recording, **options)
    with pytest.warns(SignalWarning, match=r"2 of 4 windows cannot be embedded and are NaN.*10-20 s, .*30-40 s,"):
        found = bundled().embed_windows(recording, FS, "ecg", window=10, on_bad="nan")
    assert np.isnan(found.embeddings).all(axis=1).tolist() == [False, True, False, True]
    assert len(found.failures) == 2
    with pytest.warns(SignalWarning, match="2 of 4 windows cannot be embedded and are left out"):
        kept = bundled().embed_windows(recording, FS, "ecg", window=10, on_bad="skip")
    assert kept.starts.tolist() == [0, 20]
    np.testing.assert_array_equal(kept.embeddings, found.embeddings[[0, 2]])
    with pytest.warns(SignalWarning):
        assert embed(recording, on_bad="skip", **options).shape == (2, 192)


def test_row_116_signals_of_which_too_much_is_missing():
    gaps = [SIGNAL.copy() for _ in range(3)]
    gaps[1][100:400] = np.nan  # 30 % of 1000
    asked = {"fs": FS, "modality": "ecg", "nan_policy": "interpolate", "max_gap": 60}
    assert embed(gaps, **asked).shape == (3, 192)
    with pytest.raises(SignalError, match=r"signal\[1\] lacks 30% of its samples, more than max_missing=0.25"):
        embed(gaps, **asked, max_missing=0.25)
    with pytest.warns(SignalWarning, match="1 of 3 signals cannot be embedded and are left out"):
        assert embed(gaps, **asked, max_missing=0.25, on_bad="skip").shape == (2, 192)
    with pytest.raises(SignalError, match="lacks more than 25% of its samples"):
        embed(gaps[1], **asked, max_missing=0.25, window=250 / FS)
    with pytest.warns(SignalWarning, match="2 of 4 windows cannot be embedded"):
        assert embed(gaps[1], **asked, max_missing=0.25, window=250 / FS, on_bad="skip").shape == (2, 192)
    with pytest.raises(ConfigError, match="max_missing=2 must be a share of the samples, from 0 to 1"):
        embed(SIGNAL, fs=FS, modality="ecg", max_missing=2)
