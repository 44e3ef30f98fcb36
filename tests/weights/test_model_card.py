"""The card of saved weights says what a stranger has to know, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from huggingface_hub import ModelCard

from tiny_biomoe import MODALITIES, REPRESENTATIONS, TinyBioMoE
from tiny_biomoe.weights.loading import load
from tiny_biomoe.weights.model_card import CITATION


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    TinyBioMoE(name="my weights").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(saved: Path) -> str:
    return (saved / "README.md").read_text()


def test_the_hub_reads_the_licence_and_the_tags(saved: Path) -> None:
    card = ModelCard.load(saved / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "tiny-biomoe")
    assert card.data.pipeline_tag == "feature-extraction"
    assert card.data.tags == ["biosignals", "embeddings", *MODALITIES]


def test_the_card_names_the_weights_and_what_they_read(saved: Path, text: str) -> None:
    loaded = load(saved)
    assert f"# {loaded.config.name}\n" in text
    assert f"`{loaded.sha256}`" in text
    assert f"version {loaded.config.recipe.version}," in text
    assert [name for name in [*MODALITIES, *REPRESENTATIONS] if f"`{name}`" not in text] == []
    assert "Not a medical device" in text


def test_the_card_cites_the_paper_as_the_readme_does_and_links_nowhere(text: str) -> None:
    assert CITATION in text
    assert CITATION in (ROOT / "README.md").read_text()
    assert re.findall(r"https?:|\]\(", text) == []


def test_the_cards_code_runs(saved: Path, text: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"signal": np.sin(np.arange(3000) / 50)}
    exec(code.replace("owner/name", str(saved)), names)
    assert names["vector"].shape == (192,)
