"""Which vectors may stand side by side, and how the command line says it."""

from __future__ import annotations

import pytest
from stub_study import Stub, make_study

from tiny_biomoe.batch.compatibility import EFFECTS, differences, facts_of, facts_of_vector
from tiny_biomoe.batch.loading import read_manifest
from tiny_biomoe.batch.run import embed_study


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of one study, by what is different in them."""
    place = tmp_path_factory.mktemp("mixing")
    study = make_study(place / "study")
    for path in (study / "bad.csv", study / "S02" / "EDA.csv"):
        path.unlink()

    def run(name, representation="psd", model=None, **options):
        embed_study(study, place / name, representation, model=model or Stub(), **{"window": 10, **options})
        return place / name

    return {
        "as": run("as"),
        "again": run("again", ["waveform", "psd"], stride=5),
        "half": run("half", model=Stub(precision="bfloat16")),
        "other": run("other", model=Stub("other"), band=None),
        "waveform": run("waveform", "waveform"),
        "nothing": run("nothing", window=600),
    }


def found(runs, one, two):
    facts = [facts_of(read_manifest(runs[name])) for name in (one, two)]
    return {each.name: each.mix for each in differences(*facts)}


def test_what_differs_and_what_it_does(runs):
    assert found(runs, "as", "as") == {}
    assert found(runs, "as", "again") == {"representation": "with care", "stride": "yes"}
    assert found(runs, "as", "half") == {"precision": "with care"}
    assert found(runs, "as", "other") == {"weights": "no", "band": "no"}
    assert found(runs, "as", "waveform") == {"representation": "no"}
    assert found(runs, "as", "nothing") == {"window": "no", "stride": "yes"}


def test_held_samples_that_were_read_at_another_rate_are_mixed_with_care(runs):
    facts = facts_of(read_manifest(runs["as"]))
    assert facts["on_held"] == "warn"
    assert [each.mix for each in differences(facts, {**facts, "on_held": "reduce"})] == ["with care"]


def test_every_fact_of_a_run_has_an_effect(runs):
    assert set(facts_of(read_manifest(runs["as"]))) == set(EFFECTS)


def test_a_vector_of_a_run_has_the_facts_of_the_run(runs):
    provenance = read_manifest(runs["as"])["provenance"]["eda 4 Hz"]
    whole, of_vector = facts_of(read_manifest(runs["as"])), facts_of_vector(provenance)
    assert set(of_vector) == {"weights", "recipe", "scale", "precision", "backend", "program"}
    assert {name: whole[name] for name in of_vector} == of_vector


def test_compare_on_the_command_line(run, runs):
    code, out, _ = run("compare", runs["as"], runs["as"])
    assert (code, out) == (0, "yes: the vectors may be mixed; nothing differs\n")
    code, out, _ = run("compare", runs["as"], runs["half"])
    assert (code, out.splitlines()[0]) == (0, "with care: the vectors may be mixed, with an eye on what differs")
    assert "precision: float32 and bfloat16: vectors differ in the second digit" in out
    code, out, _ = run("compare", runs["as"], runs["other"])
    assert (code, out.splitlines()[0]) == (1, "no: the vectors may not be mixed")
    assert "  no         band: modality and none: another filter" in out


def test_info_on_the_command_line(run, runs):
    code, out, _ = run("info", runs["again"])
    lines = dict(line.split(None, 1) for line in out.splitlines() if not line.startswith(("eda", "bvp", "computed")))
    assert code == 0
    assert lines["representations"] == "waveform, psd"
    assert (lines["window"], lines["stride"]) == ("10 s", "5 s")
    assert lines["windows"] == "33 of 3 inputs; 0 failed, 1 skipped"
    assert "eda 4 Hz         filtered from none to " in out
    code, out, _ = run("info", runs["nothing"])
    assert out.startswith("no vector: of 4 inputs none could be embedded; see ")
