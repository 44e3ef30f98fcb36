"""Augmentation: each piece on its own, by the statistics of its draws and by what it does to an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny_biomoe import ConfigError
from tiny_biomoe.train.augment import (
    BLOCK,
    NONE,
    OPERATIONS,
    Augmentation,
    augment,
    augmix,
    blur,
    centre_crop,
    cutout,
    one_operation,
    trivial,
)


def noise(count: int = 2) -> torch.Tensor:
    """Images of 8-bit noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 254, (count, 3, 224, 224), generator=generator) / 255


def flat(count: int) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), 0.5).expand(count, 1, 224, 224)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_the_identity_at_zero_and_none_at_one(name):
    image = noise()
    assert torch.allclose(OPERATIONS[name](image, torch.zeros(2)), image, atol=1e-4)
    changed = OPERATIONS[name](image * 0.5 + 0.2, torch.tensor([0.8, -0.8]))
    assert (changed - (image * 0.5 + 0.2)).abs().mean((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_treats_each_image_by_its_own_magnitude(name):
    image = noise(1) * 0.5 + 0.2
    together = OPERATIONS[name](image.expand(3, -1, -1, -1), torch.tensor([0.3, -0.9, 0.3]))
    assert torch.equal(together[0], together[2])
    assert torch.allclose(together[:1], OPERATIONS[name](image, torch.tensor([0.3])), atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_translation_moves_a_line_by_the_stated_pixels():
    image = torch.zeros(1, 3, 224, 224)
    image[..., 100] = 1.0
    moved = OPERATIONS["translate_x"](image, torch.tensor([30 / (224 / 3)]))
    assert int(moved[0, 0, 50].argmax()) == 130


def test_everything_at_zero_is_the_identity():
    image = noise()
    assert torch.equal(augment(image, NONE, np.random.default_rng(0)), image)
    rng = np.random.default_rng(0)
    assert torch.equal(augmix(image, rng, 3, 3, 0.0), image)
    assert torch.equal(trivial(image, rng, 0.0), image)
    assert torch.equal(centre_crop(image, rng, (1.0, 1.0), 1.0), image)
    assert torch.equal(blur(image, rng, 1.0, 0.0), image)
    assert torch.equal(cutout(image, rng, (0, 0)), image)


def test_a_cascade_stays_in_range_leaves_its_input_and_depends_on_the_generator_alone():
    image = noise(4)
    before = image.clone()
    first, again, other = (augment(image, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(image, before)
    assert torch.equal(first, again)
    assert (first - other).abs().amax((1, 2, 3)).min() > 0.1
    assert first.shape == image.shape
    assert first.min() >= 0
    assert first.max() <= 1


def test_gradients_flow_through_the_pieces_and_stop_at_holes():
    image = noise(2).requires_grad_()
    rng = np.random.default_rng(0)
    varied = cutout(blur(centre_crop(image, rng, (1.0, 1.0), 0.7), rng, 1.0, 2.0), rng, (3, 3))
    varied.sum().backward()
    assert torch.isfinite(image.grad).all()
    assert 0.5 < image.grad.sum() / image.grad.numel() < 1.5
    assert (image.grad == 0).any()  # of the border that was cropped, and of the holes
    hole = torch.rand(1, 3, 224, 224, requires_grad=True)
    hidden = cutout(hole, np.random.default_rng(1), (1, 1))
    hidden.sum().backward()
    assert torch.equal(hole.grad == 0, hidden == 0)


# Steps of value have no slope: what they are given back is zero.
STEPS = {"posterize"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_an_operation_are_finite_and_reach_the_image(name):
    image = (noise(1) * 0.5 + 0.2).requires_grad_()
    OPERATIONS[name](image, torch.tensor([0.4])).sum().backward()
    assert torch.isfinite(image.grad).all()
    assert bool(image.grad.any()) == (name not in STEPS)


def test_each_image_of_a_batch_draws_anew():
    same = noise(1).expand(6, -1, -1, -1)
    varied = augment(same, Augmentation(), np.random.default_rng(0))
    distances = torch.cdist(varied.flatten(1), varied.flatten(1)) + 1e9 * torch.eye(6)
    assert distances.min() > 1


def test_operations_magnitudes_and_signs_are_drawn_evenly(monkeypatch):
    seen = []
    for name in OPERATIONS:
        monkeypatch.setitem(
            OPERATIONS, name, lambda x, m, name=name: (seen.extend((name, v) for v in m.tolist()), x)[1]
        )
    one_operation(torch.zeros(4000, 3, 1, 1), np.random.default_rng(0), 0.5)
    counts = np.array([sum(name == known for name, _ in seen) for known in OPERATIONS])
    expected = 4000 / len(OPERATIONS)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)
    magnitudes = np.array([value for _, value in seen])
    assert np.mean(magnitudes > 0) == pytest.approx(0.5, abs=0.03)
    assert np.abs(magnitudes).max() <= 0.5
    assert np.abs(magnitudes).mean() == pytest.approx(0.25, abs=0.01)


def test_augmix_mixes_three_chains_of_one_to_three_operations_with_dirichlet_and_beta_weights(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "tiny_biomoe.train.augment.one_operation", lambda x, rng, m: (calls.append(m), x + 1.0)[1]
    )  # each operation adds 1, so what comes out counts them
    mixed = augmix(torch.zeros(3000, 1, 1, 1), np.random.default_rng(0), 3, 3, 0.3).flatten().numpy()
    assert len(calls) == 9  # three chains, three places each
    assert mixed.min() >= 0
    assert mixed.max() <= 3
    # E[m] E[sum w_i length_i] = 1/2 * 2
    assert mixed.mean() == pytest.approx(1.0, abs=0.03)
    # m ~ U(0, 1) and S = sum w_i l_i: E[S^2] = 4 + var(l) * sum E[w_i^2] = 4 + 2/3 * 3 * 1/6; E[m^2] = 1/3
    assert np.mean(mixed**2) == pytest.approx((4 + 1 / 3) / 3, rel=0.05)


def test_a_chain_is_never_longer_than_its_depth(monkeypatch):
    monkeypatch.setattr("tiny_biomoe.train.augment.one_operation", lambda x, rng, m: x + 1.0)
    assert augmix(torch.zeros(500, 1, 1, 1), np.random.default_rng(0), 3, 1, 0.3).max() <= 1 + 1e-6


def test_the_crop_keeps_the_centre_and_enlarges_it():
    ramp = torch.linspace(0, 1, 224).expand(1, 3, 224, 224)
    cropped = centre_crop(ramp, np.random.default_rng(0), (1.0, 1.0), 0.5)
    middle = cropped[0, 0, 112]
    side = float(np.random.default_rng(0).uniform(size=3)[2]) * 0.5 + 0.5  # the third draw, after the two of "whether"
    assert float(middle[111] + middle[112]) / 2 == pytest.approx(0.5, abs=1e-4)
    assert float(middle[-1] - middle[0]) == pytest.approx(side, abs=0.01)


def test_as_many_crops_and_blurs_as_their_probabilities_say(monkeypatch):
    cropped, blurred = [], []
    monkeypatch.setattr(
        "tiny_biomoe.train.augment.transform.scale", lambda x, factor: (cropped.extend(factor[:, 0].tolist()), x)[1]
    )
    monkeypatch.setattr(
        "tiny_biomoe.train.augment.filters.gaussian_blur2d",
        lambda x, size, sigma: (blurred.extend(sigma[:, 0].tolist()), x)[1],
    )
    images = torch.zeros(3000, 1, 1, 1)
    centre_crop(images, np.random.default_rng(0), (0.2, 0.6), 0.7)
    blur(images, np.random.default_rng(0), 0.3, 2.0)
    assert len(cropped) / 3000 == pytest.approx(0.4, abs=0.03)
    assert 1.0 <= min(cropped) < 1.02
    assert 1.40 < max(cropped) <= 1 / 0.7 + 1e-6
    assert len(blurred) / 3000 == pytest.approx(0.3 * (1 - 0.05 / 2.0), abs=0.03)
    assert max(blurred) <= 2.0
    assert np.mean(blurred) == pytest.approx(1.025, abs=0.06)


def test_blur_keeps_the_mean_and_takes_the_detail():
    image = noise(4)
    widths = np.random.default_rng(3).uniform(size=(2, 4))[1] * 2.0  # the second draw, after that of "whether"
    blurred = blur(image, np.random.default_rng(3), 1.0, 2.0)
    assert torch.allclose(blurred.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=2e-3)
    left = (blurred.std((1, 2, 3)) / image.std((1, 2, 3))).numpy()
    assert left[widths.argsort()].tolist() == sorted(left, reverse=True)
    assert left[widths.argmax()] == pytest.approx(1 / (2 * np.sqrt(np.pi) * widths.max()), rel=0.1)  # of white noise


def test_cutout_hides_whole_blocks_as_many_as_it_drew():
    one = cutout(flat(100), np.random.default_rng(0), (1, 1))
    assert ((one == 0).sum((1, 2, 3)) == BLOCK**2).all()
    rows = (one[:, 0] == 0).any(2)  # (100, 224)
    tops = rows.int().argmax(1)
    assert (rows.sum(1) == BLOCK).all()
    assert tops.min() < 10
    assert tops.max() > 180
    few, many = (cutout(flat(200), np.random.default_rng(1), blocks) for blocks in ((1, 3), (4, 10)))
    hidden_few, hidden_many = ((x[:, 0] == 0).float().sum((1, 2)) / BLOCK**2 for x in (few, many))
    assert hidden_few.min() >= 0.99
    assert hidden_few.max() <= 3
    assert 1.85 < hidden_few.mean() < 2.1
    assert hidden_many.max() <= 10
    assert 5.0 < hidden_many.mean() < 7


def test_numbers_that_cannot_be_drawn_are_refused():
    for wrong in (
        {"crop_smallest": 0.0},
        {"crop_probability": (0.6, 0.2)},
        {"blur_sigma": 9.0},
        {"cutout_few": (3, 1)},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Augmentation(**wrong)
