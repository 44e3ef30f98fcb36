"""The shipped weights are what the card, the checksums and the selfcheck say."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import torch
from click.testing import CliRunner
from conftest import ROOT

from benchmarks import ship_weights
from tiny_biomoe import TinyBioMoE, render
from tiny_biomoe.cli import selfcheck
from tiny_biomoe.embedding import Embedder
from tiny_biomoe.images.rendering import PALETTE
from tiny_biomoe.weights import loading as weights


def test_the_cards_hash_is_the_files():
    digest = hashlib.sha256((weights.BUNDLED / "model.safetensors").read_bytes()).hexdigest()
    assert re.findall(r"\b[0-9a-f]{64}\b", (ROOT / "weights_card.md").read_text()) == [digest]
    assert weights.load().sha256 == digest


def test_checksums_cover_every_file():
    lines = (weights.BUNDLED / "SHA256SUMS").read_text().splitlines()
    stated = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.name: path for path in weights.BUNDLED.iterdir() if path.name != "SHA256SUMS"}
    assert stated == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_what_was_shipped_is_reproduced_and_differs_from_each_other():
    levels, difference = selfcheck.differences(Embedder.from_pretrained())
    assert levels <= selfcheck.LEVELS
    assert difference <= selfcheck.TOLERANCE
    with np.load(weights.BUNDLED / "selfcheck.npz") as shipped:
        vectors, pictures = shipped["vectors"], shipped["pictures"]
    assert vectors.shape == (7, 192)
    assert pictures.shape == (42, 28, 28)
    for rows, apart in ((vectors, 1e-2), (pictures.reshape(42, -1) / selfcheck.BLOCK**2, 10 * selfcheck.LEVELS)):
        distances = np.abs(rows[:, None].astype(float) - rows).max(axis=2)
        assert distances[~np.eye(len(rows), dtype=bool)].min() > apart


def test_the_selfcheck_sees_an_image_drawn_by_another_recipe(monkeypatch):
    embedder, right = Embedder.from_pretrained(), selfcheck.render
    monkeypatch.setattr(selfcheck, "render", lambda *call: np.roll(right(*call), int(call[2] == "eda"), axis=1))
    assert selfcheck.differences(embedder)[0] > 10 * selfcheck.LEVELS


def test_the_selfcheck_sees_what_must_not_pass_and_not_one_pixel():
    model = TinyBioMoE.from_pretrained()
    signal, fs = selfcheck.shipped_signals()["ecg"]
    right = model.embed(signal, fs, "ecg")
    image = render(signal, fs, "ecg")
    image[100, 100] = PALETTE[(image[100, 100] == PALETTE).all(axis=1).argmax() + 1]  # one level brighter
    assert np.abs(model.embed_images(image) - right).max() < selfcheck.TOLERANCE
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    assert np.abs(model.embed(signal, fs, "ecg") - right).max() > 5 * selfcheck.TOLERANCE


def test_the_network_is_the_papers_size():
    model = TinyBioMoE.from_pretrained()
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_337_278
    assert model.source == "bundled"


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text() + (ROOT / "weights_card.md").read_text())
    assert len(links) >= 5
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_trained_weights_become_the_bundled_ones(monkeypatch, tmp_path):
    torch.manual_seed(1)
    trained = TinyBioMoE()
    trained.save_pretrained(tmp_path / "trained")
    bundled = tmp_path / "bundled"
    for module in (weights, selfcheck):
        monkeypatch.setattr(module, "BUNDLED", bundled)
    said = CliRunner().invoke(
        ship_weights.main, [str(tmp_path / "trained"), "--name", "mine 1.0"], catch_exceptions=False
    )
    assert said.exit_code == 0
    model = TinyBioMoE.from_pretrained()
    assert model.provenance(fs=100, modality="ecg")["weights"] == "mine 1.0"
    for name, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.half().to(tensor.dtype)), name
    assert selfcheck.differences(TinyBioMoE.from_pretrained()) == (0, 0)
    assert {path.name for path in bundled.iterdir()} == {
        "SHA256SUMS", "config.json", "model.safetensors", "selfcheck.npz",
    }  # fmt: skip
