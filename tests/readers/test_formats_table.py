"""docs/formats.md has a line for every format that is read, which says how it is tested; RESULTS.md holds the same."""

from __future__ import annotations

import re

from conftest import ROOT

from tiny_biomoe.readers.formats import FORMATS

LINES = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs" / "formats.md").read_text().splitlines()
    if line.startswith("| `")
]


def test_every_format_has_a_line():
    assert {key for keys, *_ in LINES for key in re.findall(r"`(\w+)`", keys)} == set(FORMATS)


def test_every_line_rests_on_a_real_or_a_made_file():
    assert [line for line in LINES if not re.match(r"(real|made|real, made)\b", line[2])] == []


def test_every_line_says_what_is_refused():
    assert [line for line in LINES if len(line) not in (5, 6) or not all(line)] == []  # text needs no reference reader


def test_the_results_hold_the_same_lines():
    shown = []
    for keys, device, content, *rest in LINES:
        reference, difference, _ = rest if len(rest) == 3 else ("none needed", *rest)
        files = re.match(r"(real, made|real|made)\b", content)
        shown.append(f"| {keys} | {device} | {files and files[1]} | {reference} | {difference} |")
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert "\n".join(shown) in results
