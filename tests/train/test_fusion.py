"""Fusion: one backbone for all views, joined by sum or side by side, and what happens where a view is missing."""

from __future__ import annotations

import pytest
import torch
from toy_training import tiny

from tiny_biomoe import ConfigError
from tiny_biomoe.train.fusion import FusionClassifier, class_weights, parameter_groups

WHOLE = torch.ones(2, 3, dtype=torch.bool)
GAP = torch.tensor([[True, False, True], [True, True, True]])


def classifier(fusion: str = "concat", missing: str = "error", views: int = 3) -> FusionClassifier:
    torch.manual_seed(0)
    return FusionClassifier(tiny(), views, 2, fusion, missing).eval()


def test_views_are_joined_side_by_side_or_added():
    embeddings = torch.arange(6 * 16.0).reshape(6, 16)
    assert torch.equal(classifier("concat").fuse(embeddings, WHOLE), embeddings.reshape(2, 48))
    assert torch.equal(classifier("add").fuse(embeddings, WHOLE), embeddings.reshape(2, 3, 16).sum(1))
    assert classifier("concat").head.in_features == 48
    assert classifier("add").head.in_features == 16


def test_a_missing_view_is_an_error_unless_masked():
    embeddings = torch.arange(5 * 16.0).reshape(5, 16)
    with pytest.raises(ConfigError, match='build the classifier with missing="mask"'):
        classifier().fuse(embeddings, GAP)
    joined = classifier("concat", "mask").fuse(embeddings, GAP)
    assert torch.equal(joined[0], torch.cat([embeddings[0], torch.zeros(16), embeddings[1]]))
    added = classifier("add", "mask").fuse(embeddings, GAP)
    assert torch.allclose(added[0], (embeddings[0] + embeddings[1]) * 3 / 2)
    assert torch.equal(added[1], embeddings[2:].sum(0))


def test_dropout_stands_between_the_encoder_and_the_fusion_and_only_while_learning():
    model = classifier("add", views=1)
    model.head.weight.data.fill_(1.0)
    model.head.bias.data.zero_()
    model.dropout.p = 0.25
    embeddings, present = torch.ones(2000, 16), torch.ones(2000, 1, dtype=torch.bool)
    assert torch.equal(model.classify(embeddings, present), torch.full((2000, 2), 16.0))
    learnt = model.train().classify(embeddings, present)[:, 0] * 0.75  # numbers that were kept, of 16
    assert torch.allclose(learnt, learnt.round(), atol=1e-3)
    assert learnt.mean().item() == pytest.approx(12.0, abs=0.2)
    assert learnt.var().item() == pytest.approx(3.0, rel=0.15)


def test_the_views_share_one_backbone_and_gradients_reach_it_through_each():
    model = classifier("concat", "mask")
    pixels = torch.rand(5, 3, 224, 224, requires_grad=True)
    logits = model(pixels, GAP)
    assert logits.shape == (2, 2)
    expected = model.head(model.fuse(model.backbone(pixels), GAP))
    assert torch.equal(logits, expected)
    logits.square().sum().backward()
    assert (pixels.grad.abs().amax((1, 2, 3)) > 0).all()
    assert model.backbone.gate.weight.grad.abs().max() > 0
    assert sum(1 for name, _ in model.named_parameters() if name.endswith("gate.weight")) == 1


def test_only_the_freed_part_has_gradients_and_is_given_to_the_optimizer():
    model = classifier(views=1)
    pixels, present = torch.rand(2, 3, 224, 224), torch.ones(2, 1, dtype=torch.bool)
    for part, reached in (("whole", True), ("last", True), ("head", False)):
        model.zero_grad()
        model.let_learn(part)
        model.learning()
        model(pixels, present).sum().backward()
        assert (model.backbone.gate.weight.grad is not None) == reached
        assert (model.backbone.image_norm.weight.grad is not None) == (part == "whole")
        given = {id(p) for group in parameter_groups(model, 0.1) for p in group["params"]}
        assert given == {id(p) for p in model.parameters() if p.requires_grad}
        assert id(model.head.weight) in given
    assert not any(module.training for module in model.backbone.modules() if list(module.parameters(recurse=False)))
    with pytest.raises(ConfigError, match="unknown part 'tail'"):
        model.let_learn("tail")


def test_the_last_stages_are_those_of_the_real_network_too():
    model = classifier(views=1)
    model.let_learn("last")
    free = {name.split(".")[0] for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert free == {"spectral_encoder", "waterfall_encoder", "gate", "embedding_norm", "output_norm"}
    stages = {
        ".".join(n.split(".")[:3]) for n, p in model.backbone.named_parameters() if p.requires_grad and ".blocks." in n
    }
    assert stages == {"spectral_encoder.blocks.3", "waterfall_encoder.blocks.2"}


def test_norms_and_biases_do_not_decay():
    groups = parameter_groups(classifier(views=1), 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])


def test_class_weights_balance_or_are_given_or_refused():
    labels = torch.tensor([0, 0, 0, 1])
    assert class_weights(labels, 2, None) is None
    assert class_weights(labels, 2, (1.0, 5.0)).tolist() == [1.0, 5.0]
    balanced = class_weights(labels, 2, "balanced")
    assert (balanced[labels]).sum().item() == pytest.approx(4)
    with pytest.raises(ConfigError, match="class 2 has no training sample"):
        class_weights(labels, 3, "balanced")
    with pytest.raises(ConfigError, match="expected 2 positive numbers"):
        class_weights(labels, 2, (1.0,))


def test_a_fusion_or_a_class_count_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="unknown fusion 'mul'"):
        classifier("mul")
