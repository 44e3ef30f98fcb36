#!/bin/sh
# mne 1.13.2: is a skin conductance of 2 uS the same number from EDF and from BrainVision?
# Guess before the run: no. From EDF it stays 2.0, from BrainVision it becomes 2e-6, and both are labelled volts.
# The run: right on the numbers, half right on the labels. From EDF it is an EEG channel of 2 V; from BrainVision one
# of type misc without a unit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" mne==1.13.2 numpy==2.4.6 scipy==1.17.1
cat > "$folder/show.py" <<'PY'
import struct
import sys

import mne
from mne.io.constants import FIFF

folder = sys.argv[1]


def fields(*parts):
    return b"".join(str(text).encode().ljust(width) for text, width in parts)


head = fields(("0", 8), ("X X X X", 80), ("Startdate X X X X", 80), ("01.01.24", 8), ("00.00.00", 8), ("512", 8), ("", 44))
head += fields(("10", 8), ("1", 8), ("1", 4))
head += fields(("GSR", 16), ("", 80), ("uS", 8), ("-20", 8), ("20", 8), ("-20000", 8), ("20000", 8), ("", 80), ("100", 8), ("", 32))
with open(folder + "/a.edf", "wb") as file:
    file.write(head + struct.pack("<1000h", *[2000] * 1000))
with open(folder + "/a.vhdr", "w", encoding="utf-8") as file:
    file.write(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n"
        "MarkerFile=a.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=1\nSamplingInterval=10000\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=GSR,,0.001,uS\n"
    )
with open(folder + "/a.eeg", "wb") as file:
    file.write(struct.pack("<1000h", *[2000] * 1000))
with open(folder + "/a.vmrk", "w", encoding="utf-8") as file:
    file.write("Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\nMk1=New Segment,,1,1,0\n")
edf = mne.io.read_raw_edf(folder + "/a.edf", verbose="ERROR")
vision = mne.io.read_raw_brainvision(folder + "/a.vhdr", verbose="ERROR")
print("mne", mne.__version__)
found = []
for name, raw in (("EDF", edf), ("BrainVision", vision)):
    value, unit = float(raw.get_data()[0, 0]), raw.info["chs"][0]["unit"]
    found.append((value, unit))
    print(f"{name}: 2 uS is {value:g}, of unit {unit!r}, channel type {raw.get_channel_types()[0]}")
(edf_value, edf_unit), (vision_value, vision_unit) = found
labels = (edf_unit, vision_unit) == (FIFF.FIFF_UNIT_V, FIFF.FIFF_UNIT_NONE)
sys.exit(not (abs(edf_value - 2) < 1e-9 and abs(vision_value - 2e-6) < 1e-12 and labels))
PY
PYTHONPATH="$folder" python3 "$folder/show.py" "$folder"
