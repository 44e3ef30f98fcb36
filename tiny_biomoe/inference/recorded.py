"""A module recorded as one graph, so that no Python runs between its layers.

Python takes a few microseconds at every layer and, where images are computed side by side, makes their threads wait for
its lock. The graph holds the same operations in the same order: it gives the same bytes. Recording takes as long as
several images, so a process that embeds one signal and ends does without.
"""

from __future__ import annotations

import warnings
from collections import Counter
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor, nn

UNRECORDED = 4  # calls of a shape: up to three that try threads, and a first image

_RECORDING = Lock()  # tracing, and what is warned of, belong to the process


class Recorded:
    """A module of one tensor, recorded (TorchScript) once a shape comes again and again, and safe to call from threads.

    Later changes of the module do not reach it, once it is recorded.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._graphs: dict[torch.Size, Any] = {}
        self._calls: Counter[torch.Size] = Counter()

    def __call__(self, x: Tensor) -> Tensor:
        """What the module gives for x, to the byte."""
        graph = self._graphs.get(x.shape)
        if graph is None:
            self._calls[x.shape] += 1  # two threads may count as one: it is recorded a little later
            if self._calls[x.shape] <= UNRECORDED:
                return cast(Tensor, self._module(x))
            graph = self._record(x)
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # else first calls differ
            result: Tensor = graph(x)
        return result

    def _record(self, x: Tensor) -> Any:
        with _RECORDING:
            if x.shape not in self._graphs:
                with warnings.catch_warnings():  # of its retirement, and of sizes that become fixed, as is meant
                    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
                    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
                    self._graphs[x.shape] = torch.jit.trace(self._module, (x,), check_trace=False)
            return self._graphs[x.shape]
