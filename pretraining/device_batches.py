"""From groups of windows to batches of mixed pictures that never leave the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pretraining.device_drawing import plan
from pretraining.groups import Group, Groups
from pretraining.growth import shrink
from pretraining.readout import Wanted
from tiny_biomoe.config import Recipe
from tiny_biomoe.images.representations import REPRESENTATIONS

NAMES = list(REPRESENTATIONS)
AHEAD = 4  # groups that each worker prepares beyond the one that is asked for


@dataclass(frozen=True)
class Batch:
    """Pictures of windows, and what is to be read from them, on the device."""

    levels: Tensor  # (n, size, size) uint8
    wanted: Wanted


class Rounds:
    """Batches in rounds: the pictures of some groups are drawn at once, mixed, and dealt out.

    Parameters
    ----------
    groups : whose workers prepare windows
    views : representations that each window is shown by, in turn
    images : of a batch
    per_round : groups in a round; their pictures must make whole batches
    workers : processes; 0 for none
    """

    def __init__(
        self, groups: Groups, views: int, images: int, per_round: int, recipe: Recipe, device: str, workers: int
    ):
        drawn = per_round * groups.windows * views
        if drawn % images or not 1 <= views <= len(NAMES):
            raise ValueError(
                f"{per_round} groups of {groups.windows} windows, {views} views each: no multiple of {images}"
            )
        self.groups, self.views, self.images, self.per_round = groups, views, images, per_round
        self.recipe, self.device, self.workers = recipe, device, workers

    def run(self, first: int, size: int) -> Iterator[list[Batch]]:
        """Rounds from number `first` on, without end, in pictures of `size` pixels a side."""
        loader = DataLoader(
            self.groups, sampler=range(first * self.per_round, 2**40), batch_size=None, collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=self.workers, prefetch_factor=AHEAD if self.workers else None,
        )  # fmt: skip
        found = iter(loader)
        number = first
        while True:
            yield self.mixed([next(found) for _ in range(self.per_round)], number, size)
            number += 1

    def mixed(self, groups: Sequence[Group], number: int, size: int) -> list[Batch]:
        """The batches of one round."""
        parts = [part for turn, group in enumerate(groups) for part in self._draw(group, number + turn, size)]
        levels = torch.cat([levels for levels, _ in parts])
        wanted = [torch.cat(column) for column in zip(*(columns for _, columns in parts), strict=True)]
        generator = torch.Generator().manual_seed(self.groups.seed * 1_000_003 + number)
        order = torch.randperm(len(levels), generator=generator).to(self.device)
        return [Batch(levels[rows], Wanted(*(column[rows] for column in wanted))) for rows in order.split(self.images)]

    def _draw(self, group: Group, turn: int, size: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Pictures of a group by each of its representations in turn, and the columns of `Wanted`."""
        drawing = plan(group.modality, group.fs, group.filtered.shape[1], self.recipe, self.device)
        filtered, limits, sources, labels, facts, spectra = (
            torch.from_numpy(column).to(self.device, non_blocking=True)
            for column in (group.filtered, group.limits, group.sources, group.labels, group.facts, group.spectra)
        )
        targets = torch.cat([facts, drawing.picture(filtered)], 1)
        for view in range(self.views):
            shown = (turn * self.views + view) % len(NAMES)
            levels = shrink(drawing.draw(filtered, limits, NAMES[shown]), size)
            yield levels, [torch.full_like(sources, shown), sources, labels, targets, spectra]


def _as_it_is(group: Group) -> Group:
    """Arrays go through the workers' pipes: shared memory is small in many containers."""
    return group
