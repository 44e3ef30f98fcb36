#!/bin/sh
# pymatreader 1.3.2: in which order do the variables of a MATLAB 7.3 file come?
# Guess before the run: by chance. The names pass through a Python set, so their order changes with the seed of string
# hashes from one process to the next; "the first variable" is another one each time. In a file of version 5 the
# order is the file's.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
    pymatreader==1.3.2 h5py==3.16.0 scipy==1.17.1 numpy==2.4.6 xmltodict==1.0.4
cat > "$folder/make.py" <<'PY'
import sys

import h5py
import numpy as np
import scipy.io

names = ["ecg", "eda", "resp", "emg", "ppg"]
with h5py.File(sys.argv[1] + "/new.mat", "w", userblock_size=512) as file:
    for name in names:
        file.create_dataset(name, data=np.zeros((9, 1))).attrs["MATLAB_class"] = np.bytes_(b"double")
with open(sys.argv[1] + "/new.mat", "r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
scipy.io.savemat(sys.argv[1] + "/old.mat", {name: np.zeros((9, 1)) for name in names})
PY
cat > "$folder/show.py" <<'PY'
import sys

import pymatreader

print(" ".join(name for name in pymatreader.read_mat(sys.argv[1]) if not name.startswith("__")))
PY
export PYTHONPATH="$folder"
python3 "$folder/make.py" "$folder"
python3 -c 'import h5py, pymatreader, scipy; print("pymatreader", pymatreader.__version__, "h5py", h5py.__version__, "scipy", scipy.__version__)'
for seed in 1 2 3 4 5 6; do
    echo "version 7.3, hash seed $seed: $(PYTHONHASHSEED=$seed python3 "$folder/show.py" "$folder/new.mat")"
    echo "version 5,   hash seed $seed: $(PYTHONHASHSEED=$seed python3 "$folder/show.py" "$folder/old.mat")"
done | tee "$folder/orders"
new=$(grep "7.3" "$folder/orders" | cut -d: -f2 | sort -u | wc -l)
old=$(grep "version 5" "$folder/orders" | cut -d: -f2 | sort -u | wc -l)
echo "different orders: $new of version 7.3, $old of version 5"
[ "$new" -gt 1 ] && [ "$old" -eq 1 ]
