"""Readout "rows": each row of both encoders' last maps, beside the 192 numbers and from the same pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_networks import hooked_rows, randomised

from tiny_biomoe import ConfigError, TinyBioMoE
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.model import embed_levels


def bars(*centres):
    """A black picture, then one with a bar at each height, upper end first, at the left and at the right."""
    pictures = np.zeros((1 + 2 * len(centres), 224, 224), np.uint8)
    for place, y in enumerate(centres):
        for side, x in enumerate((60, 150)):
            pictures[1 + 2 * place + side, y - 8 : y + 8, x : x + 30] = 255
    return pictures


def test_rows_are_the_last_maps_and_the_embedding_keeps_its_bytes(backend, pictures):
    model = randomised()
    model.backend = backend
    expected, alone = hooked_rows(model, pictures), embed_levels(model, pictures, 32)
    found = embed_levels(model, pictures, 32, rows=True)
    assert found.shape == (4, 192 + 1056)
    assert found[:, :192].tobytes() == alone.tobytes()
    np.testing.assert_allclose(found[:, 192:], expected, rtol=1e-5, atol=2e-5)
    assert embed_levels(model, pictures[:1], 32, rows=True).tobytes() == found[:1].tobytes()


def test_bfloat16_rows_are_near():
    pictures = bars(112)
    exact, rounded = (
        embed_levels(TinyBioMoE.from_pretrained(precision=each), pictures, 32, rows=True)[:, 192:]
        for each in ("float32", "bfloat16")
    )
    assert np.abs(exact - rounded).max() < 0.02 * np.abs(exact).max()
    assert not np.array_equal(exact, rounded)


def test_a_row_is_a_height_of_the_image(backend):
    """A bar changes encoder 2's row at its height most, wherever it stands in time."""
    rows = embed_levels(TinyBioMoE.from_pretrained(backend=backend), bars(16, 80, 176), 32, rows=True)[:, 192:]
    of_encoder2 = rows[:, 7 * 96 :].reshape(-1, 4, 96)
    changed = np.linalg.norm(of_encoder2[1:] - of_encoder2[:1], axis=2)
    assert changed.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_both_first_maps_have_the_images_rows_first():
    """A convolution reaches its surroundings alone: a bar's at rows 182 to 197 and columns 60 to 89."""
    model, (blank, bar, _) = TinyBioMoE.from_pretrained(), torch.tensor(bars(190))
    stem, patches = model.spectral_encoder.stem, model.waterfall_encoder.patch_embedding
    with torch.inference_mode():
        first, second = (to_pixels(picture[None], "cpu") for picture in (blank, bar))
        fine = (stem(first) - stem(second))[0].abs().amax(2).nonzero()  # (row, column) of a quarter of the image
        coarse = (patches(first) - patches(second))[0].abs().amax(0).nonzero()  # of a sixteenth
    assert [fine.amin(0).tolist(), fine.amax(0).tolist()] == [[44, 13], [51, 24]]
    assert [coarse.amin(0).tolist(), coarse.amax(0).tolist()] == [[11, 3], [13, 6]]


def test_a_module_of_its_own_forward_has_no_rows(pictures):
    class Other(TinyBioMoE):
        def forward(self, pixels):
            return super().forward(1 - pixels)

    hooked = TinyBioMoE.from_pretrained()
    hooked.register_forward_hook(lambda module, given, gave: gave)
    for model in (Other.from_pretrained(), hooked):
        with pytest.raises(ConfigError, match="its own forward or a hook"):
            embed_levels(model, pictures[:1], 32, rows=True)


def test_hooks_within_the_network_see_what_they_see_without_rows(pictures):
    model = TinyBioMoE.from_pretrained(backend="torch")
    model.gate.register_forward_hook(lambda module, given, gave: gave + 0.1)
    expected = embed_levels(model, pictures[:1], 32)
    assert embed_levels(model, pictures[:1], 32, rows=True)[:, :192].tobytes() == expected.tobytes()
