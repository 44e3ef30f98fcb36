"""Images varied at random while a classifier learns (paper, section 3.4); never when it is asked or scored.

A cascade in this order: AugMix, TrivialAugment, centre crop, Gaussian blur, two Cutout masks. Every draw is made anew
for each image of each batch, by a NumPy generator that the caller seeds, so a step's images depend on no other step and
on no device. Each piece is the identity at magnitude zero. Operations on pixels are kornia's; their mixing is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from kornia import enhance, filters
from kornia.geometry import transform
from numpy.typing import NDArray
from torch import Tensor

from ..config import IMAGE_SIZE
from ..errors import ConfigError

BLOCK = 32  # pixels a side of one Cutout block
HOLE = 0.0  # what a block is filled with: black, which viridis does not hold, so a hole is no low value
BLUR_KERNEL = 13  # pixels a side: three standard deviations of the widest blur on either side
NARROWEST_BLUR = 0.05  # pixels; less changes nothing, and a Gaussian of no width does not exist
Draws = NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """How far images are varied. The paper names the pieces; the numbers are ours, and all zeros is no variation."""

    augmix_chains: int = 3  # each of one to `augmix_depth` operations
    augmix_depth: int = 3
    augmix_magnitude: float = 0.3  # largest of an operation in a chain, as a share of `REACH`
    trivial_magnitude: float = 0.5  # largest of the single operation
    crop_probability: tuple[float, float] = (0.2, 0.6)  # range that each image's probability of a crop is drawn from
    crop_smallest: float = 0.7  # side of the crop, as a share of the image's; 1 crops nothing
    blur_probability: float = 0.3
    blur_sigma: float = 2.0  # largest standard deviation, pixels
    cutout_few: tuple[int, int] = (1, 3)  # blocks of the first mask, both ends included
    cutout_many: tuple[int, int] = (4, 10)  # blocks of the second; overlaps are allowed

    def __post_init__(self) -> None:
        low, high = self.crop_probability
        possible = {
            "augmix_chains": 0 <= self.augmix_chains <= 10,
            "augmix_depth": 1 <= self.augmix_depth <= 10,
            "augmix_magnitude": 0 <= self.augmix_magnitude <= 1,
            "trivial_magnitude": 0 <= self.trivial_magnitude <= 1,
            "crop_probability": 0 <= low <= high <= 1,
            "crop_smallest": 0 < self.crop_smallest <= 1,
            "blur_probability": 0 <= self.blur_probability <= 1,
            "blur_sigma": 0 <= self.blur_sigma <= BLUR_KERNEL / 6,
            "cutout_few": 0 <= self.cutout_few[0] <= self.cutout_few[1],
            "cutout_many": 0 <= self.cutout_many[0] <= self.cutout_many[1],
        }
        for name, drawable in possible.items():
            if not drawable:
                raise ConfigError(f"augmentation: {name}={getattr(self, name)!r} cannot be drawn")


NONE = Augmentation(0, 1, 0.0, 0.0, (0.0, 0.0), 1.0, 0.0, 0.0, (0, 0), (0, 0))


def augment(pixels: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Vary each image of a batch: (B, 3, 224, 224) in [0, 1] to the same; the input is not changed."""
    pixels = pixels.contiguous()
    pixels = augmix(pixels, rng, augmentation.augmix_chains, augmentation.augmix_depth, augmentation.augmix_magnitude)
    pixels = trivial(pixels, rng, augmentation.trivial_magnitude)
    pixels = centre_crop(pixels, rng, augmentation.crop_probability, augmentation.crop_smallest)
    pixels = blur(pixels, rng, augmentation.blur_probability, augmentation.blur_sigma)
    pixels = cutout(pixels, rng, augmentation.cutout_few)
    return cutout(pixels, rng, augmentation.cutout_many)


def augmix(pixels: Tensor, rng: np.random.Generator, chains: int, depth: int, magnitude: float) -> Tensor:
    """The image blended with a mixture of randomly varied copies of itself.

    With weights w ~ Dirichlet(1, ..., 1) over the chains and m ~ Beta(1, 1): `(1 - m) x + m sum_i w_i chain_i(x)`.
    """
    if not chains or not magnitude:
        return pixels
    n = len(pixels)
    weights = rng.dirichlet(np.ones(chains), n)  # (B, chains)
    share = rng.beta(1.0, 1.0, n)
    mixture = torch.zeros_like(pixels)
    for chain in range(chains):
        varied, length = pixels, rng.integers(1, depth + 1, n)
        for place in range(depth):
            drawn = one_operation(varied, rng, magnitude)
            varied = torch.where(_column(place < length, pixels).bool(), drawn, varied)
        mixture = mixture + _column(weights[:, chain], pixels) * varied
    m = _column(share, pixels)
    return (1 - m) * pixels + m * mixture


def trivial(pixels: Tensor, rng: np.random.Generator, magnitude: float) -> Tensor:
    """TrivialAugment: one operation drawn evenly from all, at a magnitude drawn evenly up to the largest."""
    return one_operation(pixels, rng, magnitude) if magnitude else pixels


def one_operation(pixels: Tensor, rng: np.random.Generator, magnitude: float) -> Tensor:
    """Each image through an operation of its own, at a magnitude and with a sign of its own."""
    n = len(pixels)
    which = rng.integers(len(OPERATIONS), size=n)
    signed = rng.uniform(0.0, magnitude, n) * rng.choice([-1.0, 1.0], n)
    varied = pixels.clone()
    for index, operation in enumerate(OPERATIONS.values()):
        mine = np.flatnonzero(which == index)
        if mine.size:
            place = torch.from_numpy(mine).to(pixels.device)
            varied[place] = operation(pixels[place], _tensor(signed[mine], pixels)).clamp(0.0, 1.0)
    return varied


# How far each operation goes at magnitude 1; its sign is drawn where it has one.
ENHANCE_REACH = 0.9  # of a factor, around 1
ROTATE_REACH = 30.0  # degrees
SHEAR_REACH = 0.3  # pixels sideways a pixel upwards
TRANSLATE_REACH = IMAGE_SIZE / 3  # pixels
POSTERIZE_REACH = 5  # bits of the eight that are dropped


def _toward(filtered: Tensor, pixels: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend an operation that knows no magnitude into the image by one."""
    share = magnitudes.abs().reshape(-1, 1, 1, 1)
    return pixels + share * (filtered - pixels)


def _shear(x: Tensor, horizontal: Tensor, vertical: Tensor) -> Tensor:
    return transform.shear(x, torch.stack([horizontal, vertical], 1))


def _translate(x: Tensor, right: Tensor, down: Tensor) -> Tensor:
    return transform.translate(x, torch.stack([right, down], 1))


Operation = Callable[[Tensor, Tensor], Tensor]  # (n, 3, 224, 224) and magnitudes (n,) in [-1, 1] to images
OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda x, m: _toward(enhance.normalize_min_max(x), x, m),
    "brightness": lambda x, m: enhance.adjust_brightness_accumulative(x, 1 + m * ENHANCE_REACH),
    "contrast": lambda x, m: enhance.adjust_contrast_with_mean_subtraction(x, 1 + m * ENHANCE_REACH),
    "colour": lambda x, m: enhance.adjust_saturation_with_gray_subtraction(x, 1 + m * ENHANCE_REACH),
    "equalize": lambda x, m: _toward(enhance.equalize(x.cpu()).to(x), x, m),  # on CUDA its sums are not deterministic
    "posterize": lambda x, m: enhance.posterize(x, (8 - m.abs() * POSTERIZE_REACH).round().int()),
    "rotate": lambda x, m: transform.rotate(x, m * ROTATE_REACH),
    "sharpness": lambda x, m: enhance.sharpness(x, 1 + m * ENHANCE_REACH),
    "shear_x": lambda x, m: _shear(x, m * SHEAR_REACH, 0 * m),
    "shear_y": lambda x, m: _shear(x, 0 * m, m * SHEAR_REACH),
    "solarize": lambda x, m: enhance.solarize(x, 1.01 - m.abs()),
    "translate_x": lambda x, m: _translate(x, m * TRANSLATE_REACH, 0 * m),
    "translate_y": lambda x, m: _translate(x, 0 * m, m * TRANSLATE_REACH),
}


def centre_crop(pixels: Tensor, rng: np.random.Generator, probability: tuple[float, float], smallest: float) -> Tensor:
    """Crop the centre of some images and enlarge it to the full size.

    Each image draws its probability from the range, then whether it is cropped, then the crop's side.
    """
    n = len(pixels)
    cropped = rng.uniform(size=n) < rng.uniform(*probability, n)
    side = rng.uniform(smallest, 1.0, n)
    if not cropped.any() or smallest == 1.0:
        return pixels
    place = torch.from_numpy(np.flatnonzero(cropped)).to(pixels.device)
    factor = _tensor(1 / side[cropped], pixels)
    varied = pixels.clone()
    varied[place] = transform.scale(pixels[place], torch.stack([factor, factor], 1)).clamp(0.0, 1.0)
    return varied


def blur(pixels: Tensor, rng: np.random.Generator, probability: float, sigma: float) -> Tensor:
    """Blur some images by a Gaussian whose standard deviation is drawn evenly up to `sigma` pixels."""
    n = len(pixels)
    blurred = (rng.uniform(size=n) < probability) & ((width := rng.uniform(0.0, sigma, n)) > NARROWEST_BLUR)
    if not blurred.any():
        return pixels
    place = torch.from_numpy(np.flatnonzero(blurred)).to(pixels.device)
    widths = _tensor(width[blurred], pixels)
    varied = pixels.clone()
    varied[place] = filters.gaussian_blur2d(pixels[place], BLUR_KERNEL, torch.stack([widths, widths], 1))
    return varied


def cutout(pixels: Tensor, rng: np.random.Generator, blocks: tuple[int, int]) -> Tensor:
    """Hide blocks of 32 x 32 pixels, as many as each image draws from the range, each wholly inside the image."""
    low, high = blocks
    if not high:
        return pixels
    mask = np.ones((len(pixels), 1, IMAGE_SIZE, IMAGE_SIZE), bool)
    for image, count in zip(mask, rng.integers(low, high + 1, len(pixels)), strict=True):
        for top, left in rng.integers(0, IMAGE_SIZE - BLOCK + 1, (count, 2)):
            image[0, top : top + BLOCK, left : left + BLOCK] = False
    return torch.where(torch.from_numpy(mask).to(pixels.device), pixels, HOLE)


def _tensor(values: Draws, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(like)


def _column(values: NDArray[Any], like: Tensor) -> Tensor:
    """One number an image, shaped to multiply images: (B,) to (B, 1, 1, 1)."""
    return _tensor(np.asarray(values, np.float64), like).reshape(-1, 1, 1, 1)
