"""The main path: signals to vectors with one set of weights, frozen, without torch where it is not needed.

    signal -> validated, filtered -> images -> network -> fused vectors

`embed` uses the bundled weights. An `Embedder` holds any others; `TinyBioMoE.embed` uses one of its own weights, so
both give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import Architecture, Config, Recipe, config_digest
from .errors import ConfigError, SignalError, WeightsError, one_warning_a_kind, unknown, warn
from .images.rendering import Levels, draw_all, read_images
from .images.windows import FilteredRecording
from .inference.backends import Backend, make_backend
from .inference.many_images import embed_levels
from .signals.filters import MODALITY_BAND
from .signals.quality import Quality
from .signals.request import Call, check_readout
from .signals.validation import Signal, check_missing, check_positive, check_share, check_signals, windows
from .version import __version__
from .weights import loading
from .weights.tensor_files import Tensors

Embeddings = NDArray[np.float32]  # (192,) or (n, 192); k * 192 where k representations are concatenated
ON_BAD = ("error", "nan", "skip")


@dataclass(frozen=True)
class WindowEmbeddings:
    """What `embed_windows` gives: row i belongs to the window from `starts[i]` to `stops[i]`."""

    embeddings: NDArray[np.float32]  # (n, 192)
    starts: NDArray[np.float64]  # (n,), seconds from the recording's first sample
    stops: NDArray[np.float64]  # (n,), seconds
    missing: NDArray[np.float64]  # (n,), share of samples that were interpolated or padded
    flat: NDArray[np.float64]  # (n,), share of samples equal to the one before
    clipped: NDArray[np.float64]  # (n,), share of samples resting on the window's extremes
    provenance: dict[str, Any]
    failures: tuple[str, ...] = ()  # why windows have no vector, with on_bad="nan" or "skip"

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        spans: Sequence[tuple[int, int]],
        fs: float,
        qualities: list[Quality],
        provenance: dict[str, Any],
        failures: Iterable[str] = (),
    ) -> WindowEmbeddings:
        """From spans in samples and one quality a window."""
        times = np.array(spans, np.float64).reshape(-1, 2) / fs
        shares = np.array([(q.missing, q.flat, q.clipped) for q in qualities], np.float64).reshape(-1, 3)
        return cls(
            vectors, times[:, 0], times[:, 1], shares[:, 0], shares[:, 1], shares[:, 2], provenance, tuple(failures)
        )


class SignalEmbedding:
    """The methods that `Embedder` and `TinyBioMoE` share: signals, recordings and pictures to vectors."""

    def frozen(self) -> Embedder:
        """The weights as they are now, and what computes them."""
        raise NotImplementedError

    @one_warning_a_kind()
    def embed(
        self,
        signals: Any,
        fs: float,
        modality: str,
        representation: str | list[str] = "scalogram",
        *,
        fusion: str = "concat",
        readout: str = "embedding",
        window: float | None = None,
        stride: float | None = None,
        short: str = "error",
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
        max_missing: float = 1.0,
        on_bad: str = "error",
        batch_size: int = 32,
    ) -> Embeddings:
        """Signals to vectors.

        Parameters
        ----------
        signals
            One signal, (n_samples,); or several: (n_signals, n_samples), or a list whose items may differ in
            length. Any real dtype; float64 is what is computed with.
        fs
            Sampling rate, Hz.
        modality
            "eda" (or "gsr"), "bvp" ("ppg"), "resp" ("rsp"), "spo2", "ecg", "emg" or "eeg".
        representation
            "angle", "phase", "psd", "recurrence", "scalogram" or "waveform", or a list of them.
        fusion
            Of several representations: "concat" (k * 192 numbers) or "add" (their sum, 192; paper, Table 5).
        readout
            "embedding", the paper's 192 numbers; or "rows", 1056 numbers in their place: the last map of encoder 1,
            7 rows of 96 channels, and that of encoder 2, 4 rows of 96, averaged over time alone. Row 0 is the upper end
            of the image, the highest frequency of a spectrogram or scalogram. Both come from the same pass.
        window, stride, short
            Seconds; cut one long recording into windows, as `embed_windows` does.
        band
            "modality" (the paper's filter), None (no filter) or (low, high) in Hz.
        scale
            What an image spans: "window" (its own range), "recording" (with `window`: the 1st to 99th percentile of
            the filtered recording) or (low, high) in the signal's units. With a (low, high) that does not hold 0 the
            level is meant, so no high-pass is applied; provenance says so.
        nan_policy, max_gap
            "error", or "interpolate" gaps of up to `max_gap` seconds.
        max_missing
            Share of a signal's, or with `window` of a window's, samples that may be missing and interpolated; one with
            more cannot be used.
        on_bad
            What a signal, or with `window` a window, that cannot be used does to the others: "error" raises, "nan"
            gives it a row of NaN, "skip" leaves its row out; the last two warn once, with the reasons.
        batch_size
            Images on the device at once. On the CPU it changes no byte; elsewhere rounding, by some 1e-5.

        Returns
        -------
        (192,) float32 for one signal, (n, 192) for several or for windows; k * 192 for k concatenated representations;
        with readout="rows" 1056 in place of 192

        Raises
        ------
        SignalError
            A signal cannot be used; the message says which, where and what to do.
        ConfigError
            An argument is not one of its choices.
        """
        if window is not None:
            return self.embed_windows(
                signals, fs, modality, representation, fusion=fusion, readout=readout, window=window, stride=stride,
                short=short, band=band, scale=scale, nan_policy=nan_policy, max_gap=max_gap, max_missing=max_missing,
                on_bad=on_bad,
                batch_size=batch_size,
            ).embeddings  # fmt: skip
        if stride is not None or short != "error":
            raise ConfigError("stride= and short= need window=, in seconds")
        if on_bad not in ON_BAD:
            raise unknown("on_bad", on_bad, ON_BAD)
        core = self.frozen()
        call = Call.check(
            core.recipe, fs, modality, representation, fusion=fusion, readout=readout, band=band, scale=scale,
            nan_policy=nan_policy, max_gap=max_gap,
        )  # fmt: skip
        rows, single = check_signals(signals)
        bad: dict[int, str] = {}
        names = ("signal" if single else f"signal[{index}]" for index in range(len(rows)))
        check_share(max_missing, "max_missing")
        drawings = (partial(_draw_signal, row, call, name, max_missing) for row, name in zip(rows, names, strict=True))
        images = _images(drawings, bad if on_bad != "error" else None)
        vectors = _vectors(core, images, call, check_positive(batch_size, "batch_size"))
        if bad:
            vectors = _without_bad(vectors, bad, len(rows), on_bad)
        return vectors[0] if single and len(vectors) else vectors

    @one_warning_a_kind()
    def embed_windows(
        self,
        signal: Any,
        fs: float,
        modality: str,
        representation: str | list[str] = "scalogram",
        *,
        window: float,
        stride: float | None = None,
        short: str = "error",
        fusion: str = "concat",
        readout: str = "embedding",
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
        max_missing: float = 1.0,
        on_bad: str = "error",
        batch_size: int = 32,
        where: str = "signal",
    ) -> WindowEmbeddings:
        """Filter one recording, cut it into windows, and embed each.

        Parameters
        ----------
        signal : (n_samples,)
        window, stride : seconds; `stride` is `window` unless given
        short : what to do where the recording is shorter than one window: "error", "drop" (no rows, and a
            SignalWarning that says so), or "pad" (one row, lengthened by the last value)
        max_missing : share of a window's samples that may be interpolated or padded; one with more cannot be used
        on_bad : what a flat window, one of which too much is missing, or one in or beside a gap that is not
            interpolated, does to the others: "error" raises; "nan" gives it a row of NaN and "skip" none, with one
            warning and the reasons in `failures`
        where : what errors and warnings call the recording
        others : as in `embed`

        Returns
        -------
        WindowEmbeddings
            The vectors, with start and stop times, quality, and provenance.
        """
        core = self.frozen()
        call = Call.check(
            core.recipe, fs, modality, representation, fusion=fusion, readout=readout, band=band, scale=scale,
            nan_policy=nan_policy, max_gap=max_gap, windowed=True,
        )  # fmt: skip
        rows, single = check_signals(signal, where)
        if not single:
            raise SignalError(
                f"windows are cut from one recording, (n_samples,), and {len(rows)} were given: call once for each"
            )
        spans = windows(rows[0].size, call.fs, window, stride, short, where=where)
        call.check_window(spans.size, where)
        batch_size = check_positive(batch_size, "batch_size")
        step = window if stride is None else stride
        provenance = {**core.weights_facts(), **call.describe(), "window": float(window), "stride": float(step)}
        check_share(max_missing, "max_missing")
        if on_bad not in ON_BAD:
            raise unknown("on_bad", on_bad, ON_BAD)
        if not spans:
            warn(f"{where} lasts {rows[0].size / call.fs:g} s, less than one window of {window:g} s, and is dropped")
            nothing = _vectors(core, [], call, batch_size)
            return WindowEmbeddings.of(nothing, [], call.fs, [], provenance)
        if on_bad == "error":
            recording = FilteredRecording.of(rows[0], call, where, max_missing)
        else:
            recording = FilteredRecording.by_window(rows[0], call, where, max_missing)
        bad: dict[int, str] = {}
        drawings = (partial(_draw_window, recording, span) for span in spans)
        images = _images(drawings, bad if on_bad != "error" else None)
        vectors = _vectors(core, images, call, batch_size)
        kept = list(spans)
        if bad:
            vectors = _without_bad(vectors, bad, len(kept), on_bad, "windows")
            if on_bad == "skip":
                kept = [span for index, span in enumerate(kept) if index not in bad]
        qualities = [recording.quality(span) for span in kept]
        return WindowEmbeddings.of(vectors, kept, call.fs, qualities, provenance, bad.values())

    def embed_images(self, images: Any, *, readout: str = "embedding", batch_size: int = 32) -> Embeddings:
        """Embed pictures: PIL images, paths, or uint8 arrays (height, width, 3); one gives (192,), a list (n, 192).

        Anything but 224 x 224 is resized by PIL's bilinear filter, as the authors do. `readout` is that of `embed`.
        """
        check_readout(readout)
        pictures, single = read_images(images)
        vectors = _read(self.frozen(), pictures, readout, check_positive(batch_size, "batch_size"))
        return vectors[0] if single else vectors

    def provenance(self, fs: float, modality: str, representation: Any = "scalogram", **options: Any) -> dict[str, Any]:
        """Where the vectors of such a call come from, as plain values: weights, recipe, version, filter, scale.

        Arguments are those of `embed` but window, stride, short and batch_size; of windows `embed_windows` gives it.
        The weights' sha256 is their file's, or None (and the tensors' own digest) where they were changed since.
        """
        core = self.frozen()
        return {**core.weights_facts(), **Call.check(core.recipe, fs, modality, representation, **options).describe()}


class Embedder(SignalEmbedding):
    """One set of weights, frozen, and what computes it: see `SignalEmbedding` for what it does.

    `Embedder.from_pretrained` makes one. It needs torch only where PyTorch computes (see `inference.backends`). It can
    be pickled: weights of a file are then loaded anew where it arrives, others travel with it.

    Attributes
    ----------
    config : name, architecture, and the recipe of the images
    source : where the weights came from: "bundled", a folder or file, or "owner/name@<commit>"
    weights_sha256 : of the file that held them; None where they were changed since
    tensors_sha256 : of the tensors themselves
    backend : what computes
    """

    def __init__(
        self,
        config: Config,
        backend: Backend,
        source: str = "untrained",
        weights_sha256: str | None = None,
        tensors_sha256: str = "",
        tensors: Callable[[], Tensors] | None = None,
    ):
        self.config, self.backend, self.source = config, backend, source
        self.weights_sha256, self.tensors_sha256 = weights_sha256, tensors_sha256
        self._tensors = tensors

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        precision: str = "float32",
        backend: str | None = None,
        **hub: Any,
    ) -> Embedder:
        """Load weights, verified, for this machine's CPU.

        Parameters
        ----------
        source : as `TinyBioMoE.from_pretrained` takes it; None for the weights that come with the package
        precision : "float32", or "bfloat16" (faster; vectors differ in the second digit)
        backend : "native", "onnx" or "torch"; None for the first of them that this machine has
        hub : revision, token, cache_dir, force_download, local_files_only

        Raises
        ------
        WeightsError
            Not found, damaged, unsafe, or of another architecture; the message says what to do.
        ConfigError
            The backend cannot be had here.
        """
        weights = loading.load(source, **hub)
        repeated = {name: value for name, value in hub.items() if name != "force_download"}
        digest = loading.tensor_digest(weights.tensors)
        made = make_backend(weights.tensors, weights.config, precision, backend)  # may empty the dictionary
        again = partial(_tensors, source, repeated)
        return cls(weights.config, made, weights.source, weights.sha256, digest, again)

    def frozen(self) -> Embedder:
        """Itself: it does not change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._tensors is None:
            raise TypeError("an Embedder whose tensors are not kept cannot be pickled")
        tensors = self._tensors()
        if loading.tensor_digest(tensors) != self.tensors_sha256:
            raise WeightsError(f"{self.source}: the weights have changed since they were loaded: load them anew")
        facts = (self.source, self.weights_sha256, self.tensors_sha256)
        return _unpickled, (self.config, tensors, self.backend.precision, self.backend.name, *facts)

    @property
    def recipe(self) -> Recipe:
        """The images' numbers."""
        return self.config.recipe

    @property
    def architecture(self) -> Architecture:
        """The network's numbers."""
        return self.config.architecture

    def weights_facts(self) -> dict[str, Any]:
        """The part of the provenance that no call changes: weights, recipe, library, backend."""
        return {
            "library": f"tiny-biomoe {__version__}",
            "weights": self.config.name,
            "weights_source": self.source,
            "weights_sha256": self.weights_sha256,
            "tensors_sha256": self.tensors_sha256,
            "gate": self.architecture.gate,
            "recipe": self.recipe.version,
            "recipe_sha256": config_digest(self.recipe),
            **self.backend.facts(),
        }


def _read(core: Embedder, images: Iterable[Levels], readout: str, batch_size: int) -> Embeddings:
    """What is read from the network of each picture: (n, 192), or of readout "rows" (n, 1056)."""
    if readout == "embedding":
        return embed_levels(core.backend, images, batch_size)
    both = embed_levels(core.backend, images, batch_size, rows=True)
    return np.ascontiguousarray(both[:, core.architecture.embedding_dim :])


def _vectors(core: Embedder, images: Iterable[Levels], call: Call, batch_size: int) -> Embeddings:
    """One row a signal, of its k pictures' vectors side by side, or of their sum."""
    dim = core.architecture.rows_dim if call.readout == "rows" else core.architecture.embedding_dim
    parts = _read(core, images, call.readout, batch_size).reshape(-1, len(call.representations), dim)
    return parts.sum(axis=1) if call.fusion == "add" else parts.reshape(len(parts), np.prod(parts.shape[1:]))


def _tensors(source: str | os.PathLike[str] | None, hub: dict[str, Any]) -> Tensors:
    return loading.load(source, **hub).tensors


def _unpickled(
    config: Config, tensors: Tensors, precision: str, backend: str, source: str, file: str | None, digest: str
) -> Embedder:
    made = make_backend(dict(tensors), config, precision, backend)
    return Embedder(config, made, source, file, digest, lambda: tensors)


def _images(drawings: Iterable[Callable[[], Iterator[Levels]]], bad: dict[int, str] | None) -> Iterator[Levels]:
    """The images, (224, 224) uint8, of signals or windows in order; where `bad` is given, why one has none is noted."""
    for index, draw in enumerate(drawings):
        try:
            images = list(draw())
        except SignalError as error:
            if bad is None:
                raise
            bad[index] = str(error)
        else:
            yield from images


def _draw_window(recording: FilteredRecording, span: tuple[int, int]) -> Iterator[Levels]:
    """The images of a window; a window that is refused has its reason in place of its name, and no samples."""
    where, part = recording.window(span)
    if not part.size:
        raise SignalError(where)
    return draw_all(part, recording.call, recording.limits, noise=recording.noise, where=where)


def _draw_signal(signal: Signal, call: Call, where: str, max_missing: float) -> Iterator[Levels]:
    check_missing(signal, max_missing, where)
    return draw_all(call.prepare(signal, where)[0], call, call.limits, where=where)


def _without_bad(vectors: Embeddings, bad: dict[int, str], n: int, on_bad: str, what: str = "signals") -> Embeddings:
    """One warning for all that have no vector; with "nan" they keep their rows, of NaN."""
    shown = "; ".join(list(bad.values())[:3])
    left_out = "left out" if on_bad == "skip" else "NaN"
    warn(f"{len(bad)} of {n} {what} cannot be embedded and are {left_out}: {shown}{'; ...' if len(bad) > 3 else ''}")
    if on_bad == "skip":
        return vectors
    every = np.full((n, vectors.shape[1]), np.nan, np.float32)
    every[[index for index in range(n) if index not in bad]] = vectors
    return every


@lru_cache(maxsize=1)
def bundled() -> Embedder:
    """The bundled weights, loaded once a process."""
    return Embedder.from_pretrained()


def embed(
    signals: Any,
    fs: float | None = None,
    modality: str | None = None,
    representation: str | list[str] = "scalogram",
    *,
    sampling_rate: float | None = None,
    **options: Any,
) -> Embeddings:
    """`TinyBioMoE.embed` with the bundled weights, loaded once a process; `sampling_rate` is another name of `fs`.

    Examples
    --------
    >>> import pywt
    >>> embed(pywt.data.ecg(), fs=360, modality="ecg", representation=["scalogram", "waveform"]).shape
    (384,)
    """
    if fs is not None and sampling_rate is not None:
        raise ConfigError(f"fs={fs!r} and sampling_rate={sampling_rate!r} are two names of one argument: give one")
    rate = fs if fs is not None else sampling_rate
    return bundled().embed(signals, rate, modality, representation, **options)  # type: ignore[arg-type]
