"""Every number that changes an embedding: pass bands, wavelet, frames ... of an image, and sizes of the network.

`Recipe` and `Architecture` are frozen and travel with the weights in `config.json`, so that weights and the images they
were trained on cannot part: another default here changes nothing for weights that exist. What changes only speed or
place (batch size, device, threads) is never here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import ConfigError, unknown

PRECISIONS = ("float32", "bfloat16")  # that a network can be run with
IMAGE_SIZE = 224  # pixels a side; the input LayerNorm has one weight a pixel, so no other size exists
LAST_ROWS = -(-IMAGE_SIZE // 32), -(-IMAGE_SIZE // 64)  # of the last maps of encoder 1 and encoder 2: 7 and 4
LARGEST = 1024  # of any width: a stranger's config.json must not build a network without end
FORMAT = "tiny-biomoe/1"  # layout of config.json itself


@dataclass(frozen=True)
class ModalityRecipe:
    """How one modality is filtered and which frequencies its images show.

    `low` and `high` are in Hz; `low=None` means the axis begins at one period of the signal's duration.
    Where `filtered` is false the band is only looked at, not cut out (the paper's ECG, EMG and EEG).
    """

    name: str
    low: float | None
    high: float
    filtered: bool


@dataclass(frozen=True)
class Recipe:
    """Signal to image, in numbers (paper, section 3.2; what the paper leaves open is fixed here)."""

    version: str = "1"
    modalities: tuple[ModalityRecipe, ...] = (
        ModalityRecipe("eda", None, 5.0, True),
        ModalityRecipe("bvp", 0.04, 1.7, True),
        ModalityRecipe("resp", 0.05, 0.5, True),
        ModalityRecipe("spo2", 0.04, 1.7, True),
        ModalityRecipe("ecg", None, 50.0, False),
        ModalityRecipe("emg", None, 450.0, False),
        ModalityRecipe("eeg", None, 50.0, False),
    )
    filter_order: int = 4  # Butterworth, run forwards and backwards: 48 dB down an octave outside the band
    minimum_samples: int = 16  # fewer have no time-frequency content to draw
    minimum_periods: float = 2.0  # of the band's upper edge, so that the frequency axis spans an octave
    frame_fraction: float = 0.5  # spectrogram frame, as a share of the signal's duration ...
    frame_steps: float = 0.5  # ... and at most this many cycles a frequency row, so that phase unwraps
    psd_range_db: float = 80.0  # shown below the loudest cell
    morlet_omega: float = 6.0  # radians of carrier within one standard deviation of the envelope
    scalogram_gamma: float = 0.5  # < 1 lifts faint components
    recurrence_dimension: int = 3  # delay-embedding dimension
    recurrence_delay: float = 0.25  # in periods of the band's geometric-mean frequency
    waveform_thickness: float = 2.0  # of the trace, in pixels
    waveform_margin: float = 4.0  # above and below the trace, in pixels
    scale_percentiles: tuple[float, float] = (1.0, 99.0)  # of the recording, for scale="recording"
    palette: str = "viridis"

    def __post_init__(self) -> None:
        if self.palette != "viridis":
            raise unknown("palette", self.palette, ["viridis"])
        reach = (self.recurrence_dimension - 1) * self.recurrence_delay  # of a state, in periods
        low, high = self.scale_percentiles
        possible = {
            "filter_order": 1 <= self.filter_order <= 10,
            "minimum_samples": self.minimum_samples >= 4,
            "minimum_periods": self.minimum_periods >= 2,
            "frame_fraction": 0 < self.frame_fraction <= 1,
            "frame_steps": 0 < self.frame_steps <= 1,
            "psd_range_db": self.psd_range_db > 0,
            "morlet_omega": self.morlet_omega > 0,
            "scalogram_gamma": self.scalogram_gamma > 0,
            "recurrence_dimension": 1 <= self.recurrence_dimension <= 16,
            "recurrence_delay": 0 <= reach < math.sqrt(self.minimum_periods) if self.minimum_periods >= 0 else True,
            "waveform_thickness": self.waveform_thickness > 0,
            "waveform_margin": 0 <= self.waveform_margin < IMAGE_SIZE / 2,
            "scale_percentiles": 0 <= low < high <= 100,
            "modalities": bool(self.modalities) and all(0 <= (row.low or 0) < row.high for row in self.modalities),
        }
        for name, drawable in possible.items():
            if not drawable:
                raise ConfigError(f"recipe: {name}={getattr(self, name)!r}: nothing can be drawn with it")

    def modality(self, name: str) -> ModalityRecipe:
        """The row of the modality table called `name` (canonical name)."""
        for row in self.modalities:
            if row.name == name:
                return row
        raise unknown("modality", name, [row.name for row in self.modalities])


@dataclass(frozen=True)
class Architecture:
    """The network, in numbers (paper, section 3.1, and the layout of the released checkpoint)."""

    spectral_widths: tuple[int, ...] = (64, 128, 320, 96)
    spectral_mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    spectral_heads: tuple[int, ...] = (0, 0, 10, 16)  # 0: the stage mixes tokens by a spectral filter
    stem_width: int = 32
    waterfall_widths: tuple[int, ...] = (192, 288, 96)
    waterfall_heads: tuple[int, ...] = (3, 3, 4)
    waterfall_key_dim: int = 16
    waterfall_kernels: tuple[int, ...] = (7, 5, 3, 3)  # of the depthwise convolution on head 1, 2, ...'s query
    waterfall_window: int = 7  # tokens a side
    gate: str = "released"  # "released": hardtanh(W elu(z) + b); "paper": hardtanh(elu(W z + b)), Eq. 5

    def __post_init__(self) -> None:
        if self.gate not in ("released", "paper"):
            raise unknown("gate", self.gate, ["released", "paper"])
        spectral, waterfall = self.spectral_widths, self.waterfall_widths
        possible = {
            "spectral_widths": len(spectral) == 4 and all(1 <= width <= LARGEST for width in spectral),
            "spectral_mlp_ratios": len(self.spectral_mlp_ratios) == 4
            and all(1 <= r <= 64 for r in self.spectral_mlp_ratios),
            "spectral_heads": len(self.spectral_heads) == 4
            and self.spectral_heads[-1] > 0
            and all(
                h == 0 or (h > 0 and width % h == 0) for width, h in zip(spectral, self.spectral_heads, strict=False)
            ),
            "stem_width": 1 <= self.stem_width <= LARGEST,
            "waterfall_widths": len(waterfall) == 3 and all(8 <= width <= LARGEST for width in waterfall),
            "waterfall_heads": len(self.waterfall_heads) == 3
            and all(h > 0 and width % h == 0 for width, h in zip(waterfall, self.waterfall_heads, strict=False)),
            "waterfall_key_dim": 1 <= self.waterfall_key_dim <= LARGEST,
            "waterfall_kernels": len(self.waterfall_kernels) >= max(self.waterfall_heads, default=0)
            and all(1 <= kernel <= 15 and kernel % 2 for kernel in self.waterfall_kernels),
            "waterfall_window": self.waterfall_window >= 1
            and all(side % min(side, self.waterfall_window) == 0 for side in (14, 7, 4)),  # tokens a side of each stage
        }
        for name, buildable in possible.items():
            if not buildable:
                raise ConfigError(
                    f"architecture: {name}={str(getattr(self, name))[:80]}: no network can be built with it"
                )
        if spectral[-1] != waterfall[-1]:
            raise ConfigError(
                f"the encoders end in {spectral[-1]} and {waterfall[-1]} channels, yet share one gate: make them equal"
            )

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding: both encoders' outputs side by side."""
        return self.spectral_widths[-1] + self.waterfall_widths[-1]

    @property
    def rows_dim(self) -> int:
        """Length of a vector of readout "rows": of both encoders' last maps each row's channels."""
        return LAST_ROWS[0] * self.spectral_widths[-1] + LAST_ROWS[1] * self.waterfall_widths[-1]


@dataclass(frozen=True)
class Config:
    """What `config.json` holds."""

    name: str = "untrained"  # of the weights
    architecture: Architecture = dataclasses.field(default_factory=Architecture)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def to_json(self, **more: str) -> str:
        """Text of `config.json`; `more` are extra facts (such as the weights' sha256)."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self), **more}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "config.json") -> tuple[Config, dict[str, Any]]:
        """Read what `to_json` wrote: the config, and the extra facts as a dict.

        Raises
        ------
        ConfigError
            Not JSON, another format, an unknown or missing key, or a value of another type.
        """
        try:
            data = json.loads(text, object_pairs_hook=_refuse_repeats)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{source}: not a valid JSON configuration ({error})") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ConfigError(f"{source}: format is {found!r}, expected {FORMAT!r}; was it written by tiny_biomoe?")
        known = {field.name for field in dataclasses.fields(cls)}
        extra = {key: value for key, value in data.items() if key not in known | {"format"}}
        if unknown_keys := set(extra) - {"sha256"}:
            raise ConfigError(f"{source}: unknown key {min(unknown_keys)!r}; the keys are {sorted(known | {'sha256'})}")
        config = _build(cls, {key: data[key] for key in known & data.keys()}, source)
        return config, extra


def config_digest(part: Config | Recipe) -> str:
    """sha256 of everything in it, however the JSON is laid out and whether a number was written 80 or 80.0."""
    return plain_digest(dataclasses.asdict(part))


def plain_digest(values: dict[str, Any]) -> str:
    """The same of its values, as a file holds them."""
    plain = json.loads(json.dumps(values), parse_int=float)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


T = TypeVar("T")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = {key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1}
    if repeated:
        raise ValueError(f"key {min(repeated)!r} appears twice")
    return dict(pairs)


def _build(kind: type[T], data: Any, where: str) -> T:
    """A frozen dataclass from plain JSON values, refusing unknown keys, missing keys and other types."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected an object, got {data!r}")
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}; the keys are {sorted(fields)}")
    if missing := fields.keys() - data.keys():
        raise ConfigError(f"{where}: key {min(missing)!r} is missing")
    return kind(**{key: _value(fields[key].type, data[key], f"{where}: {key}") for key in fields})


def _value(annotation: Any, value: Any, where: str) -> Any:
    nested = {"Architecture": Architecture, "Recipe": Recipe}
    if annotation in nested:
        return _build(nested[annotation], value, where)
    if annotation == "tuple[ModalityRecipe, ...]":
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_build(ModalityRecipe, row, f"{where}[{index}]") for index, row in enumerate(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    right = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": is_number and isinstance(value, int),
        "float": is_number,
        "float | None": is_number or value is None,
        "tuple[int, ...]": isinstance(value, list) and all(type(item) is int for item in value),
        "tuple[float, float]": isinstance(value, list)
        and len(value) == 2
        and all(type(i) in (int, float) and abs(i) <= sys.float_info.max for i in value),
    }
    if not right[annotation]:
        raise ConfigError(f"{where}: expected {annotation}, got {value!r}")
    if "float" in annotation:
        return tuple(map(float, value)) if isinstance(value, list) else None if value is None else float(value)
    return tuple(value) if isinstance(value, list) else value
