#!/bin/sh
# kymatio 0.3.0 beside scipy 1.17.1: does its one-dimensional scattering transform, as its manual calls it, run?
# Guess before the run: yes; it asks for any scipy, and one dimension needs only Fourier transforms of it.
# Seen: `from kymatio.numpy import Scattering1D` fails in the three-dimensional part, which takes `sph_harm` from
# scipy.special; scipy removed that in 1.17. The one-dimensional part itself, imported by its own module, runs.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
    kymatio==0.3.0 scipy==1.17.1 numpy==2.4.6 configparser==7.2.0 appdirs==1.4.4 packaging==25.0
cat > "$folder/show.py" <<'PY'
import numpy as np
import scipy
from importlib.metadata import version

print("kymatio", version("kymatio"), "scipy", scipy.__version__, "numpy", np.__version__)
try:
    from kymatio.numpy import Scattering1D
except ImportError as error:
    print("as in the manual:", str(error).partition(" (")[0])
else:
    print("as in the manual: imported")
from kymatio.scattering1d.frontend.numpy_frontend import ScatteringNumPy1D

print("its 1-D part:", ScatteringNumPy1D(J=4, shape=256, Q=4)(np.sin(np.arange(256.0))).shape)
PY
export PYTHONPATH="$folder"
python3 "$folder/show.py" 2>/dev/null | tee "$folder/seen"
grep -q "cannot import name 'sph_harm' from 'scipy.special'" "$folder/seen" && grep -q "its 1-D part: (" "$folder/seen"
