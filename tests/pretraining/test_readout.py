"""What is read from vectors: heads of their own for each representation, and the loss by its parts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pretraining.readout import PARTS, TARGETS, Heads, Readout, Wanted, Weights
from tiny_biomoe import Config
from tiny_biomoe.network.network import Network

NONE = Weights(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Readout(Network(Config(), 112), [2, 3])


@pytest.fixture
def wanted():
    torch.manual_seed(1)
    spectra = torch.rand(5, 40)
    return Wanted(
        torch.tensor([0, 1, 2, 5, 0]), torch.tensor([4, 4, 7, -1, 4]), torch.tensor([0, 1, 2, -1, -1]),
        torch.randn(5, TARGETS), spectra / spectra.sum(1, keepdim=True),
    )  # fmt: skip


def test_each_representation_has_a_head_of_its_own():
    heads = Heads(8, 3)
    vectors, shown = torch.randn(4, 8), torch.tensor([5, 0, 5, 2])
    found = heads(vectors, shown)
    for row, index in enumerate(shown):
        assert torch.allclose(found[row], heads.weight[index] @ vectors[row] + heads.bias[index], atol=1e-6)


def test_classes_alone_are_cross_entropies_over_those_that_have_a_label(model, wanted):
    vectors = torch.randn(5, 192)
    loss, parts = model.loss(vectors, wanted, {4: "wise-eda", 7: "wrist-bvp"}, NONE)
    first = F.cross_entropy(model.labels[0](vectors[:2], wanted.representations[:2]), wanted.labels[:2])
    second = F.cross_entropy(model.labels[1](vectors[2:3], wanted.representations[2:3]), wanted.labels[2:3])
    assert loss.item() == pytest.approx((first + second).item(), rel=1e-5)
    assert parts["wise-eda_loss"].item() == pytest.approx(first.item(), rel=1e-5)
    assert parts["wrist-bvp_accuracy"].item() in (0.0, 1.0)


def test_losses_on_classes_have_a_weight_and_smoothed_labels(model, wanted):
    vectors = torch.randn(5, 192)
    found = model.loss(vectors, wanted, {4: "a", 7: "b"}, Weights(**{**vars(NONE), "classes": 0.1, "smoothing": 0.2}))[
        0
    ]
    first = model.labels[0](vectors[:2], wanted.representations[:2])
    second = model.labels[1](vectors[2:3], wanted.representations[2:3])
    parts = (
        F.cross_entropy(logits, labels, label_smoothing=0.2)
        for logits, labels in ((first, wanted.labels[:2]), (second, wanted.labels[2:3]))
    )
    assert found.item() == pytest.approx(0.1 * sum(parts).item(), rel=1e-5)


def test_teachers_are_read_by_the_angle_alone(wanted):
    torch.manual_seed(0)
    model = Readout(Network(Config(), 112), [2, 3], teachers=2)
    vectors, taught = torch.randn(5, 192), F.normalize(torch.randn(5, 2, 256), dim=2)
    weights = Weights(**{**vars(NONE), "teachers": 2.0})
    loss, parts = model.loss(vectors, replace(wanted, taught=taught), {9: "a", 8: "b"}, weights)
    said = F.normalize(model.taught[0](vectors).reshape(5, 2, 256), dim=2)
    assert parts["teachers"].item() == pytest.approx(1 - (said * taught).sum(2).mean().item(), rel=1e-4)
    assert loss.item() == pytest.approx(2 * parts["teachers"].item(), rel=1e-5)


def test_a_source_without_a_label_in_the_batch_has_nothing_to_log_and_no_gradient(model, wanted):
    vectors = torch.randn(5, 192, requires_grad=True)
    loss, parts = model.loss(vectors, wanted, {9: "other", 7: "wrist-bvp"}, NONE)
    loss.backward()
    assert math.isnan(parts["other_loss"].item())
    assert torch.isfinite(vectors.grad).all()
    assert vectors.grad[0].abs().sum() == 0


@pytest.mark.parametrize("part", PARTS)
def test_each_part_weighs_its_own_targets(model, wanted, part):
    vectors = torch.randn(5, 192)
    loss, parts = model.loss(vectors, wanted, {9: "a", 8: "b"}, Weights(**{**vars(NONE), part: 3.0}))
    assert loss.item() == pytest.approx(3 * parts[part].item(), rel=1e-5)
    read = model.targets[0](vectors, wanted.representations)[:, PARTS[part]]
    wanted_part = wanted.targets[:, PARTS[part]].clamp(-4, 4)
    assert parts[part].item() == pytest.approx(F.smooth_l1_loss(read, wanted_part).item(), rel=1e-4)


def test_halves_are_read_beside_the_whole(model, wanted):
    vectors = torch.randn(5, 192, requires_grad=True)
    alone = Weights(**{**vars(NONE), "spectrum": 1.0, "halves": 0.5})
    loss, parts = model.loss(vectors, wanted, {9: "a", 8: "b"}, alone)
    expected = parts["spectrum"] + 0.5 * (parts["encoder1_spectrum"] + parts["encoder2_spectrum"])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    model.zero_grad()
    model.targets[1](vectors[:, :96], wanted.representations).sum().backward()
    assert vectors.grad[:, 96:].abs().sum() == 0


def test_targets_are_standardised(model, wanted):
    model.standardise(10 + 3 * torch.randn(500, TARGETS))
    assert model.mean.mean().item() == pytest.approx(10, abs=0.1)
    assert model.spread.mean().item() == pytest.approx(3, abs=0.1)
