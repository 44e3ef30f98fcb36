"""README and docs/: every code block runs, the pages build and need no network, numbers of rows lead to their tests."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
import yaml
from conftest import ROOT

from tiny_biomoe import __version__
from tiny_biomoe.cli.main import main

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
EXAMPLES = ROOT / "examples"
EXTRAS = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
SHOWN = {"", "text", "csv", "bibtex", "toml", "yaml"}  # languages of blocks that show what is in a file


class Block(NamedTuple):
    """A fenced block of a page, with the line that it begins at."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(each[2], re.sub(f"^{each[1]}", "", each[3], flags=re.MULTILINE), text[: each.start()].count("\n") + 2)
        for each in found
    ]


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """What a reader has at hand: a recording, files of three devices, a study of five people, and its vectors."""
    folder = tmp_path_factory.mktemp("at hand")
    shutil.copy(EXAMPLES / "recordings" / "eda.csv", folder / "recording.csv")
    shutil.copytree(EXAMPLES / "devices", folder / "devices")
    subprocess.run([sys.executable, EXAMPLES / "made_up_study.py", folder / "recordings", "5"], check=True)
    rows, rated = ["path,subject,label,start,stop"], ["path,subject,rating,start,stop"]
    for person in range(1, 6):
        path = f"recordings/S{person:02d}/EDA.csv,S{person:02d}"
        rows += [f"{path},rest,0,60", f"{path},task,120,180"]
        rated += [f"{path},{person},0,60", f"{path},{person + 4},120,180"]
    (folder / "study.csv").write_text("\n".join(rows) + "\n")
    few = [row.replace(",120,180", ",120,140").replace(",0,60", ",0,20") for row in rows]
    (folder / "few.csv").write_text("\n".join(few) + "\n")  # what a whole network learns from in seconds
    (folder / "rated.csv").write_text("\n".join(rated) + "\n")
    embed = ["embed", str(folder / "study.csv"), "--window", "20", "--workers", "0", "-o", str(folder / "embeddings")]
    assert exit_code(embed) == 0
    return folder


@pytest.fixture
def at_hand(recordings, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the working folder."""
    shutil.copytree(recordings, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def signals_in_parquet(at_hand) -> None:
    """A folder signals/ with a column of signals, for Ray."""
    import pyarrow as pa
    from pyarrow import parquet

    (at_hand / "signals").mkdir()
    pulse = np.sin(np.arange(640) / 9).tolist()
    parquet.write_table(pa.table({"signal": [pulse, pulse[:500]]}), at_hand / "signals" / "part.parquet")


@pytest.fixture
def ray_cluster() -> Any:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run_shell(code: str) -> None:
    """Each line: the program's commands here and now; of others, that what they name is there."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        match words:
            case []:
                continue
            case ["tiny-biomoe", *arguments]:
                run_command(arguments, line)
            case ["pip", "install", *arguments]:
                for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
                    assert set(extra.split(",")) <= EXTRAS, line
            case ["make", *targets]:
                makefile = (ROOT / "Makefile").read_text()
                assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == [], line
            case ["python" | ".venv/bin/python", "-m", "pytest", *paths]:
                assert [path for path in paths if not path.startswith("-") and not (ROOT / path).exists()] == [], line
            case ["python", path, *_]:
                assert (ROOT / path).exists(), line
            case _:
                pytest.fail(f"no test knows how to run {line!r}")


def run_command(arguments: list[str], line: str) -> None:
    if arguments[0] == "finetune":  # the paper's 200 epochs of the whole network take hours
        study = arguments[1] if "head" in arguments else "few.csv"
        arguments = ["finetune", study, *arguments[2:], "--epochs", "1"]
    if arguments[0] == "embed" and not arguments[-1].endswith((".csv", ".npz", ".parquet")):
        arguments = [*arguments, "--workers", "0"]  # no new process for a page
    if arguments[0] == "explore" and "--method" not in arguments:
        arguments = [*arguments, "--workers", "1"]
    assert exit_code(arguments) == 0, line


def exit_code(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code


WITH_CODE = [page for page in PAGES if any(block.language not in SHOWN for block in blocks(page))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=label)
def test_the_code_of_a_page_runs(page, at_hand, request):
    if page.name == "clusters.md":
        request.getfixturevalue("ray_cluster")
        request.getfixturevalue("signals_in_parquet")
        shutil.rmtree(at_hand / "embeddings")
    names: dict[str, Any] = {"__name__": "page"}
    for language, code, line in blocks(page):
        if language == "python":
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
        elif language == "bash":
            run_shell(code)
        else:
            assert language in SHOWN, f"{label(page)}:{line}: {language}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_every_link_and_picture_is_there():
    broken = []
    for page in PAGES:
        for link in re.findall(
            r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        ):
            if not link.startswith("http") and not (page.parent / link).exists():
                broken.append(f"{label(page)}: {link}")
    assert broken == []


PATH = r"`((?:tests|examples|benchmarks|pretraining|tiny_biomoe|wheels)/[\w./]*\w)`"


def test_every_path_of_the_repository_that_is_named_is_there():
    named = {
        (label(page), path)
        for page in PAGES
        for path in re.findall(PATH, page.read_text())
        if page.name != "guarantees.md"  # paths below tests/, which the last test looks for
    }
    assert len(named) > 10
    assert sorted(each for each in named if not (ROOT / each[1]).exists()) == []


def test_the_pages_build_without_a_warning_and_open_without_a_network(tmp_path):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {path.stem for path in pages} >= {page.stem for page in DOCS.glob("*.md")}
    fetched = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\ssrc=[\"']?(?:https?:)?//|<link\b[^>]*\shref=[\"']?(?:https?:)?//"
    )
    for path in pages:
        text = path.read_text()
        assert [each for each in fetched.findall(text) if 'rel="canonical"' not in each] == [], path
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text()), sheet


# --- the files that a repository's host reads -------------------------------------------------------------------------

NAME = {"type": "string", "minLength": 1}
PERSON = {
    "anyOf": [
        {
            "type": "object",
            "properties": {key: NAME for key in ("family-names", "given-names", "affiliation", "orcid", "email")},
            "required": ["family-names"],
            "additionalProperties": False,
        },
        {"type": "object", "properties": {"name": NAME}, "required": ["name"], "additionalProperties": False},
    ]
}
PEOPLE = {"type": "array", "minItems": 1, "items": PERSON}
KEYS = ("abstract", "commit", "license", "message", "title", "version")
CITATION = {  # what the Citation File Format 1.2.0 asks for, of the keys that we use
    "type": "object",
    "properties": {
        **{key: NAME for key in KEYS},
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "authors": PEOPLE,
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": NAME},
        "preferred-citation": {
            "type": "object",
            "properties": {
                "type": {"enum": ["article", "conference-paper", "generic", "report", "unpublished"]},
                "authors": PEOPLE,
                "title": NAME,
                "year": {"type": "integer"},
                "doi": {"type": "string", "pattern": r"^10\.\d{4,9}/\S+$"},
            },
            "required": ["type", "authors", "title"],
            "additionalProperties": False,
        },
    },
    "required": ["authors", "cff-version", "message", "title"],
    "additionalProperties": False,
}


def test_the_citation_is_valid_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.validate(citation, CITATION)
    assert str(citation["version"]) == __version__
    assert citation["preferred-citation"]["title"] in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["fault", "device"])
def test_the_forms_ask_for_selfcheck_and_a_dry_run(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    assert {field["type"] for field in form["body"]} <= {"textarea", "input", "dropdown", "checkboxes", "markdown"}
    labels = {field["id"]: field["attributes"]["label"] for field in form["body"]}
    assert "`tiny-biomoe selfcheck`" in labels["selfcheck"]
    assert "dry run" in labels["dry-run"] or "--dry-run" in labels["dry-run"]


# --- the table of bad inputs and faults ------------------------------------------------------------------------------


def rows_of_tests() -> dict[int, set[str]]:
    """Row number -> the test files that carry it in a test's name or in their first lines."""
    carried: dict[int, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text, numbers = path.read_text(), set[int]()
        for name in re.findall(r"def test_\w*?row_((?:\d+_)+(?:and_\d+_)?)", text):
            numbers |= {int(number) for number in re.findall(r"\d+", name)}
        for span in re.findall(r"\brows? ((?:\d+(?:(?:-| to )\d+)?(?:, | and )?)+)", text.split('"""')[1]):
            for first, last in re.findall(r"(\d+)(?:(?:-| to )(\d+))?", span):
                numbers |= set(range(int(first), int(last or first) + 1))
        for number in numbers:
            carried.setdefault(number, set()).add(path.relative_to(ROOT / "tests").as_posix())
    return carried


def test_rows_of_the_table_of_faults_lead_to_tests_that_carry_them():
    lines = re.findall(r"^\| (\d+) \| .+ \| .+ \| (.*) \|$", (DOCS / "guarantees.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    shown = {int(number): set(re.findall(r"`([^`]+)`", files)) for number, files in lines}
    carried = rows_of_tests()
    assert set(carried) <= set(shown)
    assert {
        number: files - carried.get(number, set())
        for number, files in shown.items()
        if files - carried.get(number, set())
    } == {}
    assert [number for number in carried if not shown[number]] == []  # a row that has a test names one
