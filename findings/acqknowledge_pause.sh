#!/bin/sh
# bioread 2025.5.2: what becomes of the pause where AcqKnowledge went on in the same file ("append")?
# Guess before the run: it is gone. The samples of both segments are one run with an even time axis; the minute between
# them shows only in the dates of the event marks of type "apnd".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" bioread==2025.5.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import sys

import bioread
import numpy as np
from bioread import headers as bh

REVISION = 132  # AcqKnowledge 5.0.1


def header(kind, tail=b"", length=None, **fields):
    facts = kind.for_revision(REVISION, "<")._struct_class()
    if length:
        fields[length] = len(bytes(facts)) + len(tail)
    for name, value in fields.items():
        setattr(facts, name, value)
    return bytes(facts) + tail


samples = np.arange(2000.0)
minute = 60_000  # ms
marks = [
    header(
        bh.MarkerItemHeader, text + b"\0", lSample=at, nChannel=-1, sMarkerStyle=b"apnd", llDateCreated=when,
        nTextLength=len(text) + 1,
    )
    for at, text, when in [(0, b"Segment 1", 1_714_979_289_000), (1000, b"Segment 2", 1_714_979_289_000 + minute)]
]
content = (
    header(bh.GraphHeader, length="lExtItemHeaderLen", lVersion=REVISION, nChannels=1, dSampleTime=1.0)
    + header(
        bh.ChannelHeader, length="lChanHeaderLen", szCommentText=b"EDA", szUnitsText=b"microsiemens", lBufLength=2000,
        dAmplScale=1.0, nVarSampleDivider=1,
    )
    + header(bh.ForeignHeader, length="lLength")
    + header(bh.ChannelDTypeHeader, nSize=8, nType=1)
    + samples.tobytes()
    + header(bh.MarkerHeader, lMarkersExtra=3)
    + b"".join(marks)
    + header(bh.JournalLengthHeader, lJournalDataLen=4)
)
with open(sys.argv[1], "wb") as file:
    file.write(content)
read = bioread.read_file(sys.argv[1])
(channel,) = read.channels
steps = np.diff(channel.time_index)
first, second = read.event_markers
print("bioread", bioread.__version__, "numpy", np.__version__)
print("samples in one run:", channel.data.size, "largest step of time_index:", round(float(steps.max()), 6), "s")
print("marks:", [(mark.sample_index, mark.type, str(mark.date_created_utc)) for mark in (first, second)])
passed = (second.date_created_utc - first.date_created_utc).total_seconds()
print("between the first samples of the segments by the marks:", passed, "s; by time_index:", channel.time_index[1000], "s")
sys.exit(not (channel.data.tolist() == samples.tolist() and steps.max() < 0.0011 and passed == 60))
PY
PYTHONPATH="$folder" python3 "$folder/show.py" "$folder/a.acq"
