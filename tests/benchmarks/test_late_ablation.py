"""The ablation of the late stages: variants differ in one thing, and the table says by how much."""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks.late_ablation import VARIANTS, Variant, table


def test_every_variant_lacks_one_thing():
    whole = asdict(VARIANTS["everything"])
    assert VARIANTS["everything"] == Variant()
    for name, variant in VARIANTS.items():
        own = asdict(variant)
        changed = {key for key, value in own["weights"].items() if value != whole["weights"][key]}
        flags = {key for key in ("row_heads", "trained") if own[key] != whole[key]}
        assert all(own["weights"][key] == 0 for key in changed)
        parts = name.removeprefix("without ").split(" and ")
        assert len(changed | flags) == (0 if name == "everything" else len(parts))


def test_the_table_says_what_each_lacks_and_how_sure_that_is(tmp_path):
    for name, scores in {"everything": (0.8, 0.9), "without-fine-rows": (0.7, 0.78)}.items():
        for seed, value in enumerate(scores):
            (tmp_path / f"{name}-{seed}").mkdir()
            (tmp_path / f"{name}-{seed}" / "scores.json").write_text(json.dumps({"a": value, "b": value}))
    lines = table(tmp_path, 10).splitlines()
    assert lines[0].split("|")[3:5] == [" a ", " b "]
    assert lines[2] == "| everything | 2 | 0.850 | 0.850 | 0.850 | +0.0 +- 0.0 |"
    assert lines[3] == "| without fine rows | 2 | 0.740 | 0.740 | 0.740 | -11.0 +- 1.0 |"
