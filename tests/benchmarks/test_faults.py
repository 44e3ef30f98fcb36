"""The list of guards that the bench of faults takes out one by one: each stands where it says, and so does its test."""

from __future__ import annotations

import pytest
from conftest import ROOT

from benchmarks.faults import GUARDS


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_stands_once_and_its_test_is_there(name):
    file, text, without, test = GUARDS[name]
    assert (ROOT / "tiny_biomoe" / file).read_text().count(text) == 1
    assert without != text
    path, function = test.split("::")
    assert f"def {function.partition('[')[0]}(" in (ROOT / "tests" / path).read_text()
