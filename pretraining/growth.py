"""Begin with small images, go on with whole ones: at half the side a step costs a quarter, so a run sees more windows.

Three kinds of tensor know the size of the image. They are carried over so that the larger network does to a larger
picture what the smaller one did to the smaller picture: weights of pixels are stretched, spectral filters keep their
low frequencies, and position biases keep their offsets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_biomoe.errors import WeightsError


def shrink(levels: Tensor, size: int) -> Tensor:
    """Levels of square images to `size` pixels a side, each the mean of those it covers: (n, 224, 224) uint8."""
    if levels.shape[-1] == size:
        return levels
    return F.avg_pool2d(levels[:, None].float(), levels.shape[-1] // size)[:, 0].round().to(torch.uint8)


def take_over(model: nn.Module, begin: dict[str, Tensor]) -> bool:
    """Let a `MultitaskModel` begin where another run has got to; whether its heads do too, which must tell the same
    as far as their shapes say.

    Only the weights of the losses begin anew: all fall while a run lasts (`multitask_loss`).

    Parameters
    ----------
    begin : the state of the other run's model, on images of this size or smaller ones

    Raises
    ------
    WeightsError
        It lacks a tensor of the network.
    """
    own = model.state_dict()
    if missing := sorted(name for name in own if name.startswith("network.") and name not in begin):
        raise WeightsError(f"what the run shall begin with is no state of a MultitaskModel: it lacks {missing[0]}")
    heads = {name for name in own if not name.startswith("network.")} - {"loss_weights"}
    same = all(name in begin and begin[name].shape == own[name].shape for name in heads)
    taken = {name: t for name, t in begin.items() if name.startswith("network.") or (same and name in heads)}
    model.load_state_dict(own | grow(taken, own))
    return same


def grow(small: dict[str, Tensor], large: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a network trained on small images, for one that takes larger images.

    Parameters
    ----------
    small : the state of the trained network
    large : the state of the larger one as it is built; what the small one cannot know stays as it is there

    Examples
    --------
    >>> import torch
    >>> grow({"position_bias": torch.tensor([[1.0, 2, 3, 4]])}, {"position_bias": torch.zeros(1, 9)})["position_bias"]
    tensor([[1., 2., 2., 3., 4., 4., 3., 4., 4.]])
    """
    return {name: _grow(name, tensor, large[name]) for name, tensor in small.items()}


def _grow(name: str, small: Tensor, large: Tensor) -> Tensor:
    if small.shape == large.shape:
        return small
    if name.endswith("position_bias"):  # (heads, side * side), by row and column offset; the farthest known is repeated
        side, wide = (round(tensor.shape[1] ** 0.5) for tensor in (small, large))
        near = torch.arange(wide).clamp(max=side - 1)
        return small.unflatten(1, (side, side))[:, near][:, :, near].flatten(1)
    if small.ndim == 4:  # (rows, columns / 2 + 1, C, 2), complex weights of spatial frequencies
        grown, half = large.clone(), small.shape[0] // 2
        grown[:half, : half + 1] = small[:half]
        grown[-half:, : half + 1] = small[-half:]
        return grown
    return F.interpolate(small[None], large.shape[1:], mode="bilinear")[0]  # (3, rows, columns), weights of pixels
