"""Recordings that were paused: a hole of known length, or parts of one channel where its length is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .channel import Channel, Clock
from .timestamps import HOLE


def in_segments(
    channel: Channel, begins: Sequence[int], starts: Sequence[float | None], untimed: bool
) -> list[Channel]:
    """A channel whose recording was paused.

    Parameters
    ----------
    channel : with a rate
    begins : first samples of the segments, rising; those outside the samples do not count
    starts : when each segment began, in seconds of one clock; None where that is unknown
    untimed : whether the caller wants the samples without their times

    Returns
    -------
    The channel itself where it has one segment; with a clock where all starts are known; else one channel a segment.
    """
    known = dict(zip(begins, starts, strict=True))
    if untimed or not channel.fs:
        return [channel]
    places = [0]
    for at in sorted(at for at in known if 0 < at < channel.samples.size):
        before, start = known.get(places[-1]), known[at]
        lag = np.inf if before is None or start is None else start - before - (at - places[-1]) / channel.fs
        if abs(lag) * channel.fs >= HOLE:  # a mark without a pause is none
            places.append(at)
    if len(places) == 1:
        return [channel]
    runs = list(zip(places, [*places[1:], channel.samples.size], strict=True))
    moments = [known.get(at) for at in places]
    times = [
        start + np.arange(stop - at) / channel.fs
        for start, (at, stop) in zip(moments, runs, strict=True)
        if start is not None
    ]
    if len(times) == len(runs):
        return [replace(channel, clock=Clock("segments", np.concatenate(times)))]
    return [
        replace(channel, name=f"{channel.name} (segment {number})", samples=channel.samples[at:stop], start=start)
        for number, ((at, stop), start) in enumerate(zip(runs, moments, strict=True), 1)
    ]
