"""No message names an option that its command does not have."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import numpy as np
import pytest
from conftest import ROOT

from tiny_biomoe.cli.failures import Failure, alike, lines
from tiny_biomoe.cli.lazy_commands import COMMANDS
from tiny_biomoe.cli.messages import MENTION, OPTION, fitting

PACKAGE = ROOT / "tiny_biomoe"
OF_OTHERS = {"--revision", "--cache-dir"}  # of `hf download`, which a message shows whole


def texts(path: Path) -> list[str]:
    """The texts of a module that are no docstrings and not the names of options themselves."""
    tree = ast.parse(path.read_text())
    with_docs = (ast.Module, ast.FunctionDef, ast.ClassDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, with_docs) and node.body
            and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in found if id(node) not in docs and not node.value.startswith("--")]


MESSAGES = {
    path.relative_to(PACKAGE).as_posix(): [text for text in texts(path) if OPTION.search(text)]
    for path in sorted(PACKAGE.rglob("*.py"))
}


def commands() -> dict[str, click.Command]:
    imported = {str(each.name): each.imported() for each in COMMANDS}
    groups = {name: each for name, each in imported.items() if isinstance(each, click.Group)}
    for name, group in groups.items():
        imported |= {f"{name} {key}": command for key, command in group.commands.items()}
    return imported


def options(command: click.Command) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


def test_messages_of_the_library_name_options_only_where_they_can_be_left_out():
    bare = {
        (path, mention)
        for path, found in MESSAGES.items()
        if not path.startswith("cli/")
        for text in found
        for mention in OPTION.findall(MENTION.sub("", text))
        if mention not in OF_OTHERS
    }
    assert bare == set()
    assert sum(map(len, MESSAGES.values())) > 50


def test_messages_of_a_command_name_its_own_options():
    known = commands()
    for path, found in MESSAGES.items():
        name = path.removeprefix("cli/").removesuffix(".py")
        if path.startswith("cli/") and name in known:
            own = set().union(*(options(each) for key, each in known.items() if key.split()[0] == name))
            assert {mention for text in found for mention in OPTION.findall(text)} <= own, path


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_message_is_fitted_to_its_command(name):
    command = commands()[name]
    for path, found in MESSAGES.items():
        if not path.startswith("cli/"):
            for text in found:
                assert set(OPTION.findall(fitting(text, command))) <= options(command) | OF_OTHERS, text


def test_an_error_of_a_command_names_its_own_options(run, tmp_path):
    (tmp_path / "a.csv").write_text("EDA\n" + "".join(f"{each}\n" for each in np.sin(np.arange(99.0))))
    (tmp_path / "study.csv").write_text("path,subject,label\na.csv,S1,calm\n")
    code, _, err = run("finetune", tmp_path / "study.csv", "-o", tmp_path / "out")
    assert code == 1
    assert "give it in Hz, e.g. fs=100 (--fs 100)" in err
    assert set(OPTION.findall(err)) <= options(commands()["finetune"])


def test_failures_that_are_alike_are_one_line_with_a_count_and_a_range():
    flat = [Failure("a.csv", f"{n}-{n + 10} s, is flat: all 40 samples are {n / 7}", "failed", "EDA") for n in range(9)]
    many = [Failure("b.csv", "of no known modality", "skipped", f"CH{n}") for n in range(32)]
    files = [Failure(f"s{n}.csv", f"row {n}: 'x{n}' is not a number") for n in range(7)]
    other = Failure("c.csv", "0-10 s, lies in or beside a gap longer than 1 s", "failed", "EDA")
    assert lines([*flat, *many, other, *files]) == [
        "a.csv, EDA, 9 windows, 0-18 s: is flat: all 40 samples are 0.0 (so the first; others alike)",
        "b.csv, 32 channels, CH0 to CH31: of no known modality",
        "c.csv, EDA, 0-10 s: lies in or beside a gap longer than 1 s",
        "7 files, s0.csv to s6.csv: row 0: 'x0' is not a number (so the first; others alike)",
    ]
    assert [files for _, files, _ in alike(files, by_file=True)] == [f"s{n}.csv" for n in range(7)]
    assert re.fullmatch(r"5 files, s0.csv to s4.csv: row 0.*", lines(files[:5])[0])
