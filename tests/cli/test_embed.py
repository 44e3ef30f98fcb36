"""`tiny-biomoe embed` into a folder, as a person meets it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal

import filelock
import numpy as np
import pytest
from conftest import ROOT
from pyarrow import parquet
from stub_study import Stub, digests, e4, make_study, pulse

from tiny_biomoe import load_embeddings
from tiny_biomoe.batch.terminal import Bar
from tiny_biomoe.cli.main import main
from tiny_biomoe.embedding import Embedder
from tiny_biomoe.readers.channel import NO_MODALITY
from tiny_biomoe.readers.columns import ANYWAY


@pytest.fixture
def run(run, monkeypatch):
    """Run the command line with the stub network."""
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, backend, precision: Stub(precision=precision))
    return run


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


HERE = ["--workers", "0", "--threads", "1", "--shard-windows", "5"]


def test_a_folder_into_a_folder_with_a_summary(run, study, tmp_path):
    code, out, err = run("embed", study, "--window", 10, *HERE, "-o", tmp_path / "out")
    assert (code, err) == (2, "")
    assert re.sub(r" +", " ", out).splitlines()[:6] == [
        "inputs 6",
        " embedded 4 1 of them in part",
        " failed 1",
        " skipped 1",
        "windows embedded 23",
        "windows failed 1",
    ]
    assert "out/failures.parquet" in out
    assert len(load_embeddings(tmp_path / "out")[0]) == 23


def test_another_precision_is_another_run(run, study, tmp_path):
    embed = "embed", study, "--window", 10, *HERE, "-o", tmp_path / "out"
    run(*embed)
    code, _, err = run(*embed, "--precision", "bfloat16")
    assert code == 1
    assert "backend.precision was float32, now bfloat16" in err


def test_rows_into_a_folder_and_into_a_file(run, study, tmp_path):
    arguments = ["embed", study, "--window", "10", "--representation", "waveform", "--readout", "rows"]
    code, _, _ = run(*arguments, "-o", tmp_path / "out")
    assert code == 2
    rows, embeddings = (load_embeddings(tmp_path / "out", readout=each)[1] for each in ("rows", "embedding"))
    assert (rows.shape, embeddings.shape) == ((23, 1056), (23, 192))
    code, out, _ = run(*arguments, "-o", tmp_path / "out.npz")
    assert code == 2
    assert "23 vectors of 1056 numbers" in out
    with np.load(tmp_path / "out.npz") as found:
        assert found["rows"].tobytes() == rows.tobytes()
        assert {facts["readout"] for facts in json.loads(str(found["provenance"])).values()} == {"rows"}


@pytest.mark.parametrize("how", [[], ["--backend", "native"], ["--compile"]])
def test_a_file_says_how_it_was_made(capsys, tmp_path, how):
    (tmp_path / "pulse.csv").write_text("".join(f"{value}\n" for value in pulse(10, 64)))
    arguments = ["embed", str(tmp_path / "pulse.csv"), "--fs", "64", "--modality", "bvp", "--precision", "bfloat16"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, *how, "-o", str(tmp_path / "out.csv")])
    assert done.value.code == 0
    (facts,) = json.loads((tmp_path / "out.csv.json").read_text()).values()
    expected = Embedder.from_pretrained(precision="bfloat16").provenance(64, "bvp")
    assert {name: facts[name] for name in expected} == expected
    warned = "--compile is deprecated: use --backend native" in capsys.readouterr().err
    assert warned == (how == ["--compile"])


def test_a_backend_that_is_missing_is_an_error_before_a_folder_is_made(run, study, tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_biomoe.inference.native_program.native_program", lambda precision: None)
    code, _, err = run("embed", study, "--window", 10, "--backend", "native", *HERE, "-o", tmp_path / "out")
    assert code == 1
    assert "no native program for this processor" in err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_and_writes_nothing(run, study, tmp_path):
    code, out, _ = run("embed", study, "--window", 10, "--dry-run", "-o", tmp_path / "out")
    assert code == 2
    lines = [re.sub(r" +", " ", line).strip() for line in out.splitlines()]
    assert lines[1] == "6 64 bvp BVP S01/BVP.csv"
    assert lines[-3].startswith("0 bad.csv failed: column '0', row 3")
    assert lines[-2].startswith("0 README.md skipped")
    assert lines[-1] == "24 windows"
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_nothing_fails_as_the_run_would(run, study):
    code, out, _ = run("embed", study, "--window", 600, "--short", "drop", "--dry-run")
    assert out.splitlines()[-1].split() == ["0", "windows"]
    assert code == 1


def test_the_first_failures_are_told_on_the_terminal(run, study, tmp_path):
    code, out, _ = run("embed", study, "--window", 10, *HERE, "-o", tmp_path / "out")
    assert code == 2
    assert re.search(r"^  bad\.csv: column '0', row 3", out, re.MULTILINE)


def test_a_dry_run_leaves_out_the_output_as_the_run_does(run, study):
    run("embed", study, "--window", 10, *HERE, "-o", study / "out")
    _, out, _ = run("embed", study, "--window", 10, "--dry-run", "-o", study / "out")
    assert "manifest" not in out
    assert out.splitlines()[-1].split() == ["24", "windows"]


@pytest.mark.filterwarnings("ignore::tiny_biomoe.errors.SignalWarning")
def test_into_a_file_what_is_shorter_than_a_window_counts_as_skipped(capsys, study, tmp_path):
    e4(study / "S01" / "EDA_short.csv", 1 + pulse(8, 4, 0.3), 4)
    with pytest.raises(SystemExit) as stop:
        main(["embed", str(study / "S01"), "--window", "30", "--short", "drop", "-o", str(tmp_path / "out.csv")])
    out, err = capsys.readouterr()
    assert int(stop.value.code or 0) == 0
    assert "3 inputs = 2 embedded + 0 failed + 1 skipped" in re.sub(r"\s+", " ", out)
    assert "EDA_short.csv: shorter than one window" in err


def test_options_apply_where_the_study_file_is_silent(run, study, tmp_path):
    (study / "study.csv").write_text("path,fs,modality\nx.csv,50,resp\ny.csv,,\n")
    for name in ("x", "y"):
        (study / f"{name}.csv").write_text("\n".join(str((t * t) % 17) for t in range(1000)))
    code, out, _ = run("embed", study / "study.csv", "--fs", 25, "--modality", "spo2", "--dry-run")
    assert code == 0
    assert re.sub(r" +", " ", out).splitlines()[1:3] == [" 1 50 resp 0 x.csv", " 1 25 spo2 0 y.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}"], "-o is missing"),
        (["{in}", "-o", "{in}/no/such"], "does not exist: create it first"),
        (["{in}", "-o", "{in}/out", "--fusion", "add"], "--fusion is for files"),
        (["{in}", "-o", "{in}/out.csv", "--workers", "3"], "--workers is for a folder"),
        (["{in}/study.csv", "-o", "{in}/out.csv"], "is a study file: embed it into a folder"),
        (["{in}", "-o", "{in}/out", "--stride", "3"], "--stride needs --window"),
        (["{in}", "-o", "{in}/out", "--actors", "3"], "add --engine ray"),
        (["{in}", "-o", "{in}/out", "--window", "10", "--on-error", "stop", "--workers", "0"], "is flat"),
    ],
)
def test_errors_are_one_line_and_exit_1(run, study, arguments, message):
    (study / "study.csv").write_text("path\nS01/BVP.csv\n")
    (study / "bad.csv").unlink()
    code, _, err = run("embed", *(each.replace("{in}", str(study)) for each in arguments))
    assert code == 1
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_row_75_exit_codes_of_signals(run, study, tmp_path, monkeypatch, number, code):
    def interrupt(self, windows, input_bytes):
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    sent = []
    monkeypatch.setattr(Bar, "embedded", interrupt)
    stopped, _, err = run("embed", study, "--window", 10, *HERE, "-o", tmp_path / "out")
    assert stopped == code
    assert "stopping when the shard at hand is written" in err
    assert "stopped: give the same command again" in err
    assert len(list((tmp_path / "out" / "embeddings").iterdir())) == 1
    assert run("embed", study, "--window", 10, *HERE, "-o", tmp_path / "out")[0] == 2


def test_the_progress_bar_tells_windows_and_time_left(study, tmp_path, monkeypatch, capsys):
    from tiny_biomoe.batch.run import embed_study

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tiny_biomoe.batch.terminal.tqdm.monitor_interval", 0)
    with Bar() as bar:
        bar._windows.delay = 0
        embed_study(study, tmp_path / "out", model=Stub, window=10, observer=bar)
        assert bar._windows.n == 24
        assert abs(bar._windows.total - 24) <= 1
    with Bar() as again:
        embed_study(study, tmp_path / "out", model=Stub, window=10, observer=again)
        assert (again._windows.n, again._windows.initial) == (24, 24)


def test_a_log_gets_a_line_now_and_then(study, tmp_path, monkeypatch, capsys):
    from tiny_biomoe.batch.run import embed_study

    monkeypatch.setattr("tiny_biomoe.batch.terminal.PAUSE", 0.0)
    with Bar() as bar:
        embed_study(study, tmp_path / "out", model=Stub, window=10, observer=bar)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 24
    assert re.fullmatch(r"embedding: 1 window, \d+%, \d+ s left", lines[0])
    assert re.fullmatch(r"embedding: 24 windows, 100%, 0 s left", lines[-1])


def test_the_study_among_the_examples(run, tmp_path):
    code, out, _ = run("embed", ROOT / "examples" / "study.csv", "--window", 5, *HERE, "-o", tmp_path / "out")
    assert code == 0
    _, _, table = load_embeddings(tmp_path / "out")
    assert set(table["modality"].to_pylist()) == {"bvp", "ecg", "eda", "resp", "spo2"}
    assert set(table["fs"].to_pylist()) == {4.0, 25.0, 64.0, 100.0, 250.0, 1000.0}
    assert len(table) == 57


def test_failures_that_are_alike_are_one_line(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "EDA.csv").write_text("EDA\n" + "".join(f"{value}\n" for value in pulse(60, 4)))
    for i in range(7):
        (folder / f"bad{i}.csv").write_text("1\nx\n")
    read = "--fs", 4, "--modality", "eda"
    code, out, _ = run("embed", folder, *HERE, *read, "-o", tmp_path / "out")
    assert code == 2
    assert out.count(": column") == 1
    assert "\n  7 files, bad0.csv to bad6.csv: column '0', row 2: 'x' is not a number" in out
    code, out, _ = run("embed", folder, *HERE, *read, "--dry-run")
    assert out.count("failed: column '0', row 2: 'x' is not a number") == 7  # a dry run names each file
    code, _, err = run("embed", folder, *read, "-o", tmp_path / "out.npz")
    assert code == 2
    assert err.count("not embedded: ") == 1
    assert "not embedded: 7 files, bad0.csv to bad6.csv: column '0', row 2: 'x' is not a number" in err


@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_row_116_windows_that_are_alike_are_one_line(run, tmp_path, out):
    samples = np.array(pulse(200, 4))
    samples[200:320] = samples[200]
    (tmp_path / "EDA.csv").write_text("EDA\n" + "".join(f"{value}\n" for value in samples))
    more = HERE if out == "out" else ()
    code, told, err = run("embed", tmp_path / "EDA.csv", *more, "--fs", 4, "--window", 10, "-o", tmp_path / out)
    assert code == 2
    assert (told + err).count("EDA.csv, EDA, 3 windows, 50-80 s: is flat: all 40 samples are") == 1
    assert (told + err).count("is flat") == 1


@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_held_samples_are_warned_of_or_read_at_their_own_rate(run, tmp_path, out, recwarn):
    slow = np.round(pulse(150, 4), 6)
    (tmp_path / "EDA.csv").write_text("EDA\n" + "".join(f"{value}\n" for value in np.repeat(slow, 16)))
    (tmp_path / "own.csv").write_text("EDA\n" + "".join(f"{value}\n" for value in slow))
    more, read = HERE if out == "out" else (), ("--fs", 64, "--window", 10)
    code, told, err = run("embed", tmp_path / "EDA.csv", *more, *read, "-o", tmp_path / out)
    assert code == 0
    assert "repeats each value: it was sampled at 4 Hz and exported at 64 Hz" in told + err + "".join(
        str(each.message) for each in recwarn
    )
    recwarn.clear()
    reduced, own = tmp_path / f"reduced_{out}", tmp_path / f"own_{out}"
    code, told, err = run("embed", tmp_path / "EDA.csv", *more, *read, "--on-held", "reduce", "-o", reduced)
    assert (code, "repeats" in told + err, recwarn.list) == (0, False, [])
    run("embed", tmp_path / "own.csv", *more, "--fs", 4, "--window", 10, "-o", own)
    if out == "out":
        tables = [parquet.read_table(each / "embeddings") for each in (reduced, own)]
        vectors = [np.stack(each["scalogram"].to_pylist()) for each in tables]
        assert set(tables[0]["fs"].to_pylist()) == {4.0}
        assert json.loads((reduced / "manifest.json").read_text())["fingerprint"]["arguments"]["reading"] == {
            "fs": 64.0,
            "on_held": "reduce",
        }
    else:
        vectors = [np.load(each)["embedding"] for each in (reduced, own)]
    assert vectors[0].tolist() == vectors[1].tolist()


def test_a_dry_run_tells_of_held_samples(run, tmp_path):
    text = "".join(f"{value}\n" for value in np.repeat(np.round(pulse(150, 4), 6), 16))
    (tmp_path / "EDA.csv").write_text("EDA\n" + text)
    code, out, err = run("embed", tmp_path / "EDA.csv", "--fs", 64, "--dry-run")
    assert (code, err) == (0, "")
    assert out.count("EDA.csv  warned: repeats each value: it was sampled at 4 Hz and exported at 64 Hz") == 1


@pytest.mark.parametrize("window", [(), ("--window", 10)], ids=["whole", "windows"])
@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_row_116_a_share_that_is_missing(run, tmp_path, out, window):
    samples = np.array(pulse(60, 4))
    samples[100:103] = samples[105:108] = samples[110:113] = np.nan  # 9 of the 40 samples from 20 s on, 9 of all 240
    more = HERE if out == "out" else ()
    (tmp_path / "EDA.csv").write_text("EDA\n" + "".join("NaN\n" if np.isnan(v) else f"{v}\n" for v in samples))
    read = "--fs", 4, "--nan-policy", "interpolate", *window
    for share, lost in (("0.3", 0), ("0.2", 1 if window else 0), ("0.03", 1)):
        code, _, err = run(
            "embed", tmp_path / "EDA.csv", *more, *read, "--max-missing", share, "-o", tmp_path / f"{share[2:]}{out}"
        )
        assert code == (1 if lost and not window else 2 if lost else 0), (share, err)


def test_a_part_of_the_inputs_is_another_run(run, study, tmp_path):
    run("embed", study, "--window", 10, *HERE, "-o", tmp_path / "out")
    before = digests(tmp_path / "out")
    for part in (study / "S01", study / "S01" / "EDA.csv"):
        code, _, err = run("embed", part, "--window", 10, *HERE, "-o", tmp_path / "out")
        assert code == 1
        assert "inputs" in err
    assert digests(tmp_path / "out") == before


def test_a_study_that_grew_is_told_of_before_it_begins(run, study, tmp_path):
    embed = "embed", study, "--window", 10, *HERE, "-o", tmp_path / "out"
    run(*embed)
    e4(study / "S03" / "EDA.csv", pulse(20, 4, 0.1), 4)
    (study / "S01" / "BVP.csv").unlink()
    code, out, err = run(*embed)
    assert code == 2
    assert re.sub(r" +", " ", err).splitlines() == [
        "inputs 6",
        " done before 3 embedded or skipped; their vectors are kept",
        " failed before 1 tried again",
        " new 1 embedded",
        " no recording 1 skipped",
        " gone 1 not counted; their rows are removed: S01/BVP.csv",
    ]
    assert "windows embedded            19" in out


@pytest.mark.parametrize("output", [["-o", "out"], ["-o", "out.csv"], ["-o", "dry", "--dry-run"]])
def test_a_file_whose_extra_is_missing_costs_itself(run, study, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mne" else real(name))
    (study / "bad.csv").unlink()
    (study / "a.vhdr").write_text("Brain Vision Data Exchange Header File Version 1.0\n")
    code, out, err = run("embed", study, "--window", 10, "--exclude", "S02/EDA.csv", *output)
    assert code == 2
    assert 'reading this format needs mne: pip install "tiny-biomoe[mne]"' in out + err
    assert "18" in out


@pytest.mark.parametrize("output", ["out", "out.csv"])
def test_patterns_choose_inputs(run, study, tmp_path, output):
    chosen = "--include", "*EDA*", "--include", "*BVP*", "--exclude", "S02/*"
    code, out, _ = run("embed", study, "--window", 10, "--workers", 0 if output == "out" else 1, *chosen, "-o",
                       tmp_path / output)  # fmt: skip
    assert code == 0
    assert "12" in out
    code, out, _ = run("embed", study, "--window", 10, *chosen, "--dry-run")
    assert "S01/EDA.csv" in out
    assert "S02" not in out


def test_a_table_from_names_and_events(run, study, tmp_path):
    (study / "S01" / "events.csv").write_text("onset,duration,label\n0,20,calm\n20,30,stress\n")
    command = "study", study, "--subject", r"(S\d+)", "--events", "events.csv", "--include", "*EDA.csv"
    code, out, err = run(*command, "-o", study / "study.csv")
    assert (code, out.split(" in ")[0]) == (0, "2 rows of 1 recording and 1 person")
    assert "1 recording left out, for want of events (S02/EDA.csv)" in err
    assert (study / "study.csv").read_text() == (
        "path,subject,start,stop,label\nS01/EDA.csv,S01,0,20,calm\nS01/EDA.csv,S01,20,50,stress\n"
    )
    assert run("embed", study / "study.csv", "--window", 10, *HERE, "-o", tmp_path / "out")[0] == 0
    assert load_embeddings(tmp_path / "out")[2]["label"].to_pylist() == ["calm"] * 2 + ["stress"] * 3
    assert run(*command, "-o", study / "study.csv")[0] == 0  # again, over the table that is there


def test_a_dry_run_counts_people_labels_and_own_columns(run, study, tmp_path):
    (study / "study.csv").write_text(
        "path,subject,label,start,stop,age,room,done\n"
        "S01/EDA.csv,S01,rest,0,30,31,007,true\nS01/EDA.csv,S01,task,30,60,31,007,false\n"
        "S02/EDA.csv,S02,rest,0,30,29.5,b,true\nS02/EDA.csv,S02,,30,60,29.5,b,true\nbad.csv,S03,task,0,30,30,b,true\n"
    )
    code, out, _ = run("embed", study / "study.csv", "--window", 10, "--dry-run", "-o", tmp_path / "out")
    assert code == 2
    assert out.splitlines()[-4:] == [
        "       12 windows",
        "        3 people; without a window: S03",
        "        2 labels: rest (6 windows), task (3 windows); 3 windows without one",
        "        3 columns of your own: age (numbers), room (text), done (true or false)",
    ]
    assert not (tmp_path / "out").exists()
    _, out, _ = run("embed", study, "--window", 10, "--dry-run")
    assert re.fullmatch(r" +\d+ windows", out.splitlines()[-1])


@pytest.mark.parametrize(
    ("made_with", "asked", "refused"),
    [
        (["--window", 10], ["--window", 20], "arguments.window was 10.0, now 20.0"),
        (["--window", 10], ["--window", 10, "--shard-windows", 7], "arguments.shard_windows was 5, now 7"),
        (["--window", 10], ["--window", 10, "--precision", "bfloat16"], "precision was float32, now bfloat16"),
        (["--window", 10], ["--window", 10, "--include", "bad.csv"], "holds embeddings of other inputs"),
        (["--window", 10], ["--window", 10], None),
    ],
)
def test_a_dry_run_says_that_a_run_would_be_refused(run, study, tmp_path, made_with, asked, refused):
    out = tmp_path / "out"
    run("embed", study, *made_with, *HERE, "-o", out, "--include", "*A.csv")
    before = digests(out)
    code, listed, err = run("embed", study, *HERE, *asked, "--dry-run", "-o", out)
    assert "windows" in listed.splitlines()[-1]
    assert digests(out) == before
    assert (code, err) == (2, "") if refused is None else code == 1 and refused in err
    code, _, err = run("embed", study, *HERE, *asked, "-o", out)
    assert code == 2 if refused is None else code == 1 and refused in err


def test_a_modality_in_a_folder_of_several_devices(run, study, tmp_path, rng):
    (study / "bad.csv").unlink()
    (study / "left.csv").write_text("left\n" + "".join(f"{value:.4f}\n" for value in 2 + pulse(60, 4, 0.07)))
    read = ["--window", 10, "--modality", "eda", "--max-missing", 0.5]
    code, out, _ = run("embed", study, *read, "--fs", 4, "--include", "*.csv", "--exclude", "*BVP*", "--dry-run")
    assert (code, out.count(" eda ")) == (0, 3)  # left.csv does not say what it holds, and is what was said
    code, out, _ = run("embed", study, *read, "--include", "*VP.csv", "--include", "*DA.csv", "--dry-run")
    assert code == 0
    assert [line.split(None, 1)[1] for line in out.splitlines() if "BVP" in line] == [
        f"BVP              S0{n}/BVP.csv  skipped: measures bvp, not eda" for n in (1, 2)
    ]
    code, out, _ = run("embed", study / "S01", *read, *HERE, "-o", tmp_path / "out")
    assert code == 0
    assert re.search(r"embedded +1\n +failed +0\n +skipped +1\n", out)
    code, out, err = run("embed", study / "S01", *read, "-o", tmp_path / "out.csv")
    assert code == 0
    assert "BVP.csv: the file says that it measures bvp, not eda" in err
    assert "1 embedded" in out
    assert run("embed", study / "S01" / "BVP.csv", *read, "--dry-run")[0] == 1


def test_a_row_that_contradicts_its_file_fails(run, study):
    (study / "study.csv").write_text("path,modality\nS01/BVP.csv,eda\nS02,eda\n")
    code, out, _ = run("embed", study / "study.csv", "--window", 10, "--dry-run")
    assert code == 2
    assert "S01/BVP.csv  failed: the file says that it measures bvp, not eda: if one is, choose it" in out
    assert "S02/BVP.csv  skipped: measures bvp, not eda" in out


def test_a_file_that_does_not_say_what_it_measures_is_named_with_its_channels(run, tmp_path, rng):
    names = [f"c{n}" for n in range(12)]
    rows = "\n".join(",".join(f"{value:.4f}" for value in row) for row in rng.standard_normal((40, 12)))
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + rows + "\n")
    holds = "it holds " + ", ".join(map(repr, names[:8])) + " and 4 more"
    for arguments in (
        ["embed", "--dry-run"],
        ["embed", "-o", tmp_path / "o.csv"],
        ["embed", *HERE, "-o", tmp_path / "o"],
    ):
        code, out, err = run(arguments[0], tmp_path / "a.csv", "--fs", 64, *arguments[1:])
        assert code == 1
        assert "pass modality= (--modality), one of eda, " in out + err
        assert holds in out + err
    code, _, err = run("show", tmp_path / "a.csv", "--fs", 64, "--column", "c3", "-o", tmp_path / "six.png")
    assert code == 1
    assert "a.csv: the file does not say what it measures: pass" in err
    assert err.endswith("holds 'c3'\n")


def test_what_is_not_known_fails_and_what_is_known_to_be_none_is_skipped(run, tmp_path, rng):
    """In every format alike, in a folder and in a file: an accelerometer beside it does not make a channel known."""
    samples = rng.standard_normal((3, 400))
    for name, titles in (("unknown", "a,acc x,acc y"), ("axes", "acc x,acc y,acc z"), ("known", "EDA,acc x,b")):
        rows = "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in samples.T)
        (tmp_path / f"{name}.csv").write_text(f"{titles}\n{rows}")
    np.savez(tmp_path / "unknown.npz", **{"a": samples[0], "acc x": samples[1], "acc y": samples[2]}, fs=8)
    exg = "".join(f"{n % 256}," + ",".join(f"{value:.4f}" for value in row) + "\n" for n, row in enumerate(samples.T))
    (tmp_path / "board.txt").write_text(
        "%OpenBCI Raw EXG Data\n%Number of channels = 1\n%Sample Rate = 8 Hz\n%Board = x\n"
        f"Sample Index,EXG Channel 0,Accel Channel 0,Accel Channel 1\n{exg}"
    )
    says = "failed: the file does not say what it measures: pass modality= (--modality), one of eda, bvp, resp, spo2, "
    expected = {
        "axes.csv": ["skipped: measures acceleration"] * 3,
        "known.csv": ["skipped: measures acceleration", f"skipped: {NO_MODALITY}"],
        "unknown.csv": [f"{says}ecg, emg, eeg; it holds 'a'"],
        "unknown.npz": [f"{says}ecg, emg, eeg; it holds 'a'"],
        "board.txt": [f"{says}ecg, emg, eeg; it holds 'EXG Channel 0'"],
    }
    for name, reasons in expected.items():
        fs = [] if name in ("unknown.npz", "board.txt") else ["--fs", 8]
        code, out, _ = run("embed", tmp_path / name, *fs, "--dry-run")
        listed = [line.split(f"{name}  ")[1] for line in out.splitlines() if f"{name}  " in line]
        assert listed == list(dict.fromkeys(reasons)), name
        code, _, err = run("embed", tmp_path / name, *fs, "-o", tmp_path / "o.npz")
        assert all(reason.split(": ", 1)[1] in err for reason in reasons)
        assert code == (0 if name == "known.csv" else 1)


def test_a_column_left_out_by_its_name_alone_is_read_when_it_is_named(run, tmp_path):
    rows = "".join(f"{a:.4f},{b:.4f}\n" for a, b in zip(pulse(60, 64), pulse(60, 64, 0.1), strict=True))
    (tmp_path / "a.csv").write_text("hr,EDA\n" + rows)
    read = ["embed", tmp_path / "a.csv", "--fs", 64, "--dry-run"]
    code, out, _ = run(*read)
    reason = "derived or beside a signal by its name (hr); to read it all the same name it, column= (--column)"
    assert code == 0
    assert f"a.csv  skipped: {reason}" in out
    code, out, err = run(*read, "--column", "hr", "--modality", "bvp")
    assert code == 0
    assert " bvp       hr " in out
    assert ANYWAY not in err


def test_a_dry_run_refuses_an_output_that_cannot_be_written(run, study, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.docx").write_text("mine")
    for arguments, refused in [
        (["-o", taken], "holds files that are no embeddings: choose an empty or a new folder"),
        (["-o", tmp_path / "no" / "out"], "does not exist: create it first"),
        (["-o", tmp_path / "out.txt"], "the output ends in one of .csv, .npz, .parquet"),
        (["-o", tmp_path / "out", "--fusion", "add"], "--fusion is for files"),
        (["-o", tmp_path / "out.csv", "--workers", 3], "--workers is for a folder"),
        (["-o", study / "bad.csv"], "would replace an input"),
    ]:
        code, _, err = run("embed", study, "--window", 10, "--dry-run", *arguments)
        assert code == 1
        assert refused in err
    assert [path.name for path in taken.iterdir()] == ["thesis.docx"]


def test_a_dry_run_changes_nothing_in_a_folder_that_a_run_left(run, study, tmp_path):
    out, asked = tmp_path / "out", ("embed", study, *HERE, "--window", 10, "-o", tmp_path / "out")
    assert run(*asked)[0] == 2  # bad.csv
    (out / ".run" / "pid").write_text("7")
    (out / "embeddings" / ".shard.partial").write_bytes(b"half")  # a run on another machine may be writing it
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    assert run(*asked, "--dry-run")[0] == 2
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    with filelock.FileLock(out / ".run" / "lock"):
        code, _, err = run(*asked, "--dry-run")
        assert (code, "another run is writing to this folder (process 7)" in err) == (1, True)


def test_a_dry_run_of_a_folder_that_was_killed_as_it_was_made(run, study, tmp_path):
    (tmp_path / "out" / ".run").mkdir(parents=True)
    assert run("embed", study, *HERE, "--window", 10, "--dry-run", "-o", tmp_path / "out")[0] == 2
    assert [path.name for path in (tmp_path / "out").rglob("*")] == [".run"]


def test_a_dry_run_shows_of_a_name_no_control_characters(run, study):
    (study / "study.csv").write_text("path,subject\nS01/EDA.csv,a\x07b\nS02/EDA.csv,c\x07d\n")
    _, out, _ = run("embed", study / "study.csv", "--window", 600, "--short", "drop", "--dry-run")
    assert r"2 people; without a window: a\x07b, c\x07d" in out
