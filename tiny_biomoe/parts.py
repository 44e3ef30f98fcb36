"""What a network is made of, and whether it still is: modules, their tensors, and that no hook changes what they do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from operator import contains, itemgetter
from typing import Any, NamedTuple

from torch import Tensor, nn

_CONTENTS = itemgetter("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
OWN = ("forward", "encode")  # methods that an instance must not have of its own


class Parts(NamedTuple):
    """A network as it was when `of` saw it. It does not keep the network itself alive, only what the network holds."""

    children: list[nn.Module]  # at any depth
    kinds: list[type]  # of the network and its children
    contents: list[tuple[dict[str, Any], ...]]  # of each: parameters, buffers, modules, and hooks: none
    tensors: list[Tensor]

    @classmethod
    def of(cls, network: nn.Module) -> Parts | None:
        """None where a hook or an own forward changes what a module does."""
        modules = [network]
        for module in modules:  # grows while it is walked
            modules.extend(child for child in vars(module)["_modules"].values() if child is not None)
        contents = [tuple(dict(each) for each in _CONTENTS(vars(module))) for module in modules]
        if _own_methods(map(vars, modules)) or any(hooks or pre_hooks for *_, hooks, pre_hooks in contents):
            return None
        tensors = [
            tensor for parameters, buffers, *_ in contents for tensor in (*parameters.values(), *buffers.values())
        ]
        return cls(modules[1:], [type(module) for module in modules], contents, [t for t in tensors if t is not None])

    def unchanged(self, network: nn.Module) -> bool:
        """Whether a network is made of these parts still, whatever numbers its tensors hold.

        At every call, so without a loop in Python: what is the same object counts as equal at once.
        """
        modules = [network, *self.children]
        owns = list(map(vars, modules))
        try:
            same = list(map(type, modules)) == self.kinds and list(map(_CONTENTS, owns)) == self.contents
        except RuntimeError:  # another tensor in a tensor's place is neither equal nor not
            return False
        return same and not _own_methods(owns)


def _own_methods(owns: Iterable[dict[str, Any]]) -> bool:
    owns = list(owns)
    return any(any(map(contains, owns, repeat(name))) for name in OWN)
