#!/bin/sh
# aeon 1.6.0: what memory does HydraTransformer take to turn a set of windows into features, and does it matter how many
# windows are given at once?
# Guess before the run: little more than the features themselves, for each window is turned by itself.
# Seen: all windows are convolved side by side: about 20 MiB for each window of 4 000 samples (16 kB), so that 700 of
# them would take 14 GiB. Four at a time give the same bytes and no such peak; nothing is fitted to the windows but their shape.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" \
    aeon==1.6.0 torch==2.13.0 numpy==2.3.5 scipy==1.17.1 pandas==3.0.6 scikit-learn==1.9.1 numba==0.63.1
cat > "$folder/show.py" <<'PY'
from importlib.metadata import version
from resource import RUSAGE_SELF, getrusage

import numpy as np
from aeon.transformations.collection.convolution_based import HydraTransformer

WINDOWS, AT_ONCE = 64, 4


def peak():
    """Of this process so far, MiB."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


x = np.random.default_rng(0).standard_normal((WINDOWS, 1, 4000)).astype(np.float32)
hydra = HydraTransformer(random_state=0, n_jobs=1).fit(x[:2])
few = np.concatenate([np.asarray(hydra.transform(part)) for part in np.split(x, WINDOWS // AT_ONCE)])
before = peak()
every = np.asarray(HydraTransformer(random_state=0, n_jobs=1).fit(x).transform(x))
more = (peak() - before) / (WINDOWS - AT_ONCE)
print("aeon", version("aeon"), "torch", version("torch"), "numpy", version("numpy"))
print(f"{more:.0f} MiB more at the peak for each further window given at once; a window has {x[0].nbytes / 1000:g} kB")
print("same bytes:", few.tobytes() == every.tobytes())
print("more than 500 times a window:", more * 2**20 > 500 * x[0].nbytes)
PY
PYTHONPATH="$folder" python3 "$folder/show.py" 2>/dev/null | tee "$folder/seen"
grep -q "^same bytes: True" "$folder/seen" && grep -q "^more than 500 times a window: True" "$folder/seen"
