"""Studies that change between two starts (row 128): what is embedded or kept, and the bytes are a fresh run's."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pyarrow.dataset as pa_dataset
import pyarrow.parquet as parquet
import pytest
from stub_study import Stub, digests, e4, make_study, pulse

from tiny_biomoe import ConfigError
from tiny_biomoe.batch.dry_run import Outlook
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.batch.worker import InputFailed, Observer
from tiny_biomoe.readers.read import read


class Seen(Observer):
    """What a run said before it began."""

    outlook = Outlook()

    def planned(self, files, outlook):
        self.outlook = outlook


def embed(study, out, **options) -> tuple[int, Outlook]:
    """Embed with the stub: the pictures that the network saw, and the outlook."""
    model, seen = Stub(), Seen()
    embed_study(study, out, "waveform", model=model, window=10, shard_windows=5, **{"observer": seen, **options})
    return model.seen, seen.outlook


def is_fresh(study, out, tmp_path) -> bool:
    """Whether a folder holds the bytes of a run that begins now, and no window twice."""
    fresh = tmp_path / "fresh"
    embed(study, fresh)
    same = digests(out) == digests(fresh)
    shutil.rmtree(fresh)
    ids = pa_dataset.dataset(out / "embeddings").to_table(["id"])["id"].to_pylist()
    return same and len(set(ids)) == len(ids)


@pytest.fixture(params=[1024, 2], ids=["one group", "many groups"])
def study(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tiny_biomoe.batch.plan.GROUP_FILES", request.param)
    return make_study(tmp_path / "study")


@pytest.fixture
def out(study, tmp_path) -> Path:
    """The folder of a complete run of the study: 23 windows of 4 files; one flat window, one file that fails."""
    embed(study, tmp_path / "out")
    return tmp_path / "out"


def test_a_first_run_has_nothing_to_tell(study, tmp_path):
    seen, outlook = embed(study, tmp_path / "out")
    assert (seen, outlook) == (23, Outlook(new=5, skipped=1))
    assert outlook.first


def test_what_is_no_recording_is_counted_before_a_run_as_behind_it(study, tmp_path):
    told = Seen()
    summary = embed_study(study, tmp_path / "out", "waveform", model=Stub(), window=10, observer=told)
    assert told.outlook.skipped == summary.skipped == 1
    assert told.outlook.table().splitlines()[0] == summary.table().splitlines()[0]


def test_an_input_that_came_is_embedded_and_no_other(study, out, tmp_path):
    e4(study / "S01" / "EDA2.csv", 1 + pulse(30, 4, 0.07), 4)
    seen, outlook = embed(study, out, observer=(told := Seen()))
    assert seen == 3
    assert told.outlook == Outlook(done=4, failed=1, new=1, skipped=1)
    assert is_fresh(study, out, tmp_path)


def test_rows_of_inputs_that_did_not_change_are_kept_as_embeddings_are(study, tmp_path):
    embed(study, tmp_path / "out", readout="rows")
    e4(study / "S01" / "EDA2.csv", 1 + pulse(30, 4, 0.07), 4)
    seen, _ = embed(study, tmp_path / "out", readout="rows")
    embed(study, tmp_path / "fresh", readout="rows")
    assert seen == 3
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_an_input_that_changed_is_embedded_anew_and_one_that_went_is_gone(study, out, tmp_path):
    e4(study / "S01" / "EDA.csv", 3 + pulse(60, 4, 0.06), 4)
    (study / "S02" / "BVP.csv").unlink()
    seen, outlook = embed(study, out)
    assert (seen, outlook) == (6, Outlook(done=2, failed=1, changed=1, skipped=1, gone=("S02/BVP.csv",)))
    assert is_fresh(study, out, tmp_path)


def test_a_file_that_arrives_late_is_embedded(study, tmp_path):
    table, late = study / "study.csv", study / "S02" / "BVP.csv"
    table.write_text("path\nS01/BVP.csv\nS02/BVP.csv\n")
    late.rename(tmp_path / "aside.csv")
    assert embed(table, tmp_path / "out")[0] == 6
    assert embed(table, tmp_path / "out") == (0, Outlook(done=1, failed=1))
    (tmp_path / "aside.csv").rename(late)
    assert embed(table, tmp_path / "out") == (6, Outlook(done=1, changed=1))
    assert is_fresh(table, tmp_path / "out", tmp_path)


def test_an_input_that_failed_for_a_while_is_tried_again(study, tmp_path, monkeypatch):
    def starved(path, **options):
        if path.parent.name == "S01":
            raise MemoryError
        return read(path, **options)

    monkeypatch.setattr("tiny_biomoe.readers.wide_files.read", starved)
    assert embed(study, tmp_path / "out")[0] == 11
    assert embed(study, tmp_path / "out") == (0, Outlook(done=2, failed=3, skipped=1))
    monkeypatch.undo()
    assert embed(study, tmp_path / "out") == (12, Outlook(done=2, failed=3, skipped=1))
    assert is_fresh(study, tmp_path / "out", tmp_path)
    assert not list((tmp_path / "out" / ".run" / "old").iterdir())


def test_a_window_that_failed_for_want_of_memory_is_drawn_again(study, tmp_path, monkeypatch):
    import tiny_biomoe.images.windows as windows

    def starved(part, *arguments, **options):
        if "S01/BVP" in options["where"] and ", 20-30 s" in options["where"]:
            raise MemoryError
        return genuine(part, *arguments, **options)

    genuine = windows.draw_all
    monkeypatch.setattr(windows, "draw_all", starved)
    assert embed(study, tmp_path / "out")[0] == 22
    monkeypatch.undo()
    assert embed(study, tmp_path / "out")[0] == 6  # the file's own windows
    assert is_fresh(study, tmp_path / "out", tmp_path)


def test_labels_and_further_columns_change_without_embedding_anything(study, tmp_path):
    table, out = study / "study.csv", tmp_path / "out"
    table.write_text("path,label\nS01/BVP.csv,calm\nS02/EDA.csv,\n")
    assert embed(table, out)[0] == 11
    table.write_text("path,subject,label,room\nS01/BVP.csv,1,stress,A\nS02/EDA.csv,2,calm,B\n")
    assert embed(table, out) == (0, Outlook(done=2))
    assert is_fresh(table, out, tmp_path)
    found = parquet.read_table(out / "embeddings", columns=["source", "subject", "label", "room"])
    assert set(map(tuple, (row.values() for row in found.to_pylist()))) == {
        ("S01/BVP.csv", "1", "stress", "A"),
        ("S02/EDA.csv", "2", "calm", "B"),
    }


@pytest.mark.parametrize("after", [1, 4, 9, 14])
def test_a_run_of_a_study_that_grew_is_stopped_and_the_study_grows_again(study, out, tmp_path, after):
    class Stop(Observer):
        windows = 0

        def found(self, windows, input_bytes):
            self.windows += windows
            if self.windows >= after:
                raise KeyboardInterrupt

        embedded = found

    e4(study / "S00" / "EDA.csv", 1 + pulse(50, 4, 0.07), 4)
    with pytest.raises(KeyboardInterrupt):
        embed(study, out, observer=Stop())
    assert not (out / "manifest.json").exists()
    ids = (
        pa_dataset.dataset(out / "embeddings").to_table(["id"])["id"].to_pylist()
        if any((out / "embeddings").iterdir())
        else []
    )
    assert len(set(ids)) == len(ids)
    e4(study / "S03" / "EDA.csv", 1 + pulse(20, 4, 0.09), 4)
    seen, _ = embed(study, out)
    assert seen <= 5 + 2
    assert is_fresh(study, out, tmp_path)


def test_a_kept_shard_that_is_damaged_is_not_used(study, out, tmp_path):
    class Damage(Observer):
        def planned(self, files, outlook):
            for path in (out / ".run" / "old").glob("*.parquet"):
                path.write_bytes(path.read_bytes()[:-9])

    e4(study / "S01" / "EDA0.csv", 1 + pulse(30, 4, 0.07), 4)
    assert embed(study, out, modality=None, observer=Damage())[0] >= 3  # modality=None sets nothing
    assert is_fresh(study, out, tmp_path)


def test_inputs_that_share_nothing_with_the_run_are_refused(study, out, tmp_path):
    e4(tmp_path / "other" / "X" / "EDA.csv", pulse(20, 4, 0.1), 4)
    before = digests(out)
    with pytest.raises(ConfigError, match=r"embeddings of other inputs \(S01/BVP\.csv \.\.\.\)"):
        embed(tmp_path / "other", out)
    assert digests(out) == before


def test_rows_that_were_set_aside_are_not_given_up_for_a_run_of_other_arguments(study, out, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    e4(study / "S09" / "EDA.csv", 2 + pulse(30, 4, 0.05), 4)
    with monkeypatch.context() as patch:
        patch.setattr("tiny_biomoe.batch.run.seen_aside", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(study, out)
    with pytest.raises(ConfigError, match="holds embeddings that were made with other arguments"):
        embed_study(study, out, "waveform", model=Stub(), window=20, shard_windows=5)
    assert embed(study, out)[0] == 3


def test_failures_of_a_complete_run_stop_one_that_is_to_stop(study, out):
    with pytest.raises(InputFailed):
        embed(study, out, on_error="stop")


def test_folders_of_the_earlier_layout_are_read_and_not_gone_on_with(study, out):
    from tiny_biomoe import load_embeddings
    from tiny_biomoe.sealed_files import sealed, unsealed

    manifest = unsealed((out / "manifest.json").read_bytes())
    for place, shard in enumerate(manifest["shards"]):
        name = f"shard-00000-{place:05d}.parquet"
        (out / "embeddings" / shard["name"]).rename(out / "embeddings" / name)
        shard["name"] = name
    (out / "manifest.json").write_bytes(sealed({**manifest, "format": "tiny-biomoe-embeddings/1"}))
    assert len(load_embeddings(out)[0]) == 23
    with pytest.raises(ConfigError, match="of an earlier version .* choose another folder"):
        embed(study, out)


def test_the_table_says_what_becomes_of_the_inputs():
    outlook = Outlook(done=7, failed=1, changed=2, new=3, skipped=1, gone=("a", "b", "c", "d"))
    assert outlook.table().splitlines() == [
        "inputs                      14",
        "  done before                7  embedded or skipped; their vectors are kept",
        "  failed before              1  tried again",
        "  changed                    2  embedded anew",
        "  new                        3  embedded",
        "  no recording               1  skipped",
        "  gone                       4  not counted; their rows are removed: a, b, c ...",
    ]


def test_a_file_whose_extra_is_missing_fails_alone_and_is_tried_again(study, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    (study / "a.vhdr").write_text("Brain Vision Data Exchange Header File Version 1.0\n")
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None if name == "mne" else real(name))
        assert embed(study, tmp_path / "out") == (23, Outlook(new=6, skipped=1))
    failed = {
        row["source"]: row["reason"] for row in parquet.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    }
    assert failed["a.vhdr"] == 'reading this format needs mne: pip install "tiny-biomoe[mne]"'
    (study / "a.vhdr").unlink()
    assert embed(study, tmp_path / "out") == (0, Outlook(done=4, failed=1, skipped=1, gone=("a.vhdr",)))
    assert is_fresh(study, tmp_path / "out", tmp_path)
