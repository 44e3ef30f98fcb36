"""Many images: bytes that depend neither on neighbours nor on threads, batches, sets in turn, simultaneous calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from toy_networks import NARROW, plain, randomised

from tiny_biomoe import ConfigError, TinyBioMoE
from tiny_biomoe.inference import many_images
from tiny_biomoe.inference.backends import Backend
from tiny_biomoe.inference.threads import use_threads
from tiny_biomoe.model import backend_of, embed_levels


def first_pixel(images, threads, rows=False):
    """A network that takes no time: the first level of each image."""
    return images[:, 0, :1].astype(np.float32)


@pytest.mark.parametrize("gate", ["released", "paper"])
def test_a_backend_is_the_plain_network_to_rounding(backend, gate, pictures):
    model = randomised(gate)
    model.backend = backend
    np.testing.assert_allclose(embed_levels(model, pictures, 32), plain(model, pictures), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bytes_of_a_picture_do_not_depend_on_neighbours_place_or_threads(precision, pictures):
    model = randomised(**NARROW)
    model.precision, model.backend = precision, "native"
    with use_threads(1):
        alone = [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(len(pictures))]
    order = np.random.default_rng(0).integers(0, len(pictures), 9)
    for n, batch_size in ((1, 3), (2, 1), (5, 32)):
        with use_threads(n):
            assert [row.tobytes() for row in embed_levels(model, pictures[order], batch_size)] == [
                alone[i] for i in order
            ]
            for _ in range(3):  # whichever thread takes which part
                assert [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(4)] == alone


def test_by_pytorch_a_picture_keeps_its_bytes_among_others(pictures):
    model = TinyBioMoE.from_pretrained(backend="torch")
    alone = [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(2)]
    assert [row.tobytes() for row in embed_levels(model, pictures[[1, 0, 1]], 32)] == [alone[1], alone[0], alone[1]]


def test_a_hook_or_another_layer_means_the_module_as_it_is(pictures):
    model = TinyBioMoE.from_pretrained()
    assert model.frozen().backend.name == "native"
    handle = model.gate.register_forward_hook(lambda module, given, gave: gave * 0)
    assert model.frozen().backend.name == "torch"
    np.testing.assert_array_equal(embed_levels(model, pictures[:1], 32), plain(model, pictures[:1]))
    handle.remove()
    model.output_norm = torch.nn.Identity()
    np.testing.assert_array_equal(embed_levels(model, pictures[:1], 32), plain(model, pictures[:1]))


def test_a_backend_that_cannot_run_the_module_is_refused():
    model = TinyBioMoE.from_pretrained(backend="native")
    model.gate.register_forward_hook(lambda module, given, gave: gave)
    with pytest.raises(ConfigError, match='backend="native" cannot run this module, which has a hook'):
        model.embed(np.sin(np.arange(500)), 100, "ecg")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_that_are_not_float32_are_refused(dtype, pictures):
    with pytest.raises(ConfigError, match=f"weights are {dtype}.*model.float"):
        embed_levels(TinyBioMoE.from_pretrained().to(dtype), pictures[:1], 32)


def test_the_callers_autocast_changes_nothing(backend, pictures):
    model = TinyBioMoE.from_pretrained(backend=backend)
    expected = embed_levels(model, pictures[:1], 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert embed_levels(model, pictures[:1], 32).tobytes() == expected.tobytes()


@pytest.mark.parametrize("hooked", [False, True])
def test_calls_at_once_give_the_bytes_of_one_and_leave_modes(hooked, pictures):
    model = TinyBioMoE.from_pretrained().train()
    if hooked:
        model.gate.register_forward_hook(lambda module, given, gave: gave)
    expected = embed_levels(model, pictures, 32).tobytes()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embed_levels(model, pictures, 32).tobytes(), range(6)))
    assert set(found) == {expected}
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("n", "calls"), [(0, 0), (2, 1), (3, 1), (4, 2)])
def test_an_accelerators_batch_is_filled_up_and_only_its_own_rows_come_back(n, calls):
    levels, shapes = [np.full((224, 224), level, np.uint8) for level in range(n)], []

    def run(images, threads, rows):
        shapes.append(images.shape)
        return first_pixel(images, threads)

    found = many_images.embed_levels(Backend("torch", "float32", run, batches=True), levels, 3)
    assert shapes == [(3, 224, 224)] * calls
    assert found.ravel().tolist() == list(range(n))


@pytest.mark.parametrize("n", [1, 2])
def test_sets_in_turn_have_the_bytes_of_sets_alone(n, backend, pictures):
    parts = [pictures[:0], pictures[:3], pictures[3:], pictures[:0], pictures[1:3], pictures[:0]]
    model = TinyBioMoE.from_pretrained(backend=backend)
    with use_threads(n):
        expected = embed_levels(model, pictures, 32)
        found = list(many_images.embed_in_turn(backend_of(model), map(iter, parts), 4))
    assert [len(vectors) for vectors in found] == [0, 3, 1, 0, 2, 0]
    joined = np.concatenate([vectors for vectors in found if len(vectors)])
    assert joined.tobytes() == expected[[0, 1, 2, 3, 1, 2]].tobytes()


def test_no_thread_waits_where_two_sets_meet():
    """The last picture of the first set is computed only once the second set has begun."""
    levels, begun = [np.full((224, 224), level, np.uint8) for level in range(3)], threading.Event()

    def run(images, threads, rows):
        if images[0, 0, 0] == 1:
            assert begun.wait(60), "the first set was awaited before the second began"
        return first_pixel(images, threads)

    def second():
        begun.set()
        yield levels[2]

    with use_threads(2):
        backend = Backend("torch", "float32", run, parallel=True)
        found = list(many_images.embed_in_turn(backend, [levels[:2], second()], 4))
    assert [vectors.ravel().tolist() for vectors in found] == [[0, 1], [2]]
