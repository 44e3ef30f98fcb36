"""docs/formats.md has a line for every format that is read, and every line says how it is tested."""

from __future__ import annotations

import re

from conftest import ROOT

from tiny_biomoe.readers.formats import FORMATS

LINES = re.findall(r"^\| (`.+?) \| (.+?) \| (.+?) \|", (ROOT / "docs" / "formats.md").read_text(), re.MULTILINE)


def test_every_format_has_a_line():
    assert {key for keys, *_ in LINES for key in re.findall(r"`(\w+)`", keys)} == set(FORMATS)


def test_every_line_rests_on_a_real_or_a_made_file():
    assert [line for line in LINES if not re.match(r"(real|made|real, made)\b", line[2])] == []
