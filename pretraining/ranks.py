"""Several processes, a device each, that learn one network: `torchrun --nproc-per-node N -m ...train.multitask`.

Each draws batches of its own; gradients are averaged before every step, so all hold the same weights throughout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many."""

    rank: int = 0
    world: int = 1

    @classmethod
    def started(cls) -> Ranks:
        """This process among those that torchrun started; alone where it started none."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def batches(self, first: int, last: int) -> range:
        """Numbers of the batches that this process draws for the steps from `first` up to `last`."""
        return range(first * self.world + self.rank, last * self.world, self.world)

    def average_gradients(self, model: nn.Module) -> None:
        """Every process's gradients become their mean."""
        if self.world > 1:
            self._average([p.grad for p in model.parameters() if p.grad is not None])

    def average_statistics(self, model: nn.Module) -> None:
        """Running statistics of BatchNorm, which each process gathers from its own images, become their mean."""
        if self.world > 1:
            self._average([buffer for buffer in model.buffers() if buffer.is_floating_point()])

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            distributed.barrier()

    def _average(self, tensors: list[torch.Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.world
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def process_group(device: str) -> Iterator[tuple[Ranks, str]]:
    """`Ranks.started`, joined to the others, and this process's own device."""
    mine = Ranks.started()
    if mine.world == 1:
        yield mine, device
        return
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield mine, device
    finally:
        distributed.destroy_process_group()
