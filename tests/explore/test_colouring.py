"""Columns as classes: every window has one, however many values there are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tiny_biomoe.explore.colouring import MOST, NOTHING, classes_of


def test_text_is_sorted_by_value_and_empty_cells_have_a_class():
    found = classes_of(pa.table({"label": ["rest", None, "task", "rest"]}), "label")
    assert found.labels == ("rest", "task", "no label")
    assert found.codes.tolist() == [0, 2, 1, 0]
    assert found.colours[2] == NOTHING
    assert len(set(found.colours)) == 3


def test_many_values_leave_the_rarest_in_one_class():
    values = [f"s{number:03d}" for number in range(300) for _ in range(1 + (number < MOST))]
    found = classes_of(pa.table({"subject": values}), "subject")
    assert found.labels[-1] == "260 others"
    assert found.labels[:MOST] == tuple(f"s{number:03d}" for number in range(MOST))
    assert (found.codes == MOST).sum() == 260
    assert len(set(found.colours)) == MOST + 1


def test_quality_is_sorted_by_share():
    found = classes_of(pa.table({"flat": [0.0, 0.01, 0.010001, 0.2, 0.9]}), "flat")
    assert [found.labels[code] for code in found.codes] == [
        "none", "up to 1 %", "up to 5 %", "up to 20 %", "over 20 %",
    ]  # fmt: skip


def test_numbers_are_sorted_by_range_also_where_the_study_holds_them_as_text():
    ages = [str(age) for age in range(20, 81)]
    found = classes_of(pa.table({"age": [*ages, None]}), "age")
    assert found.labels[:2] == ("20 to 30", "30 to 40")
    assert found.labels[-1] == "no age"
    assert found.codes[[0, 9, 10, 60, 61]].tolist() == [0, 0, 1, 5, 6]
    few = classes_of(pa.table({"fs": [64.0, 4.0, 64.0]}), "fs")
    assert few.labels == ("4", "64")
    assert few.codes.dtype == np.uint8
