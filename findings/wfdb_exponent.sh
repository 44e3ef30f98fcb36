#!/bin/sh
# wfdb 4.3.1: are 3.6e2 Hz and a gain of 1.5E2, which header(5) allows in WFDB headers, read as 360 Hz and 150?
# Guess before the run: both are.
# The run: wrong on both. The rate becomes 3.6 Hz. A gain of 1.5e2 is read, one of 1.5E2 becomes 1.5 in the unit "E2",
# without its baseline, and the rest of the line becomes the signal's name. Nothing is said in either case.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" wfdb==4.3.1 numpy==2.4.6 pandas==2.3.3
cat > "$folder/show.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import wfdb

folder = sys.argv[1]
np.arange(8, dtype="<i2").tofile(folder + "/a.dat")


def read(rate, gain):
    with open(folder + "/a.hea", "w") as file:
        file.write(f"a 1 {rate} 8\na.dat 16 {gain}(3)/mV 16 0 0 28 0 ECG\n")
    record = wfdb.rdrecord(folder + "/a")
    found = (float(record.fs), record.adc_gain[0], record.baseline[0], record.units[0], record.sig_name[0])
    print(f"rate {rate}, gain {gain}: read as {found}, the last sample is {record.p_signal[-1, 0]:.4f}")
    return found


print("wfdb", version("wfdb"))
plain = (360.0, 150.0, 3, "mV", "ECG")
as_seen = [
    read("360", "150") == plain,
    read("3.6e2", "150") == (3.6, 150.0, 3, "mV", "ECG"),
    read("360", "1.5e2") == plain,
    read("360", "1.5E2") == (360.0, 1.5, 0, "E2", "(3)/mV 16 0 0 28 0 ECG"),
]
sys.exit(not all(as_seen))
PY
PYTHONPATH="$folder" python3 "$folder/show.py" "$folder"
