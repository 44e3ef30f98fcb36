"""The fast copy: equal to the plain network, never stale, and given up where the network is not the usual one."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, needs_compiler
from torch import nn
from toy_networks import plain, randomised

from tiny_biomoe import REPRESENTATIONS, ConfigError, TinyBioMoE
from tiny_biomoe.inference import fast_threads
from tiny_biomoe.inference.engine import Engine, FastCopy, fast_copy
from tiny_biomoe.inference.packed import packs
from tiny_biomoe.inference.runtime import _by_batches, embed_in_turn, embed_levels
from tiny_biomoe.inference.threads import threads
from tiny_biomoe.inference.witness import Witness
from tiny_biomoe.readers.formats import read


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("gate", ["released", "paper"])
def test_fast_is_plain_to_rounding(pictures, gate):
    model = randomised(gate)
    np.testing.assert_allclose(embed_levels(model, pictures, 32), plain(model, pictures), rtol=0, atol=1e-5)


def test_fast_is_plain_without_onednn(pictures):
    model = TinyBioMoE.from_pretrained(compile=False)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not packs(torch.device("cpu"))
        found = embed_levels(model, pictures, 32)
    np.testing.assert_allclose(found, plain(model, pictures), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("either")
def test_bytes_of_a_picture_do_not_depend_on_neighbours_place_or_threads(pictures):
    rng = np.random.default_rng(0)
    for precision in ("float32", "bfloat16"):
        model = TinyBioMoE.from_pretrained(precision=precision)
        alone = [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(len(pictures))]
        for batch_size in (1, 3, 32):
            order = rng.integers(0, len(pictures), 7)
            found = embed_levels(model, pictures[order], batch_size)
            assert [row.tobytes() for row in found] == [alone[i] for i in order]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_picture_alone_keeps_its_bytes_on_several_threads(pictures, precision):
    model = TinyBioMoE.from_pretrained(precision=precision)
    with threads(1):
        expected = embed_levels(model, pictures[:1], 32).tobytes()
    with threads(2):
        found = embed_levels(model, pictures[:1], 32).tobytes()
        assert torch.get_num_threads() == 2
    assert found == expected


def test_an_image_alone_gets_threads_only_where_they_leave_its_bytes_alone():
    with threads(3):
        assert fast_threads.threads_alone(lambda images: np.ones(1, np.float32)) == 3
        assert fast_threads.threads_alone(lambda images: np.array([torch.get_num_threads()], np.float32)) == 1
        assert fast_threads.threads_alone(lambda images: np.array([torch.get_num_threads() > 2], np.float32)) == 2


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("write", ["in place", "data", "numpy", "load", "replace", "turn", "strided"])
def test_a_changed_weight_is_seen(pictures, write):
    model = randomised()
    before = embed_levels(model, pictures[:1], 32)
    layer = model.waterfall_encoder.patch_embedding[0].conv
    weight = layer.weight
    if write == "strided":  # in another order than their memory's, so that reading them takes a copy
        model.to(memory_format=torch.channels_last)
        before = embed_levels(model, pictures[:1], 32)
        weight.detach().permute(0, 2, 3, 1).numpy()[...] *= 1.5
    elif write == "turn":  # the same bytes at the same place, read in another order
        weight.data = weight.data.transpose(2, 3)
    elif write == "in place":
        with torch.no_grad():
            weight.mul_(1.5)
    elif write == "data":
        weight.data.mul_(1.5)
    elif write == "numpy":
        weight.detach().numpy()[...] *= 1.5
    elif write == "load":
        model.load_state_dict(TinyBioMoE.from_pretrained().state_dict())
    else:
        layer.weight = nn.Parameter(weight.detach() * 1.5)
    after = embed_levels(model, pictures[:1], 32)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, plain(model, pictures[:1]), rtol=0, atol=1e-5)


def test_one_picture_and_no_more_tries_no_threads(pictures, monkeypatch):
    with threads(2):
        model, tried = TinyBioMoE.from_pretrained(compile=False), []
        monkeypatch.setattr(fast_threads, "threads_alone", lambda run: tried.append(run) or 2)
        first, second = (embed_levels(model, pictures[:1], 32).tobytes() for _ in range(2))
        assert first == second
        assert len(tried) == 1
        embed_levels(model, pictures[:1], 32)
        assert len(tried) == 1


@pytest.mark.parametrize("compile", [None, False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("scattered", [False, True])
def test_weights_that_moved_are_read_where_they_are(pictures, compile, scattered):
    model = TinyBioMoE.from_pretrained(compile=compile)
    model = copy.deepcopy(model) if scattered else model  # each weight in memory of its own
    before = embed_levels(model, pictures[:1], 32), model.provenance(64, "bvp")
    model.share_memory()  # elsewhere, and where they were is given back
    assert (embed_levels(model, pictures[:1], 32).tobytes(), model.provenance(64, "bvp")) == (
        before[0].tobytes(),
        before[1],
    )


def test_rows_that_change_places_behind_autograd_are_seen():
    tensors = list(TinyBioMoE.from_pretrained().parameters())
    seen = {Witness(tensors).seen}
    largest = max(tensors, key=torch.numel).detach().flatten(1).numpy()
    for first, second in ((0, 1), (0, 2), (5, len(largest) - 1)):
        largest[[first, second]] = largest[[second, first]]
        seen.add(Witness(tensors).seen)
        largest[[first, second]] = largest[[second, first]]
    assert len(seen) == 4


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("write", ["data", "numpy"])
def test_a_few_numbers_written_behind_autograd_are_seen(pictures, write):
    model = TinyBioMoE.from_pretrained()
    before = embed_levels(model, pictures[:1], 32)
    facts = model.provenance(64, "bvp")
    if write == "data":
        model.gate.weight.data[3].zero_()
    else:
        model.gate.weight.detach().numpy()[3] = 0
    after = embed_levels(model, pictures[:1], 32)
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, plain(model, pictures[:1]), rtol=0, atol=1e-5)
    changed = model.provenance(64, "bvp")
    assert changed["weights_sha256"] is None
    assert changed["tensors_sha256"] != facts["tensors_sha256"]


@pytest.mark.usefixtures("either")
def test_a_changed_layer_or_config_is_seen_after_a_first_embedding(pictures):
    model = TinyBioMoE.from_pretrained()
    first = embed_levels(model, pictures[:1], 32)
    model.config = replace(model.config, architecture=replace(model.architecture, gate="paper"))
    second = embed_levels(model, pictures[:1], 32)
    np.testing.assert_allclose(second, plain(model, pictures[:1]), rtol=0, atol=1e-5)
    model.spectral_encoder.stem.convs[2] = nn.GELU()
    third = embed_levels(model, pictures[:1], 32)
    np.testing.assert_allclose(third, plain(model, pictures[:1]), rtol=0, atol=1e-5)
    assert np.abs(second - first).max() > 1e-3
    assert np.abs(third - second).max() > 1e-4


def test_a_model_loaded_in_inference_mode_says_where_its_weights_come_from():
    with torch.inference_mode():
        model = TinyBioMoE.from_pretrained()
    assert model.provenance(64, "bvp") == TinyBioMoE.from_pretrained().provenance(64, "bvp")


@pytest.mark.usefixtures("either")
def test_a_copy_is_kept_while_nothing_changes(pictures):
    model = TinyBioMoE.from_pretrained()
    first = fast_copy(model)
    embed_levels(model, pictures[:2], 32)
    assert fast_copy(model) is first
    model.engine = Engine("bfloat16")
    assert fast_copy(model) is not first
    twin = copy.deepcopy(model)
    assert fast_copy(twin) is not fast_copy(model)


@pytest.mark.usefixtures("either")
def test_a_hook_or_another_layer_means_the_plain_network(pictures):
    model = TinyBioMoE.from_pretrained()
    seen = []
    handle = model.spectral_encoder.register_forward_hook(lambda module, given, gave: seen.append(gave.shape))
    embed_levels(model, pictures[:2], 32)
    assert seen == [(1, 96), (1, 96)]
    handle.remove()
    assert fast_copy(model) is not None
    model.gate = nn.Sequential(model.gate)
    assert fast_copy(model) is None
    assert embed_levels(model, pictures[:2], 32).shape == (2, 192)


@pytest.mark.usefixtures("either")
def test_what_changes_once_a_copy_is_made_is_seen():
    model = TinyBioMoE.from_pretrained()
    first = fast_copy(model)
    assert fast_copy(model) is first
    handle = model.gate.register_forward_hook(lambda module, given, gave: gave)
    assert fast_copy(model) is None
    handle.remove()
    second = fast_copy(model)
    assert second not in (None, first)
    model.gate.forward = model.gate.forward
    assert fast_copy(model) is None
    del model.gate.forward
    assert fast_copy(model) not in (None, second)
    mixer = model.waterfall_encoder.blocks[0].before.depthwise
    conv = mixer.conv
    del mixer.conv
    mixer.conv = conv  # the same layers, the norm first
    assert fast_copy(model) is None


@pytest.mark.usefixtures("either")
def test_a_network_that_its_parts_refer_to_is_freed():
    model = TinyBioMoE.from_pretrained()
    model.gate.register_full_backward_hook(model.train)  # a method: it holds the model
    model.gate.weight.owner = model
    assert fast_copy(model) is not None
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


@pytest.mark.usefixtures("either")
def test_a_network_in_training_is_left_in_training(pictures):
    model = TinyBioMoE.from_pretrained().train()
    expected = embed_levels(TinyBioMoE.from_pretrained(), pictures[:1], 32)
    assert embed_levels(model, pictures[:1], 32).tobytes() == expected.tobytes()
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "message"), [({"precision": "float16"}, "float16"), ({"compile": 1}, "compile=1")]
)
def test_engine_is_checked(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TinyBioMoE.from_pretrained(**arguments)


def test_provenance_names_the_engine():
    facts = TinyBioMoE.from_pretrained(precision="bfloat16").provenance(64, "bvp")
    assert (facts["precision"], facts["compile"]) == ("bfloat16", facts["program"] is not None)


@pytest.mark.usefixtures("either")
def test_bfloat16_points_the_same_way_on_real_recordings():
    exact, rounded = (TinyBioMoE.from_pretrained(precision=each) for each in ("float32", "bfloat16"))
    for path in sorted((ROOT / "examples" / "recordings").glob("*.csv")):
        (recording,) = read(path)
        arguments = recording.signal[: int(20 * recording.fs)], recording.fs, recording.modality, list(REPRESENTATIONS)
        a, b = (model.embed(*arguments).reshape(len(REPRESENTATIONS), -1) for model in (exact, rounded))
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() >= 0.9995
        assert not np.array_equal(a, b)


def test_a_first_vector_needs_neither_compiler_nor_the_heavy_half_of_scipy():
    program = (
        "import sys, numpy as np, tiny_biomoe as t; x = np.sin(np.arange(1000.0));"
        "[t.embed(x, fs=100, modality=m) for m in ('ecg', 'bvp')];"
        "print([name for name in ('torch._dynamo', 'sympy', 'scipy.signal', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bfloat16_where_onednn_refuses_it_is_computed_by_ordinary_functions():
    program = (
        "import numpy as np, torch, tiny_biomoe as t\n"
        "from tiny_biomoe.inference.packed import packs\n"
        "x = np.sin(np.arange(1000.0) / 9)\n"
        "a = t.TinyBioMoE.from_pretrained(precision='bfloat16', compile=False).embed(x, fs=100, modality='ecg')\n"
        "b = t.embed(x, fs=100, modality='ecg')\n"
        "assert packs(torch.device('cpu')) and not packs(torch.device('cpu'), torch.bfloat16)\n"
        "assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999\n"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("either")
def test_an_engine_that_cannot_run_the_network_is_refused(pictures):
    model = TinyBioMoE.from_pretrained(precision="bfloat16")
    handle = model.gate.register_forward_hook(lambda module, given, gave: gave)
    with pytest.raises(ConfigError, match="cannot run this network, which has a hook"):
        embed_levels(model, pictures[:1], 32)
    handle.remove()
    assert embed_levels(model, pictures[:1], 32).shape == (1, 192)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_that_are_not_of_32_bits_are_refused(pictures, dtype):
    model = TinyBioMoE.from_pretrained().to(dtype)
    with pytest.raises(ConfigError, match=f"weights are {dtype}.*model.float"):
        embed_levels(model, pictures[:1], 32)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("hooked", [False, True])
def test_a_callers_autocast_changes_nothing(pictures, hooked):
    model = TinyBioMoE.from_pretrained()
    if hooked:
        model.gate.register_forward_hook(lambda module, given, gave: gave)
    expected = embed_levels(model, pictures[:1], 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = embed_levels(model, pictures[:1], 32)
        pair = embed_levels(model, pictures[:2], 32)
    assert found.tobytes() == expected.tobytes() == pair[0].tobytes()


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("hooked", [False, True])
def test_calls_at_once_give_the_bytes_of_one_and_leave_threads_and_modes(pictures, hooked):
    model = TinyBioMoE.from_pretrained().train()
    if hooked:
        model.gate.register_forward_hook(lambda module, given, gave: gave)
    with threads(2):
        expected = embed_levels(model, pictures, 32).tobytes()
        kept = fast_copy(model)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: embed_levels(model, pictures, 32).tobytes(), range(8)))
        assert set(found) == {expected}
        assert torch.get_num_threads() == 2
        assert fast_copy(model) is kept
    finally:
        torch.set_num_threads(before)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("n", "calls"), [(0, 0), (2, 1), (3, 1), (4, 2)])
def test_every_batch_is_filled_up_and_only_its_own_rows_come_back(n, calls):
    levels, shapes = np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((224, 224), np.uint8), []

    def run(images):
        shapes.append(images.shape)
        return images[:, 0, :1].astype(np.float32)

    rows = list(_by_batches(run, iter(levels), 3))
    assert shapes == [(3, 224, 224)] * calls
    assert [value for row in rows for value in row[:, 0]] == list(range(n))


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("hooked", [False, True])
def test_sets_in_turn_have_the_bytes_of_sets_alone(pictures, n, hooked):
    model = TinyBioMoE.from_pretrained()
    if hooked:
        model.gate.register_forward_hook(lambda module, given, gave: gave)
    parts = [pictures[:0], pictures[:3], pictures[3:], pictures[:0], pictures[1:3], pictures[:0]]
    with threads(n):
        expected = embed_levels(model, pictures, 32)
        found = list(embed_in_turn(model, map(iter, parts), 4))
    assert [len(vectors) for vectors in found] == [0, 3, 1, 0, 2, 0]
    assert (
        np.concatenate([vectors for vectors in found if len(vectors)]).tobytes()
        == expected[[0, 1, 2, 3, 1, 2]].tobytes()
    )


def test_no_stream_waits_where_two_sets_meet(monkeypatch):
    """The last picture of the first set is computed only once the second set has been begun."""
    levels, begun = [np.full((224, 224), level, np.uint8) for level in range(3)], threading.Event()

    def run(images):
        if images[0, 0, 0] == 1:
            assert begun.wait(60), "the first set is to be finished before the second is begun"
        return images[:, 0, :1].astype(np.float32)

    def second():
        begun.set()
        yield levels[2]

    monkeypatch.setattr(
        "tiny_biomoe.inference.runtime.fast_copy", lambda network: FastCopy(run, lambda: 1, (), Witness([]))
    )
    found = list(embed_in_turn(nn.Linear(1, 1), [levels[:2], second()], 4))
    assert [vectors.ravel().tolist() for vectors in found] == [[0, 1], [2]]
