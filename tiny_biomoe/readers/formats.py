"""The table of file formats: how a file of each is recognised, what reads it, and which other files belong to it."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import SignalError
from .acqknowledge_files import read_acq
from .bids_files import bids_parts, looks_like_bids, read_bids
from .binary_files import read_hdf5, read_numpy, read_parquet
from .channel import Channel, Options
from .csv_files import read_csv
from .edf_files import read_bdf, read_edf
from .empatica_files import following, looks_like_e4, read_e4, read_embraceplus
from .labchart_files import read_labchart
from .matlab_files import read_matlab
from .mne_files import MNE_ENDINGS, looks_like_nicolet, mne_parts, read_mne
from .opensignals_files import read_biosppy, read_opensignals
from .scanner_files import looks_like_pmu, read_cmrr, read_pmu
from .sidecars import sidecar_of, with_rate_beside
from .text_files import read_unpacked
from .unisens_files import read_unisens, unisens_parts
from .wearable_files import (
    SCIENTISST,
    SHIMMER,
    read_emotibit,
    read_mind_monitor,
    read_movesense,
    read_openbci,
    read_polar,
    read_scientisst,
    read_shimmer,
)
from .wfdb_files import read_wfdb, wfdb_parts
from .xdf_files import read_xdf

Reader = Callable[[Path, Options], list[Channel]]


@dataclass(frozen=True)
class Format:
    """One format: how its files are recognised, and what reads them. The first that fits reads a file."""

    read: Reader
    begins: tuple[bytes, ...] = ()  # first bytes of a file, unpacked where it is compressed with gzip
    endings: tuple[str, ...] = ()  # of the lower-case file name, a trailing .gz apart; for formats without a signature
    looks: Callable[[Path, bytes], bool] | None = None  # by the name and the first `HEAD` bytes; for text formats
    parts: Callable[[Path], list[Path]] | None = None  # other files that are read with it, which are no recordings


# The order counts: signatures are looked at first, then endings, then `looks`, each from top to bottom.
FORMATS: dict[str, Format] = {
    "opensignals": Format(read_opensignals, begins=(b"# OpenSignals",)),
    "biosppy": Format(
        read_biosppy, begins=(b"# Simple Text Format",), looks=lambda path, head: b"Sampling Rate (Hz):=" in head
    ),
    "edf": Format(read_edf, begins=(b"0       ",)),
    "bdf": Format(read_bdf, begins=(b"\xffBIOSEMI",)),
    "wfdb": Format(read_wfdb, endings=(".hea",), parts=wfdb_parts),
    "hdf5": Format(read_hdf5, begins=(b"\x89HDF\r\n\x1a\n",)),
    "parquet": Format(read_parquet, begins=(b"PAR1",)),
    "numpy": Format(read_numpy, begins=(b"\x93NUMPY",), endings=(".npz",)),
    "embraceplus": Format(read_embraceplus, begins=(b"Obj\x01",), endings=(".avro",), parts=following),
    "bids": Format(read_bids, endings=("_physio.tsv",), looks=looks_like_bids, parts=bids_parts),
    "acq": Format(read_acq, endings=(".acq",)),
    "xdf": Format(read_xdf, begins=(b"XDF:",), endings=(".xdf",)),
    "matlab": Format(read_matlab, endings=(".mat",), looks=lambda path, head: head.startswith(b"MATLAB")),
    "unisens": Format(read_unisens, endings=("unisens.xml",), parts=unisens_parts),
    "polar": Format(read_polar, begins=(b"Phone timestamp;",)),
    "mind_monitor": Format(read_mind_monitor, begins=(b"TimeStamp,Delta_", b"TimeStamp,RAW_")),
    "openbci": Format(read_openbci, begins=(b"%OpenBCI Raw",)),
    "shimmer": Format(read_shimmer, looks=lambda path, head: SHIMMER.match(head) is not None),
    "emotibit": Format(read_emotibit, begins=(b"LocalTimestamp,EmotiBitTimestamp",)),
    "scientisst": Format(read_scientisst, looks=lambda path, head: SCIENTISST.match(head) is not None),
    "movesense": Format(read_movesense, looks=lambda path, head: b"movesense" in head.partition(b"\n")[0].lower()),
    "labchart": Format(read_labchart, begins=(b"Interval=",)),
    "cmrr": Format(read_cmrr, looks=lambda path, head: b"LogDataType" in head and b"ScanDate" in head),
    "pmu": Format(read_pmu, looks=looks_like_pmu),
    "mne": Format(read_mne, endings=MNE_ENDINGS, looks=looks_like_nicolet, parts=mne_parts),
    "e4": Format(read_e4, looks=lambda path, head: looks_like_e4(head)),
    "csv": Format(read_csv, looks=lambda path, head: True),
}
PARTS = [  # of the formats that read several files: how these are known, and which they are
    (each.endings, each.looks or (lambda path, head: False), each.parts) for each in FORMATS.values() if each.parts
]
NOT_READ = {  # how files begin that are often taken for recordings, and what to do about them
    b"count,streamType,tag,time,values": "a long table of a Biovotion Everion, a row for each tag and time: save the "
    "values of each tag as CSV, devicely reads them",
    b"count,tag,time,values": "a long table of a Biovotion Everion, a row for each tag and time: save the values of "
    "each tag as CSV, devicely reads them",
    b"\xfd7zXZ": "an archive (.xz): unpack it",
    b"BZh": "an archive (.bz2): unpack it",
    b"7z\xbc\xaf": "an archive (.7z): unpack it",
    b"Rar!": "an archive (.rar): unpack it",
    b"PK\x03\x04": "an Excel workbook or another archive: save its sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save its sheet as CSV",
    b"RIFF": "sound: save its samples as CSV, or with scipy.io.wavfile and numpy.save",
    b"{": "JSON, which holds settings or notes: save samples as CSV",
}
HEAD = 4096  # bytes that recognition looks at
CONTROL = bytes([*range(9), *range(14, 32)])  # characters that no text holds


def channels_of(path: Path, format: str | None, options: Options) -> list[Channel]:
    """What a file says of its channels, and what is said beside it."""
    return with_rate_beside(FORMATS[format or recognise(path)].read(path, options), path)


def recognise(path: Path) -> str:
    """The format of a file, by its first bytes, its ending, or what it looks like.

    Raises
    ------
    SignalError
        It is of a kind that is known and not read.
    """
    head = read_unpacked(path, HEAD).removeprefix(codecs.BOM_UTF8)
    name = path.name.lower().removesuffix(".gz")
    for key, each in FORMATS.items():
        if head.startswith(each.begins):
            return key
    for key, each in FORMATS.items():
        if name.endswith(each.endings):
            return key
    if name.endswith(".dat") and path.with_suffix(".hea").is_file():
        raise SignalError(f"the file holds the samples of a WFDB record: read {path.with_suffix('.hea').name!r}")
    for signature, what in NOT_READ.items():
        if head.startswith(signature):
            raise SignalError(f"the file is {what}")
    if head[257:262] == b"ustar":
        raise SignalError("the file is an archive (.tar): unpack it")
    if _is_binary(head) and not looks_like_nicolet(path, head):
        raise SignalError(
            f"the file is neither text nor of a format that is read ({', '.join(FORMATS)}): export it as one"
        )
    return next(key for key, each in FORMATS.items() if each.looks and each.looks(path, head))


def _is_binary(head: bytes) -> bool:
    """Whether a file begins as no text does; UTF-16, in which every other byte is 0, is left to its error."""
    odd = len(head) - len(head.translate(None, CONTROL))
    if odd <= 0.1 * len(head) or len(head) <= 16:
        return False
    nul = head[::2].count(0), head[1::2].count(0)
    return max(nul) <= 0.4 * len(head) or min(nul) >= 0.1 * len(head)


def parts_of(path: Path) -> list[Path]:
    """The plain files that are read for one input: itself, and those that its format reads with it."""
    name = path.name.lower().removesuffix(".gz")
    others = next((parts(path) for ends, looks, parts in PARTS if name.endswith(ends) or looks(path, b"")), [])
    if (sidecar := sidecar_of(path)) is not None and sidecar not in others:
        others = [*others, sidecar]
    return [path, *(other for other in others if other.is_file() and (path.is_symlink() or not other.is_symlink()))]
