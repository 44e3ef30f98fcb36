"""Recordings in files: `find` them below a folder, `read` the channels of one, each at its rate.

>>> import pathlib, tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> text = folder.joinpath("a.csv").write_text("time [s],EDA\\n0.00,2.1\\n0.25,2.2\\n0.50,2.4\\n")
>>> paths, skipped = find(folder)
>>> read(paths[0], root=folder)
[<Recording 'EDA' of a.csv: eda, 3 samples at 4 Hz (0.75 s)>]
"""

from .readers.columns import LeftOut
from .readers.discovery import Skipped, find
from .readers.formats import FORMATS
from .readers.read import Recording, Recordings, read

__all__ = ["FORMATS", "LeftOut", "Recording", "Recordings", "Skipped", "find", "read"]
