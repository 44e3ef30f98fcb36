"""The command line, as a person meets it: through `main`, with exit codes and messages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import tiny_biomoe
from tiny_biomoe.cli.lazy_commands import LazyCommand
from tiny_biomoe.cli.main import cli, main
from tiny_biomoe.embedding import Embedder
from tiny_biomoe.readers.read import read

RECORDINGS = Path(__file__).parents[2] / "examples" / "recordings"


def test_a_folder_of_recordings_to_parquet(run, tmp_path):
    code, out, _ = run("embed", RECORDINGS, "--window", 10, "-o", tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert "5 embedded" in out
    assert set(table["modality"].to_pylist()) == {"bvp", "ecg", "eda", "resp", "spo2"}
    assert code == 0
    provenance = json.loads(table.schema.metadata[b"tiny_biomoe"])
    assert provenance["eda 25 Hz"]["filter"]["high"] == 5.0
    (recording,) = read(RECORDINGS / "ecg.csv")
    expected = Embedder.from_pretrained().embed(recording.signal, recording.fs, "ecg", window=10)
    mine = [row for row in table.to_pylist() if row["modality"] == "ecg"]
    assert np.array([row["embedding"] for row in mine], np.float32).tobytes() == expected.tobytes()
    assert [(row["start"], row["stop"]) for row in mine] == [(0, 10), (10, 20)]


def test_one_file_whole_to_csv_and_npz(run, tmp_path):
    assert run("embed", RECORDINGS / "eda.csv", "-o", tmp_path / "out.csv")[0] == 0
    assert (
        run(
            "embed",
            RECORDINGS / "eda.csv",
            "--representation",
            "psd",
            "--representation",
            "waveform",
            "-o",
            tmp_path / "out.npz",
        )[0]
        == 0
    )
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
    with np.load(tmp_path / "out.npz") as found:
        assert found["embedding"].shape == (1, 384)


def test_a_bad_file_among_good_ones_is_reported_and_the_rest_embedded(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.csv").write_bytes((RECORDINGS / "eda.csv").read_bytes())
    (tmp_path / "in" / "bad.csv").write_text("1\n2\nthree\n")
    code, out, err = run("embed", tmp_path / "in", "-o", tmp_path / "out.npz")
    assert code == 2
    assert "2 inputs = 1 embedded + 1 failed + 0 skipped" in out
    assert "bad.csv" in err


@pytest.mark.parametrize("output", ["in/good.csv", "in/linked.csv", "in/other"])
def test_no_recording_is_replaced_by_vectors(run, tmp_path, output):
    (tmp_path / "in").mkdir()
    good, out = tmp_path / "in" / "good.csv", tmp_path / output
    good.write_bytes((RECORDINGS / "eda.csv").read_bytes())
    if output == "in/linked.csv":
        out.hardlink_to(good)
    if output == "in/other":  # an output whose provenance would lie where a recording does
        out, source = tmp_path / "in" / "o.csv", tmp_path / "in" / "o.csv.json"
        good.rename(source)
    else:
        source = good
    for given in (source, tmp_path / "in")[: 1 if output == "in/other" else 2]:
        code, _, err = run("embed", given, "-o", out)
        assert code == 1
        assert "would replace an input" in err
    assert source.read_bytes() == (RECORDINGS / "eda.csv").read_bytes()


def test_what_a_run_wrote_is_no_recording_of_the_next_one(run, tmp_path):
    (tmp_path / "good.csv").write_bytes((RECORDINGS / "eda.csv").read_bytes())
    assert run("embed", tmp_path, "-o", tmp_path / "vectors.csv")[0] == 0
    code, out, err = run("embed", tmp_path, "-o", tmp_path / "again.npz", "--modality", "eda")
    assert code == 2
    assert "vectors.csv: the file holds embeddings that this library wrote" in err
    assert "vectors.csv.json: notes of vectors.csv" in err
    assert "3 inputs = 1 embedded + 1 failed + 1 skipped" in out


def test_columns_are_repeated_and_modalities_are_not(run, tmp_path):
    t = np.arange(400) / 10
    rows = "\n".join(f"{x:.4f},{25 + x:.4f},{3 - x:.4f}" for x in np.sin(t))
    (tmp_path / "three.csv").write_text(f"EDA,RESP,BVP\n{rows}\n")
    read = "embed", tmp_path / "three.csv", "--fs", 10, "-o", tmp_path / "out.npz"
    assert run(*read, "--column", "EDA", "--column", "1")[0] == 0
    with np.load(tmp_path / "out.npz") as found:
        assert found["channel"].tolist() == ["EDA", "RESP"]
    code, _, err = run(*read, "--modality", "eda", "--modality", "resp")
    assert code == 1
    assert "'--modality': given 2 times" in err


def test_python_runs_the_package_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "tiny_biomoe", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("tiny-biomoe, version")


def test_channels_of_no_known_modality_are_named_and_the_others_embedded(run, tmp_path):
    t = np.arange(400) / 10
    rows = "\n".join(f"{x:.4f},{25 + x:.4f}" for x in np.sin(t))
    (tmp_path / "both.csv").write_text(f"EDA,TEMP\n{rows}\n")
    code, out, err = run("embed", tmp_path / "both.csv", "--fs", 10, "-o", tmp_path / "out.csv")
    assert code == 0
    assert "TEMP: measures temperature" in err
    assert "1 vector of 192" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "{in}/plain.csv", "-o", "{in}/o.csv"], "--fs"),
        (["embed", "{in}/plain.csv", "--fs", "100", "-o", "{in}/o.csv"], "--modality"),
        (["embed", "{in}/plain.csv", "--fs", "100", "--modality", "edaa", "-o", "{in}/o.csv"], "did you mean 'eda'"),
        (["embed", "{in}/plain.csv", "--fs", "-1", "--modality", "eda", "-o", "{in}/o.csv"], "-1"),
        (["embed", "{in}/plain.csv", "--fs", "100", "--modality", "eda", "-o", "{in}/o.txt"], "ends in one of"),
        (
            ["embed", "{in}/plain.csv", "--fs", "100", "--modality", "eda", "--scale", "5", "-o", "{in}/o.csv"],
            "LOW,HIGH",
        ),
        (
            ["embed", "{in}/plain.csv", "--fs", "100", "--modality", "eda", "--window", "0", "-o", "{in}/o.csv"],
            "window=0",
        ),
        (["embed", "{in}/plain.csv", "--stride", "5", "-o", "{in}/o.csv"], "--stride needs --window"),
        (["show", "{in}/plain.csv", "-o", "{in}/o.abc"], "ends in one of .png"),
        (["embed", "{in}/none.csv", "-o", "{in}/o.csv"], "does not exist"),
        (["embed", "{in}/empty", "-o", "{in}/o.csv"], "holds no files"),
        (["weights", "info", "{in}/empty"], "neither model.safetensors nor"),
    ],
)
def test_errors_are_one_line_and_exit_1(run, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.csv").write_text("\n".join(map(str, np.sin(np.arange(2000) / 30))))
    code, _, err = run(*(argument.replace("{in}", str(tmp_path)) for argument in arguments))
    assert code == 1
    assert message in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="neither model.safetensors nor"):
        main(["--debug", "weights", "info", str(tmp_path)])


def test_show_fills_what_is_missing_where_it_is_asked_to(run, tmp_path):
    rows = [f"{i / 4:.2f},{i % 9}" for i in range(200)]
    rows[50:52] = [f"{50 / 4:.2f},"]
    (tmp_path / "a.csv").write_text("time [s],EDA\n" + "\n".join(rows) + "\n")
    show = ["show", tmp_path / "a.csv", "--on-hole", "nan", "-o", tmp_path / "a.png"]
    code, _, err = run(*show)
    assert (code, "2 missing samples" in err, "--nan-policy interpolate" in err) == (1, True, True)
    assert run(*show, "--nan-policy", "interpolate")[0] == 0
    assert (tmp_path / "a.png").is_file()


def test_show_of_a_recording_that_was_split_at_its_hole(run, tmp_path):
    seconds = [each / 4 + 60 * (each > 100) for each in range(200)]
    (tmp_path / "a.csv").write_text("time,EDA\n" + "".join(f"{at},{at % 7.3}\n" for at in seconds))
    code, _, err = run("show", tmp_path / "a.csv", "--on-hole", "split", "-o", tmp_path / "a.png")
    assert code
    assert "was split at its holes, into 2 runs: draw a file that holds one" in err


def test_show_draws_a_sheet(run, tmp_path):
    code, out, _ = run("show", RECORDINGS / "ecg.csv", "-o", tmp_path / "sheet.png")
    assert code == 0
    assert "six images" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(set(sheet.convert("L").tobytes())) > 100


def test_weights_info_and_verify_tell_the_same_hash(run):
    info = json.loads(run("weights", "info")[1])
    assert info["parameters"] == 7_337_278
    assert info["sha256"] in run("weights", "verify")[1]
    assert info["recipe"]["version"] == "1"


def test_selfcheck_says_that_this_machine_is_good(run):
    code, out, _ = run("selfcheck")
    assert code == 0
    assert "this machine is good" in out
    assert f"computed by: {Embedder.from_pretrained().backend.program}" in out
    assert "computed by: PyTorch" in run("selfcheck", "--backend", "torch")[1]


def test_what_errors_advise_exists():
    package = Path(tiny_biomoe.__file__).parent
    advised = {
        word for path in package.rglob("*.py") for word in re.findall(r"(?<![\w-])--[a-z]+[a-z-]*", path.read_text())
    }
    known = {option for command in _commands(cli) for parameter in command.params for option in parameter.opts}
    known |= {
        option for command in _commands(cli) for parameter in command.params for option in parameter.secondary_opts
    }
    of_other_tools = {"--revision", "--cache-dir", "--x", "--y", "--neighbors"}  # hf and embedding-atlas
    assert advised - known == of_other_tools | {"--help"}


def _commands(group):
    group = group.imported() if isinstance(group, LazyCommand) else group
    yield group
    for command in getattr(group, "commands", {}).values():
        yield from _commands(command)


def test_row_104_terminal_escapes_are_escaped(run, tmp_path):
    (tmp_path / "a\x1b[31m.csv").write_text("x")
    _, _, err = run("embed", tmp_path, "--fs", 10, "--modality", "eda", "-o", tmp_path / "out.csv")
    assert "\x1b" not in err


def test_the_command_line_starts_without_torch():
    program = "import sys, tiny_biomoe.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
