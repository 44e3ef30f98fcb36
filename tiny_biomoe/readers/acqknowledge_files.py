"""AcqKnowledge (BIOPAC) through bioread: every channel at its own rate, each appended segment with its own start."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SignalError, need
from .channel import Channel, Options, choose
from .damage import bounded, damage
from .pauses import in_segments

APPENDED = re.compile(r"Segment \d+")  # the mark that AcqKnowledge sets where it goes on after a pause
MAX_CHANNELS = 256


def read_acq(path: Path, options: Options) -> list[Channel]:
    """AcqKnowledge: every channel in its units; a pause is a hole, or parts the channel where its length is unknown."""
    need("bioread")
    from bioread.reader import DataReader, Reader

    with damage("AcqKnowledge"), path.open("rb") as file:
        _check_headers(file)
        reader = Reader.read_headers(file)
        if reader.datafile is None or reader.event_markers is None:
            raise SignalError("the headers of the AcqKnowledge file cannot be read: it is damaged, or of a newer kind")
        channels = reader.datafile.channels
        names = [channel.name.strip() for channel in channels]
        chosen = choose(names, options.column)
        bounded(sum(channels[index].point_count for index in chosen))
        _check_size(reader, path.stat().st_size, chosen)
        DataReader(file, reader.datafile, reader.data_start_offset).read_data(chosen)
        marks = [mark for mark in reader.event_markers if mark.channel_number is None]
        segments = {mark.sample_index: mark.date_created_utc for mark in marks if APPENDED.fullmatch(mark.text)}
        return [
            part
            for index in chosen
            for part in _parts(names[index], channels[index], segments, options.time_column == "")
        ]


def _check_headers(file: Any) -> None:
    """Refuse damaged headers, over which bioread would search long."""
    from bioread.headers import ChannelHeader, UnknownPaddingHeader
    from bioread.reader import GraphHeaderReader, HeaderReader

    graph = GraphHeaderReader.bootstrap(file)
    reader = HeaderReader(file, graph.byte_order_char, graph.file_revision, graph.encoding)
    if not (0 < graph.channel_count <= MAX_CHANNELS and 0 <= graph.expected_padding_headers <= MAX_CHANNELS):
        counts = f"{graph.channel_count} channels and {graph.expected_padding_headers} headers beside theirs"
        raise SignalError(f"the header counts {counts}: the file is damaged, fetch it again")
    begin = graph.effective_len_bytes
    padding = reader.multi_headers(graph.expected_padding_headers, begin, UnknownPaddingHeader)
    begin += sum(header.effective_len_bytes for header in padding)
    headers = reader.multi_headers(graph.channel_count, begin, ChannelHeader)
    lengths = {header.effective_len_bytes for header in headers}
    if len(lengths) != 1 or min(lengths) <= 0 or any(header.frequency_divider < 1 for header in headers):
        raise SignalError("the channel headers of the AcqKnowledge file are damaged: fetch it again")


def _check_size(reader: Any, size: int, chosen: list[int]) -> None:
    """Refuse a file that ends before its samples do, or unpacks to more than its headers say."""
    if not reader.is_compressed:
        if (missing := reader.data_start_offset + reader.data_length - size) > 0:
            raise SignalError(f"the file ends {missing} bytes before its samples do: it was cut short, fetch it again")
        return
    for index in chosen:
        channel, packed = reader.datafile.channels[index], reader.channel_compression_headers[index]
        reader.acq_file.seek(packed.compressed_data_offset)
        expected = channel.point_count * channel.dtype.itemsize
        found = zlib.decompressobj().decompress(reader.acq_file.read(packed.compressed_data_len), expected + 1)
        if len(found) != expected:
            raise SignalError(f"channel {index} does not unpack to its {channel.point_count} samples: fetch it again")


def _parts(name: str, channel: Any, segments: dict[int, Any], untimed: bool) -> list[Channel]:
    """One channel, cut where recording was paused."""
    dates = {-(-index // channel.frequency_divider): date for index, date in segments.items()}
    starts = {at: date.timestamp() if date else None for at, date in dates.items()}
    samples = np.asarray(channel.data, np.float64)
    whole = Channel(name, samples, None, float(channel.samples_per_second), starts.get(0), unit=channel.units)
    return in_segments(whole, list(starts), list(starts.values()), untimed)
