"""Images: a matrix to 256 levels, levels to viridis, and the public `render`.

A picture is kept as its (224, 224) map of bytes, which is what workers pass on; colour is one look-up away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE, Recipe
from ..errors import ConfigError, SignalError
from ..signals.filters import MODALITY_BAND, Passband
from ..signals.request import Call, Limits
from ..signals.validation import Signal, check_signals
from .representations import REPRESENTATIONS, Matrix

if TYPE_CHECKING:
    from PIL import Image  # imported where pictures are read or pasted: drawing levels needs no Pillow

LARGEST_IMAGE = 2**26  # pixels; a larger one is more likely to be an attack than a picture of a signal
Levels = NDArray[np.uint8]  # (224, 224), indices into the palette

# The viridis palette, by Nathaniel Smith and Stefan van der Walt, dedicated to the public domain (CC0): RGB bytes.
PALETTE = np.frombuffer(
    bytes.fromhex(
        "44015444025544035745055845065a45085b46095c460b5e460c5f460e61470f62471163471265471466471567471669"
        "47186a48196b481a6c481c6e481d6f481e70482071482172482273482374472575472676472777472878472a79472b7a"
        "472c7b462d7c462f7c46307d46317e45327f45347f453580453681443781443982433a83433b83433c84423d84423e85"
        "4240854141864142864043874044873f45873f47883e48883e49893d4a893d4b893d4c893c4d8a3c4e8a3b508a3b518a"
        "3a528b3a538b39548b39558b38568b38578c37588c37598c365a8c365b8c355c8c355d8c345e8d345f8d33608d33618d"
        "32628d32638d31648d31658d31668d30678d30688d2f698d2f6a8d2e6b8e2e6c8e2e6d8e2d6e8e2d6f8e2c708e2c718e"
        "2c728e2b738e2b748e2a758e2a768e2a778e29788e29798e287a8e287a8e287b8e277c8e277d8e277e8e267f8e26808e"
        "26818e25828e25838d24848d24858d24868d23878d23888d23898d22898d228a8d228b8d218c8d218d8c218e8c208f8c"
        "20908c20918c1f928c1f938b1f948b1f958b1f968b1e978a1e988a1e998a1e998a1e9a891e9b891e9c891e9d881e9e88"
        "1e9f881ea0871fa1871fa2861fa38620a48520a58521a68521a78422a78423a88323a98224aa8225ab8126ac8127ad80"
        "28ae7f29af7f2ab07e2bb17d2cb17d2eb27c2fb37b30b47a32b57a33b67935b77836b87738b97639b9763bba753dbb74"
        "3ebc7340bd7242be7144be7045bf6f47c06e49c16d4bc26c4dc26b4fc36951c46853c56755c66657c66559c7645bc862"
        "5ec96160c96062ca5f64cb5d67cc5c69cc5b6bcd596dce5870ce5672cf5574d05477d05279d1517cd24f7ed24e81d34c"
        "83d34b86d44988d5478bd5468dd64490d64392d74195d73f97d83e9ad83c9dd93a9fd938a2da37a5da35a7db33aadb32"
        "addc30afdc2eb2dd2cb5dd2bb7dd29bade27bdde26bfdf24c2df22c5df21c7e01fcae01ecde01dcfe11cd2e11bd4e11a"
        "d7e219dae218dce218dfe318e1e318e4e318e7e419e9e419ece41aeee51bf1e51cf3e51ef6e61ff8e621fae622fde724"
    ),
    np.uint8,
).reshape(256, 3)

ROUNDING = 1e-6  # recurrence distances, of a signal that spans 2, below which they are rounding alone


def to_levels(matrix: Matrix, representation: str, recipe: Recipe, own_range: bool) -> Levels:
    """Quantise a matrix to 256 levels.

    With `own_range` the image spans what it holds; otherwise it spans what a signal that fills the given
    scale could hold, so that two windows of one recording can be compared (angle and phase know no scale).
    """
    if representation == "angle":
        unit = matrix + np.pi
        unit /= 2 * np.pi
    elif representation == "phase":
        unit = matrix - matrix.min()
        if (span := unit.max()) > 0:
            unit /= span
    elif representation == "psd":
        unit = matrix - (matrix.max() if own_range else 0.0)
        unit /= recipe.psd_range_db
        unit += 1.0
    elif representation == "waveform":
        unit = matrix.copy()
    else:
        farthest = 1.0 if representation == "scalogram" else 2.0 * np.sqrt(recipe.recurrence_dimension)
        unit = matrix / (matrix.max() if own_range else farthest)
        if representation == "scalogram":
            unit **= recipe.scalogram_gamma
    if representation == "psd" or not own_range:  # the others end at 0 and 1 by themselves
        np.clip(unit, 0.0, 1.0, out=unit)
    unit *= 255.0
    unit += 0.5
    return np.ascontiguousarray(unit.astype(np.uint8))  # brought into order as bytes, an eighth of the memory


def draw(
    filtered: Signal,
    fs: float,
    edges: Passband,
    representation: str,
    recipe: Recipe,
    limits: Limits | None = None,
    *,
    noise: float = 0.0,
    where: str = "signal",
) -> Levels:
    """One representation of a checked, filtered signal.

    Parameters
    ----------
    filtered : (n_samples,), finite
    representation : canonical name
    limits : what the image spans, in the signal's units; None for the signal's own minimum and maximum
    noise : a signal that spans no more than this, in its units, is flat
    where : what an error calls the signal

    Raises
    ------
    SignalError
        Flat, and no limits are given: the image would be of rounding noise.
    """
    low, high = limits or (filtered.min(), filtered.max())
    if not high - low > noise:
        raise SignalError(
            f"{where} is flat: all {filtered.size} samples are {filtered[0]:g}, so an image of its range shows "
            "nothing; check the sensor, or pass scale=(low, high) to keep its level"
        )
    unit = (filtered - low) / (high - low) * 2 - 1  # the limits become -1 and 1
    matrix = REPRESENTATIONS[representation](unit, fs, edges.shown(filtered.size / fs), recipe)
    levels = to_levels(matrix, representation, recipe, own_range=limits is None)
    nothing = representation == "recurrence" and matrix.max() < ROUNDING
    if limits is None and (nothing or (levels == levels[0, 0]).all()):
        raise SignalError(f"the {representation} of {where} is one single value: choose another representation")
    return levels


def draw_all(
    filtered: Signal, call: Call, limits: Limits | None = None, *, noise: float = 0.0, where: str = "signal"
) -> Iterator[Levels]:
    """The representations that a call asks for, of one signal it has prepared."""
    for name in call.representations:
        yield draw(filtered, call.fs, call.edges, name, call.recipe, limits, noise=noise, where=where)


def colour(levels: Levels) -> NDArray[np.uint8]:
    """Levels to RGB: (..., 224, 224) to (..., 224, 224, 3)."""
    return PALETTE[levels]


def render(
    signal: Any,
    fs: float,
    modality: str,
    representation: str = "scalogram",
    *,
    band: Any = MODALITY_BAND,
    scale: Any = "window",
    recipe: Recipe = Recipe(),
) -> NDArray[np.uint8]:
    """The image of one signal, as the network sees it.

    Parameters
    ----------
    signal : (n_samples,), any real dtype
    fs : sampling rate, Hz
    modality : "eda", "bvp", "resp", "spo2", "ecg", "emg" or "eeg", or an alias
    representation : "angle", "phase", "psd", "recurrence", "scalogram" or "waveform"
    band : "modality" (the paper's filter), None (no filter), or (low, high) in Hz
    scale : "window" (the signal's own range) or (low, high) in the signal's units

    Returns
    -------
    image : (224, 224, 3) uint8, time from left to right, low frequencies at the bottom

    Raises
    ------
    SignalError
        The signal or its rate cannot be used; the message says why.
    ConfigError
        An argument is not one of its choices.

    Examples
    --------
    >>> import pywt
    >>> render(pywt.data.ecg(), fs=360, modality="ecg", representation="waveform").shape
    (224, 224, 3)
    """
    call = Call.check(recipe, fs, modality, representation, band=band, scale=scale)
    if len(call.representations) != 1:
        raise ConfigError(f"render draws one representation, not {len(call.representations)}: call once for each")
    filtered = _prepare_one(signal, call)
    return colour(draw(filtered, call.fs, call.edges, call.representations[0], recipe, call.limits))


def contact_sheet(
    signal: Any,
    fs: float,
    modality: str,
    *,
    band: Any = MODALITY_BAND,
    scale: Any = "window",
    recipe: Recipe = Recipe(),
) -> Image.Image:
    """All six representations of one signal in one titled picture, 3 x 2; arguments as in `render`."""
    from PIL import Image, ImageDraw

    call = Call.check(recipe, fs, modality, list(REPRESENTATIONS), band=band, scale=scale)
    filtered = _prepare_one(signal, call)
    gap, title = 12, 22
    sheet = Image.new("RGB", (3 * (IMAGE_SIZE + gap) + gap, 2 * (IMAGE_SIZE + title + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, levels in enumerate(draw_all(filtered, call, call.limits)):
        left = gap + index % 3 * (IMAGE_SIZE + gap)
        top = index // 3 * (IMAGE_SIZE + title + gap)
        pen.text((left, top + 5), call.representations[index], fill="black", font_size=13)
        sheet.paste(Image.fromarray(colour(levels)), (left, top + title))
    return sheet


def _prepare_one(signal: Any, call: Call) -> Signal:
    rows, _ = check_signals(signal)
    if len(rows) != 1:
        raise SignalError(f"pictures are drawn of one signal, (n_samples,), not of {len(rows)}: call once for each")
    return call.prepare(rows[0])[0]


def read_images(images: Any) -> tuple[Iterator[NDArray[np.uint8]], bool]:
    """Pictures from wherever they are, each as (224, 224, 3) uint8, and whether one was given rather than a list.

    Raises
    ------
    SignalError
        Not a picture, too large to be one, or an array of another shape or dtype.
    """
    if isinstance(images, list | tuple | np.ndarray) and len(images) == 0:
        raise SignalError("images is empty: give at least one picture")
    single = not isinstance(images, list | tuple) and not (isinstance(images, np.ndarray) and images.ndim == 4)
    return (_read_image(image, index) for index, image in enumerate([images] if single else images)), single


def _read_image(source: Any, index: int) -> NDArray[np.uint8]:
    from PIL import Image

    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise SignalError(
                f"image {index} has shape {source.shape} and dtype {source.dtype}: expected (height, width, 3) uint8"
            )
        source = Image.fromarray(source)
    try:
        if isinstance(source, Image.Image):
            return _fit(source, index)
        with Image.open(source) as opened:
            return _fit(opened, index)
    except (OSError, SyntaxError, Image.DecompressionBombError, AttributeError, TypeError) as error:
        raise SignalError(f"image {index}, {source!r}, cannot be read as a picture ({error})") from error


def _fit(image: Image.Image, index: int) -> NDArray[np.uint8]:
    from PIL import Image

    if image.width * image.height > LARGEST_IMAGE:
        raise SignalError(f"image {index} has {image.width} x {image.height} pixels, over {LARGEST_IMAGE}: refused")
    rgb = image.convert("RGB")
    if rgb.size != (IMAGE_SIZE, IMAGE_SIZE):
        rgb = rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(rgb)
