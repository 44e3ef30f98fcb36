"""Delimited text: what is read, what is refused and how the message helps (rows 35-52)."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tiny_biomoe.errors import ConfigError, SignalError, SignalWarning, TinyBioMoEError
from tiny_biomoe.readers import channel as channels
from tiny_biomoe.readers import csv_files, text_files
from tiny_biomoe.readers.channel import Options
from tiny_biomoe.readers.columns import NoSignal
from tiny_biomoe.readers.csv_files import open_table
from tiny_biomoe.readers.read import Recording, read
from tiny_biomoe.signals.validation import fill_gaps

NAN = np.nan


@pytest.fixture
def file(tmp_path: Path):
    """Write a file and say where it is."""

    def write(content: str | bytes, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def values(recordings: list[Recording]) -> dict[str, list[float]]:
    return {recording.channel: recording.signal.tolist() for recording in recordings}


# --- What is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5\n2\n-3e1\n", {"0": [1.5, 2, -30]}),
        ("ECG\n1.5\n2\n", {"ECG": [1.5, 2]}),
        ("a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("a;b\n1.5;2\n3;4\n", {"a": [1.5, 3], "b": [2, 4]}),
        ("a\tb\n1\t2\n3\t4\n", {"a": [1, 3], "b": [2, 4]}),
        ("a b\n1  2\n 3 4\n", {"a": [1, 3], "b": [2, 4]}),
        ("1,-2\n3,4\n", {"0": [1, 3], "1": [-2, 4]}),
        (" 1 \n 2\n", {"0": [1, 2]}),
        ("1\r\n2\r\n", {"0": [1, 2]}),
        ("1\r2\r3", {"0": [1, 2, 3]}),
        ("1\n2\n\n  \n\n", {"0": [1, 2]}),
        ('"a","b"\n"1.5",""\n2,3\n', {"a": [1.5, 2], "b": [NAN, 3]}),
        ("# made by hand\n% twice\n\na,b\n1,2\n", {"a": [1], "b": [2]}),
        ("# a,b\n1.5,2\n", {"a": [1.5], "b": [2]}),
        ("1;2;\n3;4;\n", {"0": [1, 3], "1": [2, 4]}),
        (",a,b\n0,1,2\n1,3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("12_LOW_1,12_HIGH_1\n1,2\n3,4\n", {"12_LOW_1": [1, 3], "12_HIGH_1": [2, 4]}),
    ],
    ids=[
        *(
            "one column",
            "header",
            "comma",
            "semicolon",
            "tab",
            "blanks",
            "no header",
            "blanks around",
            "Windows",
            "Mac",
        ),
        *(
            "blank end",
            "quotes",
            "comments",
            "numpy.savetxt",
            "trailing delimiter",
            "nameless index",
            "digits in names",
        ),
    ],
)
def test_layouts_told_by_the_content(file, text, expected):
    np.testing.assert_equal(values(read(file(text), fs=100)), expected)


def test_columns_that_end_early_are_padded_with_empty_cells(file):
    path = file("7_LOW_1,7_HIGH_1,7_REST_1\n1,4,7\n2,,8\n3,,\n,,\n")
    assert values(read(path, fs=100)) == {"7_LOW_1": [1, 2, 3], "7_HIGH_1": [4], "7_REST_1": [7, 8]}
    inside = values(read(file("a,b\n1,\n,2\n3,NA\n"), fs=100))
    np.testing.assert_equal(inside, {"a": [1, NAN, 3], "b": [NAN, 2, NAN]})  # NA is missing, not padding


def test_row_113_a_column_without_a_single_sample(file):
    with pytest.raises(SignalError, match=r"a\.csv: column 'b' holds no samples"):
        read(file("a,b\n1,\n2,\n"), fs=100, column="b")
    found = read(file("a,b\n1,\n2,\n"), fs=100)
    assert values(found) == {"a": [1, 2]}
    assert [(each.channel, each.reason, each.failed) for each in found.left_out] == [("b", "empty", False)]
    with pytest.warns(SignalWarning, match="column 'ECG' is not read: column 'ECG' holds no samples"):
        found = read(file("a,ECG\n1,\n2,\n"), fs=100)
    assert [each.failed for each in found.left_out] == [True]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("EDA", ["EDA"]),
        (" EDA ", ["EDA"]),
        (1, ["EDA"]),
        ("1", ["EDA"]),
        (np.int64(1), ["EDA"]),
        ([2, "ECG"], ["note", "ECG"]),
    ],
    ids=repr,
)
def test_a_column_by_stripped_name_or_number(file, column, expected):
    path = file("ECG, EDA ,note\n1,2,3\n")
    assert [recording.channel for recording in read(path, fs=100, column=column)] == expected


def test_other_columns_may_hold_anything(file):
    assert values(read(file("ECG,note\n1,rest\n2,stress\n"), fs=100, column="ECG")) == {"ECG": [1, 2]}


@pytest.mark.parametrize(("header", "expected"), [(True, {"1": [2], "x": [3]}), (False, None)])
def test_a_header_that_the_caller_decides_on(file, header, expected):
    path = file("1,x\n2,3\n")
    if expected is None:
        with pytest.raises(SignalError, match="column '1', row 1: 'x' is not a number"):
            read(path, fs=100, header=header, column=1)
    else:
        assert values(read(path, fs=100, header=header)) == expected


@pytest.mark.parametrize("text", ["1,x\n2,3\n", "0,1,2\n5,6,7\n", ",0,1,2\n0,5,6,7\n", "\u22125\n3\n4\n", "0x10\n3\n"])
def test_a_row_that_may_be_a_header_is_never_guessed(file, text):
    with pytest.raises(SignalError, match=r"row 1 may be a header or samples \('.*'\): say which, header=True or"):
        read(file(text), fs=100)


def test_every_number_is_what_python_reads(file, rng):
    numbers = [
        *rng.standard_normal(500) * 10.0 ** rng.integers(-300, 300, 500),
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
    ]
    (recording,) = read(file("\n".join(map(repr, map(float, numbers)))), fs=100)
    assert recording.signal.tobytes() == np.array(numbers).tobytes()


SPELLINGS = [
    "1",
    "+1",
    "-1",
    "1.",
    ".5",
    "1e3",
    "1E+3",
    "1e-400",
    "1e400",
    "inf",
    "-INF",
    "Infinity",
    "nan",
    "-nan",
    "+NaN",
]


@pytest.mark.parametrize("cell", [*SPELLINGS, *csv_files.MISSING])
def test_the_slow_way_reads_as_the_quick_way(file, cell):
    """A blank in front of NA makes the typed parser give up, and the cells are read one by one."""
    quick = read(file(f"0,a\n{cell or '0'},b\n"), fs=100, column=0, header=False)
    slow = read(file(f"0,a\n{cell or '0'},b\n NA,c\n0,d\n"), fs=100, column=0, header=False)
    np.testing.assert_equal(slow[0].signal[:2], quick[0].signal if quick[0].signal.size > 1 else [0, NAN])


@example(b"movesense")  # a format by its first word, and nothing of it
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text('0123456789-+.,;\t \n"#eENA:x\r\0é', max_size=60) | st.binary(max_size=60))
def test_any_content_is_read_or_refused(file, content):
    try:
        found = read(file(content), fs=100)
    except TinyBioMoEError:
        return
    assert len(found) > 0
    for recording in found:
        assert (recording.signal.dtype, recording.signal.ndim, recording.fs) == (np.float64, 1, 100)
        assert recording.signal.size > 0


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1,5;2\n2,5;3\n", {"a": [1.5, 2.5], "b": [2, 3]}),
        ("a\tb\n1,5\t2\n", {"a": [1.5], "b": [2]}),
        ("1,5 2,5\n3,5 4\n", {"0": [1.5, 3.5], "1": [2.5, 4]}),
        ("EDA\n1,5\n2,5\n", {"EDA": [1.5, 2.5]}),
        ("left,EDA\n1,5\n2,6\n", {"left": [1, 2], "EDA": [5, 6]}),
        ("0.5,3\n1,4\n", {"0": [0.5, 1], "1": [3, 4]}),
    ],
)
def test_row_35_decimal_commas_are_recognised(file, text, expected):
    assert values(read(file(text), fs=1)) == expected


def test_row_35_a_doubtful_comma_is_refused_and_decided_by_the_caller(file):
    path = file("1,5\n2,75\n")
    with pytest.raises(
        SignalError, match=r"a\.csv: '2,75' may be two whole numbers or one with a decimal comma: say which"
    ):
        read(path, fs=100)
    assert values(read(path, fs=100, decimal=",")) == {"0": [1.5, 2.75]}
    assert values(read(path, fs=100, delimiter=",")) == values(read(path, fs=100, decimal="."))
    assert values(read(path, fs=100, delimiter="comma")) == {"0": [1, 2], "1": [5, 75]}


def test_row_35_a_decimal_mark_that_shows_late_is_named(file):
    late = "a;b\n" + "1;2\n" * 30 + "1,5;2\n"
    with pytest.raises(SignalError, match=r"column 'a', row 32: '1,5' is not a number: .* pass decimal=\",\""):
        read(file(late), fs=100, column="a")
    with pytest.raises(SignalError, match=r"column 'a', row 2: '1\.5' is not a number: .* pass decimal=\"\.\""):
        read(file("a;b\n1.5;2\n"), fs=100, decimal=",", column=0)


@pytest.mark.parametrize(
    "options", [{"delimiter": ",", "decimal": ","}, {"delimiter": ";;"}, {"decimal": "'"}, {"delimiter": ""}]
)
def test_row_35_marks_that_no_file_can_have(file, options):
    with pytest.raises(ConfigError, match="the decimal mark is '.' or ',', the delimiter one other character"):
        read(file("1\n"), fs=100, **options)


def test_row_36_a_byte_order_mark_is_no_part_of_the_first_name(file):
    assert values(read(file("\ufeffECG,b\n1,2\n"), fs=100)) == {"ECG": [1], "b": [2]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_row_37_another_encoding_is_named_by_the_caller(file, encoding):
    path = file("µS,b\n1,2\n".encode(encoding))
    with pytest.raises(
        SignalError, match=r"a\.csv: .*(--encoding utf-16|row 1: byte 0xb5 is not utf-8 .*--encoding latin-1)"
    ):
        read(path, fs=100)
    assert values(read(path, fs=100, encoding=encoding)) == {"µS": [1], "b": [2]}


@pytest.mark.parametrize("encoding", ["utf-99", "hex"])
def test_row_37_an_unknown_encoding(file, encoding):
    with pytest.raises(ConfigError, match=f"unknown encoding '{encoding}': pass e.g. utf-8"):
        read(file("é\n1\n"), fs=100, encoding=encoding)


def test_row_38_a_name_that_two_columns_bear(file):
    with pytest.raises(SignalError, match=r"several columns are called 'a': choose one by its number"):
        read(file("a,a,b\n1,2,3\n"), fs=100, column="a")
    with pytest.warns(SignalWarning, match=r"column 'a' is not read: several .* 'a': choose one by .*and 1 more"):
        found = read(file("a,a,b\n1,2,3\n"), fs=100)
    assert values(found) == {"b": [3]}
    assert [(each.channel, each.failed) for each in found.left_out] == [("a", True), ("a", True)]
    assert values(read(file("a,a,b\n1,2,3\n"), fs=100, column=[0, 1])) == {"a #0": [1], "a #1": [2]}
    assert values(read(file("a,a,b\n1,2,3\n"), fs=100, column="a #1")) == {"a #1": [2]}
    assert values(read(file("a,a,b\n1,2,3\n"), fs=100, column=["a #1", "a #0"])) == {"a #1": [2], "a #0": [1]}
    assert values(read(file("a,a,b\n1,2,3\n"), fs=100, column=[1, 0])) == {"a #1": [2], "a #0": [1]}


def test_row_38_the_number_decides(file):
    assert values(read(file("a,a,b\n1,2,3\n"), fs=100, column=1)) == {"a": [2]}


@pytest.mark.parametrize("column", ["EDA", 2, -1, 1.5])
def test_row_39_a_missing_column_lists_those_there_are(file, column):
    with pytest.raises(
        SignalError, match=r"a\.csv: there is no column .*: choose by name or number .* of 'ECG', 'RSP'"
    ):
        read(file("ECG,RSP\n1,2\n"), fs=100, column=column)


def test_row_40_text_among_numbers(file):
    with pytest.raises(
        SignalError, match=r"a\.csv: column 'b', row 4: 'lost' is not a number: mend the cell, or choose"
    ):
        read(file("# note\na,b\n1,2\n3,lost\n"), fs=100, column="b")


def test_row_113_a_column_with_words_is_one_failure(file):
    with pytest.warns(SignalWarning, match=r"a\.csv: column 'b' is not read: row 4: 'lost' is not a number"):
        found = read(file("# note\na,b\n1,2\n3,lost\n"), fs=100)
    assert values(found) == {"a": [1, 3]}
    assert [(each.channel, each.failed) for each in found.left_out] == [("b", True)]


@pytest.mark.parametrize("blank", ["", "   "])
def test_row_41_a_blank_line_inside(file, blank):
    with pytest.raises(SignalError, match=r"a\.csv: row 3 is blank: write NaN if a sample is missing there"):
        read(file(f"a\n1\n{blank}\n2\n"), fs=100)


@pytest.mark.parametrize("cell", ["NA", "null", "", "nan", " NA", " ", '""'])
def test_row_42_missing_cells_are_nan_and_counted_by_row_1(file, cell):
    (recording,) = read(file(f"a,b\n1,5\n{cell},5\n{cell},5\n2,5\n"), fs=100, column="a")
    np.testing.assert_equal(recording.signal, [1, NAN, NAN, 2])
    with pytest.raises(SignalError, match=r"2 missing samples \(NaN\), the first at index 1"):
        fill_gaps(recording.signal, recording.fs, "error", 1.0)


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e400"])
def test_row_43_infinite_cells_reach_row_2(file, cell):
    (recording,) = read(file(f"a\n1\n{cell}\n"), fs=100)
    with pytest.raises(SignalError, match="1 infinite samples, the first at index 1"):
        fill_gaps(recording.signal, recording.fs, "error", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a\n1\n"1,234.5"\n', r"column 'a', row 3: '1,234\.5' is not a number: write numbers without thousands"),
        ('a,b\n1,2\n"1,234.5",3\n', r"column 'a', row 3: '1,234\.5' is not a number: write numbers without thousands"),
        ("a;b\n1;2\n1.234,5;3\n", "hold both ',' and '.': write numbers without thousands separators"),
        ("a;b\n1;2\n1'234;3\n", "is not a number: write numbers without thousands separators"),
        ("a\n1\n0x1F\n", "row 3: '0x1F' is not a number: write decimal numbers, not hexadecimal"),
        ("a\n1\n\u22125\n", "row 3: '\u22125' is not a number: write the minus sign as '-'"),
        ("a\n1\n1_000\n", "row 3: '1_000' is not a number: mend the cell"),
        ("a\n1\n\u0661\n", "row 3: '\u0661' is not a number: mend the cell"),
        ("a\n1\nTrue\n", "row 3: 'True' is not a number: mend the cell"),
    ],
)
def test_row_44_numbers_that_are_none(file, text, message):
    with pytest.raises(SignalError, match=message):
        read(file(text), fs=100, column=0)


@pytest.mark.parametrize(("text", "count"), [("a,b\n1,2\n3\n4,5\n", 1), ("a,b\n1,2\n3,4,5\n", 3)])
def test_row_45_ragged_rows(file, text, count):
    with pytest.raises(SignalError, match=rf"a\.csv: row 3 has {count} cells, the first row has 2: mend the row"):
        read(file(text), fs=100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no samples: it is empty"),
        (" \n\t\n", "holds no samples: it is empty"),
        ("# only\n# comments\n", "holds no samples: it is empty, or has comments only"),
        ("\ufeff", "holds no samples: it is empty"),
        ("a,b\n", "holds no samples: row 1 is a header and nothing follows it"),
    ],
)
def test_row_47_nothing_to_read(file, text, message):
    with pytest.raises(SignalError, match=rf"a\.csv: the file {message}"):
        read(file(text), fs=100)


def test_row_48_a_nul_byte(file):
    with pytest.raises(SignalError, match=r"a\.csv: row 3 holds a NUL byte: the file is damaged, or not text"):
        read(file(b"a\n1\n2\x00\n"), fs=100)


@pytest.mark.parametrize("text", ['a\n1\n"2\n3\n', 'a,b\n1,2\n3,"4\n5",6\n', 'a\n1\n2"\n'])
def test_row_48_an_unclosed_quote(file, text):
    with pytest.raises(SignalError, match=r"a\.csv: row 3 has a quote that is not closed: mend the row"):
        read(file(text), fs=100)


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
def test_row_49_every_sample_is_counted(file, ending):
    (recording,) = read(file("a\n" + "\n".join(f"{i % 7}" for i in range(1234)) + ending), fs=100)
    assert recording.signal.tolist() == [i % 7 for i in range(1234)]


@pytest.mark.parametrize("start", ["", "1,2\n", "# "])
def test_row_50_an_endless_line_gives_a_short_error(file, start):
    path = file(start + "1," * text_files.MAX_LINE)
    row = 2 if start.startswith("1") else 1
    with pytest.raises(
        SignalError, match=rf"a\.csv: row {row} is longer than 1048576 bytes: .* is it transposed"
    ) as caught:
        read(path, fs=100)
    assert len(str(caught.value)) < 300


def test_row_50_a_line_within_the_bound_is_read(file):
    table = open_table(file("1.5," * 19_999 + "2\n" + "3.5," * 19_999 + "4\n"), Options(header=False))
    assert [column.tolist() for column in table.columns([0, 19_999])] == [[1.5, 3.5], [2, 4]]


def test_row_51_text_may_be_compressed(file):
    assert values(read(file(gzip.compress(b"a,b\n1,2\n"), "a.csv.gz"), fs=100)) == {"a": [1], "b": [2]}


def test_row_51_a_gzip_bomb_unpacks_no_further_than_the_cap(file, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_BYTES", 10_000)
    bomb = file(gzip.compress(b"1\n" * 1_000_000), "a.csv.gz")
    with pytest.raises(SignalError, match=r"a\.csv\.gz: the file holds more than 10000 bytes of text: split it"):
        read(bomb, fs=100)
    assert len(text_files.read_unpacked(bomb, 10)) == 10


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-12], lambda data: data[:20] + b"xx" + data[22:], lambda data: data[:5]]
)
def test_row_51_damaged_gzip_data(file, spoil, rng):
    packed = gzip.compress("\n".join(map(str, rng.standard_normal(1000))).encode())
    with pytest.raises(SignalError, match="the gzip data is damaged or cut short"):
        read(file(spoil(packed), "a.csv.gz"), fs=100)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html>\n<body>1</body>\n</html>\n",
        b'{"ecg": [1, 2, 3]}\n',
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0xl/workbook.xml",
        b"The quick brown fox\njumps over\n",
    ],
    ids=["html", "json", "pdf", "png", "xlsx", "prose"],
)
def test_row_52_what_is_no_table(file, content):
    with pytest.raises(
        SignalError,
        match=r"a\.csv: .*(not a number|NUL byte|not utf-8|cells|header|Excel|JSON|neither text)",
    ):
        read(file(content), fs=100)


def test_a_file_beyond_the_cap_is_not_parsed(file, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_BYTES", 10)
    with pytest.raises(SignalError, match="more than 10 bytes of text: split it, or convert it to Parquet"):
        read(file("1\n" * 6), fs=100)
    assert channels.MAX_BYTES == 1 << 30


# --- Times written as dates ------------------------------------------------------------------------------------------


def dated(n: int, zone: str, between: str = "T") -> str:
    """Four samples a second from 10:00 on."""
    times = (np.datetime64("2024-01-01T10:00:00.000", "ms") + 250 * np.arange(n)).astype(str)
    return "time,EDA\n" + "".join(f"{time.replace('T', between)}{zone},{1 + i % 7}\n" for i, time in enumerate(times))


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("", 1_704_103_200.0),
        ("Z", 1_704_103_200.0),
        ("+02:00", 1_704_096_000.0),
        ("-0130", 1_704_108_600.0),
        ("+02", 1_704_096_000.0),
    ],
)
@pytest.mark.parametrize("between", ["T", " "])
def test_dates_are_times(file, zone, start, between):
    (recording,) = read(file(dated(80, zone, between)))
    assert (recording.fs, recording.start, recording.channel) == (4.0, start, "EDA")
    assert recording.signal.tolist() == [1 + i % 7 for i in range(80)]


def test_a_hole_between_dates_splits_the_recording(file):
    rows = dated(200, "Z").splitlines()
    first, second = read(file("\n".join(rows[:81] + rows[121:])), on_hole="split")
    assert (len(first.signal), len(second.signal), second.start - first.start) == (80, 80, 30.0)


@pytest.mark.parametrize("broken", ["2024-01-01T10:0x:05.000Z", "soon", "", "2024-01-01T10:00:05.000"])
def test_a_cell_that_is_no_date_is_named_with_its_row(file, broken):
    content = dated(80, "Z").replace("2024-01-01T10:00:05.000Z", broken)
    with pytest.raises(SignalError, match=r'column .*time.*, row 22: .* is not a time like .*; .*time_column=""'):
        read(file(content))


def test_dates_can_be_left_aside(file):
    (recording,) = read(file(dated(80, "Z")), fs=4.0, column="EDA", time_column="")
    assert (recording.fs, len(recording.signal)) == (4.0, 80)


def test_empty_rows_behind_dates_are_left_out_as_behind_numbers(file):
    (recording,) = read(file(dated(80, "Z") + ",\n" * 4))
    assert (recording.fs, len(recording.signal)) == (4.0, 80)


def test_row_107_a_column_of_dates_is_the_clock_whatever_its_name(file):
    content = dated(80, "Z")
    (recording,) = read(file(content.replace("time", "datetime")))
    assert recording.channel == "EDA"
    for name in (None, "recorded at"):
        (recording,) = read(file(content.replace("time", "recorded at")), time_column=name)
        assert (recording.fs, recording.channel) == (4.0, "EDA")


@pytest.mark.parametrize("mark", [b"sep=;\r\n", b'"sep=;"\n', b"\xef\xbb\xbfsep=;\n"])
def test_what_excel_writes_above_a_table_is_no_row(file, mark):
    assert values(read(file(mark + b"EDA;RESP\n1,5;2\n3;4\n"), fs=4)) == {"EDA": [1.5, 3], "RESP": [2, 4]}
    assert values(read(file(mark + b"1,5;2\n3,5;4\n"), fs=4)) == {"0": [1.5, 3.5], "1": [2, 4]}
    with pytest.raises(SignalError, match="row 3"):
        read(file(mark + b"EDA\nx\n"), fs=4)


def test_times_without_a_name_are_no_signal(file):
    rows = [f"{i / 4},{i % 3}" for i in range(9)]
    with pytest.raises(SignalError, match=r'column 0 rises with every row.* time_column="0 \[s\]"'):
        read(file("\n".join(rows)), fs=4)
    (found,) = read(file("\n".join(rows)), time_column="0 [s]")
    assert (found.fs, found.channel, found.signal[:4].tolist()) == (4.0, "1", [0, 1, 2, 0])
    assert list(values(read(file("\n".join(rows)), fs=4, column=[0, 1]))) == ["0", "1"]
    assert list(values(read(file("\n".join(rows[:7])), fs=4))) == ["0", "1"]  # too few to tell
    assert list(values(read(file("\n".join([*rows, rows[-1]])), fs=4))) == ["0", "1"]
    with pytest.raises(SignalError, match="'0' is not read: a clock or counter: it advances steadily"):
        read(file("\n".join(f"{i}" for i in range(99))), fs=4)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"Zeit,EDA\n01.03.2024 10:00:00.000,1\n", "a date like 2024-01-31T10:00:00.250"),
        (b"Zeit,EDA\n03/01/2024 10:00,1\n", "a date like 2024-01-31T10:00:00.250"),
        (b"t,EDA\n10:00:00.250,1\n", "a date like 2024-01-31T10:00:00.250"),
        (b"a|b\n1|2\n", r'delimiter="\|"'),
        (b"t,EDA\ns,uS\n0,1\n", "delete a row of units"),
        (b"Device: X\n\nEDA\n1\n", "lines above a table begin with #"),
        (b"seconds,GSR\n0,1\n", "time_column="),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save its sheet as CSV"),
    ],
)
def test_everyday_files_are_refused_with_what_helps(file, content, advice):
    with pytest.raises(SignalError, match=advice):
        read(file(content))


def test_row_115_a_line_of_170_000_cells_is_refused_at_once(file):
    line = " ".join(str(index % 4000) for index in range(170_000))
    path, begun = file(f"{line}\n5 2\n"), time.perf_counter()
    with pytest.raises(SignalError, match="row 1 has 170000 cells, more than 20000: .* transposed"):
        read(path, fs=4)
    assert time.perf_counter() - begun < 20  # a fraction of a second on an idle machine; minutes before


@pytest.mark.parametrize("header", ["onset,duration,label", "Start,End", "label,start,stop"])
def test_a_table_of_events_is_no_recording_unless_a_column_is_named(file, header):
    rows = "".join(",".join(str(10 * row + place) for place in range(header.count(",") + 1)) + "\n" for row in range(9))
    path = file(f"{header}\n{rows}")
    with pytest.raises(
        NoSignal, match="a table of events by its columns '(onset|start)' and '(duration|end|stop)', not a"
    ):
        read(path, fs=4, modality="eda")
    (recording,) = read(path, fs=4, modality="eda", column=header.split(",")[0])
    assert recording.signal.tolist() == list(range(0, 90, 10))
