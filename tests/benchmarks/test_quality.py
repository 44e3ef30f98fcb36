"""The bench as a whole, on made-up windows: rows, choices, differences, the cache, the report, the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import embedding_cache, protocol, quality, quality_report, scoring
from benchmarks.datasets import Dataset, Window
from benchmarks.embedding_cache import Embedded, Embedder, all_embeddings, flat_windows, fuse
from benchmarks.scoring import Scorer
from tiny_biomoe import REPRESENTATIONS, Recipe, TinyBioMoE


@pytest.fixture(scope="module", autouse=True)
def short_probes():
    """Three folds, one strength and few steps; test_protocol has the probe as it is."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"FOLDS": 3, "INNER_FOLDS": 2, "STRENGTHS": (0.1,), "ITERATIONS": 50}.items():
            patched.setattr(protocol, name, value)
        yield


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Ten people, eight windows each; the second class breathes twice as fast; one window is flat."""
    rng = np.random.default_rng(0)
    t = np.arange(300) / 10
    windows = []
    for i in range(80):
        label, person = i % 2, f"p{i // 8}"
        signal = np.sin(2 * np.pi * (0.15 + 0.15 * label) * t + i) + 0.1 * rng.standard_normal(t.size)
        signal = np.zeros(300) if i == 3 else signal
        windows.append(Window({"resp": signal}, {"resp": (-1.0, 1.0)}, label, person, 30.0 * (i % 8)))
    return Dataset("made", 30.0, {"resp": 10.0}, ("slow", "fast"), tuple(windows))


@pytest.fixture
def counting(monkeypatch):
    """A stand-in for the network: sums of each image as 192 numbers, 8 rows, and how many images it was shown."""
    seen = []

    def embed(network, images, batch_size, rows):
        assert rows
        vectors = [np.append(np.repeat(image.reshape(4, -1).mean(axis=1), 48), np.arange(8)) for image in images]
        seen.extend(vectors)
        return np.array(vectors, np.float32)

    monkeypatch.setattr(embedding_cache, "embed_levels", embed)
    return seen


def test_embeddings_are_computed_once_and_kept(dataset, counting, tmp_path):
    first = all_embeddings(Embedder(TinyBioMoE(), tmp_path), dataset, embedding_cache.SCALES)
    assert len(first) == 10  # angle and phase have no scale
    assert len(counting) == 10 * 80
    model = TinyBioMoE()
    embedder = Embedder(model, tmp_path)
    kept = embedder.embed(dataset, "window", "psd")
    again = Embedder(model, tmp_path).embed(dataset, "window", "psd")
    assert len(counting) == 11 * 80  # other weights, once
    np.testing.assert_array_equal(kept.vectors, again.vectors)
    other = TinyBioMoE(recipe=Recipe(psd_range_db=60.0))
    other.load_state_dict(model.state_dict())
    assert Embedder(other, tmp_path).digest != embedder.digest
    model.precision = "bfloat16"
    assert Embedder(model, tmp_path).digest != embedder.digest


def test_a_flat_window_is_blank_in_its_own_range_and_has_a_level_in_the_recordings(dataset, counting, tmp_path):
    embedder = Embedder(TinyBioMoE(), tmp_path)
    own, recording = (embedder.embed(dataset, scale, "waveform").vectors for scale in embedding_cache.SCALES)
    assert flat_windows(dataset) == 1
    assert (own[3] == 0).all()
    assert (recording[3] > 0).any()
    assert (own.max(axis=1) > 0).sum() == 79


def test_fusion_by_concat_and_by_add():
    parts = [Embedded(np.full((2, 3), value, np.float32), value) for value in (1.0, 2.0)]
    assert fuse(parts, "concat").vectors.tolist() == [[1, 1, 1, 2, 2, 2]] * 2
    assert fuse(parts, "add").vectors.tolist() == [[3, 3, 3]] * 2
    assert fuse(parts, "add").seconds == 3.0


@pytest.fixture(scope="module")
def scored(dataset, tmp_path_factory):
    """Ours knows the label by its scalogram, the untrained network nothing."""
    rng = np.random.default_rng(1)
    scorer, rows = Scorer(dataset, tmp_path_factory.mktemp("cache")), []
    for group, signal in (("ours", 3.0), ("untrained", 0.0)):
        found = {}
        for name in REPRESENTATIONS:
            x = rng.standard_normal((80, 4))
            x[:, 0] += signal * (name == "scalogram") * dataset.labels
            found[name, "any" if name in embedding_cache.SCALE_FREE else "window"] = Embedded(
                x.astype(np.float32), 0.01
            )
        rows += scorer.network(group, found)
    rows.append(scorer.row("baseline", "hand-made", rng.standard_normal((80, 5)), 5, 1.0))
    return scorer, rows


def test_rows_and_choices_made_inside_the_folds(scored):
    scorer, rows = scored
    ours = {row.name: row for row in rows if row.group == "ours"}
    assert len(ours) == 6 + 2 + 1 + 1
    assert ours["all six by concat, window"].dims == 24
    assert ours["best two by concat"].dims == 8
    assert all("scalogram, window" in pair for pair in ours["best two by concat"].picked["plain"])
    assert scorer.estimate(ours["chosen inside the folds"], "plain").value > 0.85
    assert ours["scalogram, window"].seconds == 10.0


def test_differences_name_what_beats_what(scored):
    scorer, rows = scored
    found = [row for row in scorer.differences(rows) if row["protocol"] == "plain"]
    assert [row["second"] for row in found].count("hand-made") == 2
    gain = next(row for row in found if row["first"] == "ours, mean of 10 rows")
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert all(row["low"] > 0.2 for row in found if row["second"] == "hand-made")


def test_each_reading_is_a_part_of_the_same_pass(dataset, counting, tmp_path):
    embedder = Embedder(TinyBioMoE(), tmp_path)
    whole, first, second, rows = (embedder.embed(dataset, "window", "psd", name) for name in embedding_cache.READINGS)
    assert len(counting) == 80
    assert (whole.vectors.shape, rows.vectors.shape) == ((80, 192), (80, 8))
    np.testing.assert_array_equal(np.concatenate([first.vectors, second.vectors], axis=1), whole.vectors)
    assert (rows.vectors == np.arange(8)).all()


def test_ours_counts_as_much_as_what_it_is_joined_with(dataset, tmp_path, monkeypatch):
    noise = np.random.default_rng(4).standard_normal((80, 400))
    monkeypatch.setattr(scoring, "minirocket", lambda dataset: lambda training: noise)
    known = Embedded(np.column_stack([dataset.labels, noise[:, :3]]).astype(np.float32), 0.01)
    row = Scorer(dataset, tmp_path).joined("ours", "scalogram, window", known)
    assert row.label == "ours: scalogram, window + MiniRocket"
    assert Scorer(dataset, tmp_path).estimate(row, "plain").value == 1.0
    other = Embedded(noise[:, :4].astype(np.float32), 0.01)  # other vectors are not taken for these
    assert Scorer(dataset, tmp_path).estimate(Scorer(dataset, tmp_path).joined("ours", "x", other), "plain").value < 0.8


def test_the_last_table_counts_lines_above_level_and_below():
    def difference(low, value, high):
        return {"protocol": "plain", "first": "a", "second": "b", "value": value, "low": low, "high": high}

    three = [difference(0.01, 0.02, 0.03), difference(-0.01, 0.0, 0.01), difference(-0.03, -0.05, -0.01)]
    tasks = {
        "x": {"differences": three[:2]},
        "y": {"differences": [*three[2:], three[0] | {"first": "a (best in the table)"}]},
    }
    assert quality_report.summary({"tasks": tasks})[-1] == "| a | b | 1 | 1 | 1 | -1.0 |"
    assert quality_report.summary({"tasks": {"x": {"differences": []}}}) == []


def test_what_was_probed_is_not_probed_again(scored, monkeypatch):
    scorer, rows = scored
    x = np.random.default_rng(3).standard_normal((80, 5))
    first = scorer.row("baseline", "x", x, 5, 0.0)

    def never(*arguments):
        raise AssertionError("probed again")

    monkeypatch.setattr(protocol, "probe", never)
    again = scorer.row("baseline", "x", x, 5, 0.0)
    assert (again.probed["plain"].predicted == first.probed["plain"].predicted).all()
    with pytest.raises(AssertionError, match="probed again"):
        scorer.row("baseline", "x", x + 1e-9, 5, 0.0)


def test_controls_are_at_chance_and_show_the_clock(dataset, tmp_path):
    found = Scorer(dataset, tmp_path).controls(np.eye(2)[dataset.labels])
    assert set(found) == set(scoring.PROTOCOLS)
    assert found["plain"]["labels shuffled"][0] == pytest.approx(0.5, abs=0.12)
    assert found["plain"]["clock, by the minute"][0] == pytest.approx(0.5, abs=0.2)  # classes alternate


def test_the_command_writes_a_table_a_picture_and_json(dataset, counting, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "load", lambda name, archives, cache: dataset)
    arguments = [
        "--downstream",
        str(tmp_path),
        "--cache",
        str(tmp_path / "cache"),
        "--tasks",
        "RR3",
        "--per-person",
        "6",
        "--representations",
        "scalogram",
        "--scales",
        "window",
    ]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        quality.main, [*arguments, "--rows", "ours,untrained,controls", "--seeds", "1", "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    task = json.loads((out / "quality.json").read_text())["tasks"]["RR3"]
    assert sum(task["sizes"]) == 60
    assert len(task["rows"]) == 2 * (1 + 1 + 1 + 2)  # the 192 numbers, as chosen, rows, halves
    table = (out / "quality.md").read_text()
    assert "| ours: chosen inside the folds |" in table
    assert "| ours: scalogram, window, rows | ours: scalogram, window |" in table
    assert "| ours: scalogram, window, encoder 1 | untrained 0: scalogram, window, encoder 1 |" in table
    assert "Controls, plain: labels shuffled 0." in table
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    runner = CliRunner()
    base = ["--cache", str(tmp_path), "-o", str(tmp_path), "--rows", "controls"]
    assert "ECG needs --pretraining FOLDER" in runner.invoke(quality.main, [*base, "--tasks", "ECG"]).output
    assert "unknown tasks 'SP4'" in runner.invoke(quality.main, [*base, "--tasks", "SP4"]).output


def test_numbers_of_a_table():
    assert quality_report.interval([1.0, 0.985, 1.0]) == "1.000 [.985, 1.000]"
    assert quality_report.interval([-0.5, -0.625, 0.0], "+") == "-.500 [-.625, +.000]"
