"""TinyBioMoE: signals in, vectors out, and where both the weights and the vectors come from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from numpy.typing import NDArray

from .config import Architecture, Config, Recipe, config_digest
from .errors import ConfigError, SignalError, warn
from .images.rendering import Levels, draw_all, read_images
from .images.windows import FilteredRecording
from .inference.engine import Engine, engine_facts
from .inference.runtime import WindowEmbeddings, check_device, embed_levels
from .inference.threads import threads
from .inference.witness import digest_now, lay_together
from .network.network import Network, Uninitialised
from .signals.filters import MODALITY_BAND
from .signals.quality import Quality
from .signals.request import Call
from .signals.validation import check_positive, check_signals, windows
from .version import __version__
from .weights import loading as weights

Embeddings = NDArray[np.float32]  # (192,) or (n, 192); k * 192 where k representations are concatenated


class TinyBioMoE(Network, ModelHubMixin, library_name="tiny-biomoe"):
    """The embedding model: a signal, or an image, to 192 numbers.

    Parameters
    ----------
    architecture, recipe
        The network's and the images' numbers; the defaults are the paper's.
    name
        Of the weights, as provenance reports it.

    Examples
    --------
    >>> import pywt
    >>> model = TinyBioMoE.from_pretrained()
    >>> model.embed(pywt.data.ecg(), fs=360, modality="ecg").shape
    (192,)
    """

    def __init__(
        self, architecture: Architecture = Architecture(), recipe: Recipe = Recipe(), name: str = "untrained"
    ) -> None:
        super().__init__(Config(name, architecture, recipe))
        self.engine = Engine()  # how `embed` runs the network
        self.source = "untrained"  # where the weights were loaded from
        self._loaded = ("", "")  # sha256 of the weights' file, and digest of the tensors it gave

    def embed(
        self,
        signals: Any,
        fs: float,
        modality: str,
        representation: str | list[str] = "scalogram",
        *,
        fusion: str = "concat",
        window: float | None = None,
        stride: float | None = None,
        short: str = "error",
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
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
        batch_size
            Images on the device at once. On the CPU it changes no byte; elsewhere rounding, by up to 1e-5.

        Returns
        -------
        (192,) float32 for one signal, (n, 192) for several or for windows; k * 192 for k concatenated representations

        Raises
        ------
        SignalError
            A signal cannot be used; the message says which, where and what to do.
        ConfigError
            An argument is not one of its choices.
        """
        if window is not None:
            return self.embed_windows(
                signals, fs, modality, representation, fusion=fusion, window=window, stride=stride, short=short,
                band=band, scale=scale, nan_policy=nan_policy, max_gap=max_gap, batch_size=batch_size,
            ).embeddings  # fmt: skip
        if stride is not None or short != "error":
            raise ConfigError("stride= and short= need window=, in seconds")
        call = Call.check(
            self.recipe, fs, modality, representation, fusion=fusion, band=band, scale=scale, nan_policy=nan_policy,
            max_gap=max_gap,
        )  # fmt: skip
        rows, single = check_signals(signals)

        def images() -> Iterator[Levels]:
            """Each signal's images, (224, 224) uint8, signal by signal."""
            for index, row in enumerate(rows):
                where = "signal" if single else f"signal[{index}]"
                yield from draw_all(call.prepare(row, where)[0], call, call.limits, where=where)

        vectors = self._fuse(embed_levels(self, images(), check_positive(batch_size, "batch_size")), call)
        return vectors[0] if single else vectors

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
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
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
        where : what errors and warnings call the recording
        others : as in `embed`

        Returns
        -------
        WindowEmbeddings
            The vectors, with start and stop times, quality, and provenance.
        """
        call = Call.check(
            self.recipe, fs, modality, representation, fusion=fusion, band=band, scale=scale, nan_policy=nan_policy,
            max_gap=max_gap, windowed=True,
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
        provenance = {**self._weights_facts(), **call.describe(), "window": float(window), "stride": float(step)}
        qualities: list[Quality] = []
        if not spans:
            warn(
                f"{where} lasts {rows[0].size / call.fs:g} s, less than one window of {window:g} s, and is dropped",
            )
            nothing = self._fuse(embed_levels(self, [], batch_size), call)
            return WindowEmbeddings.of(nothing, [], call.fs, qualities, provenance)
        recording = FilteredRecording.of(rows[0], call, where)

        def images() -> Iterator[Levels]:
            """Each window's images, (224, 224) uint8, window by window; notes its quality."""
            for span in spans:
                qualities.append(recording.quality(span))
                name, part = recording.window(span)
                yield from draw_all(part, call, recording.limits, noise=recording.noise, where=name)

        vectors = self._fuse(embed_levels(self, images(), batch_size), call)
        return WindowEmbeddings.of(vectors, list(spans), call.fs, qualities, provenance)

    def embed_images(self, images: Any, *, batch_size: int = 32) -> Embeddings:
        """Embed pictures: PIL images, paths, or uint8 arrays (height, width, 3); one gives (192,), a list (n, 192).

        Anything but 224 x 224 is resized by PIL's bilinear filter, as the authors do.
        """
        pictures, single = read_images(images)
        vectors = embed_levels(self, pictures, check_positive(batch_size, "batch_size"))
        return vectors[0] if single else vectors

    def provenance(self, fs: float, modality: str, representation: Any = "scalogram", **options: Any) -> dict[str, Any]:
        """Where the vectors of such a call come from, as plain values: weights, recipe, version, filter, scale.

        Arguments are those of `embed` but window, stride, short and batch_size; of windows `embed_windows` gives it.
        The weights' sha256 is their file's, or None (and the tensors' own digest) where they were changed since.
        """
        return {**self._weights_facts(), **Call.check(self.recipe, fs, modality, representation, **options).describe()}

    def _weights_facts(self) -> dict[str, Any]:
        digest = digest_now(self)
        unchanged = digest == self._loaded[1]
        return {
            "library": f"tiny-biomoe {__version__}",
            "weights": self.config.name,
            "weights_source": self.source if unchanged else f"{self.source}, then changed",
            "weights_sha256": self._loaded[0] if unchanged else None,
            "tensors_sha256": digest,
            "gate": self.architecture.gate,
            "recipe": self.recipe.version,
            "recipe_sha256": config_digest(self.recipe),
            **engine_facts(self),
        }

    def _fuse(self, vectors: Embeddings, call: Call) -> Embeddings:
        """One row a picture to one row a signal: (n * k, 192) to (n, k * 192), or their sum."""
        parts = vectors.reshape(-1, len(call.representations), self.architecture.embedding_dim)
        return parts.sum(axis=1) if call.fusion == "add" else parts.reshape(len(parts), np.prod(parts.shape[1:]))

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        compile: bool | None = None,
        backend: str = "torch",
    ) -> TinyBioMoE:
        """Load weights, verified, and return the model in eval mode.

        Parameters
        ----------
        pretrained_model_name_or_path
            None for the weights that come with the package (no network); a folder that `save_pretrained` wrote; the
            authors' `Tiny-BioMoE.pth`; or "owner/name" on the Hugging Face Hub.
        revision, token, cache_dir, force_download, local_files_only
            For the Hub: branch, tag or commit; access token; where files are kept; fetch again; never connect.
        device
            Where the model shall run.
        precision, compile, backend
            What `embed` computes with: "float32", or "bfloat16" (faster; vectors differ in the third digit); and on
            a CPU whether our own program does, the one that came with the package: where it can, else PyTorch (None);
            it must, and where none came a C++ compiler makes one, once (True); or PyTorch (False). "onnx" computes by
            ONNX Runtime (exported once, then kept). They are kept in `model.engine`, which may be changed, and written
            into provenance; `model(pixels)` heeds none of them.

        Raises
        ------
        WeightsError
            Not found, damaged, unsafe, or of another architecture; the message says what to do.
        """
        place, engine = check_device(device), Engine(precision, compile, backend)
        engine.ready(place)
        loaded = weights.load(
            pretrained_model_name_or_path, revision=revision, token=token, cache_dir=cache_dir,
            force_download=force_download, local_files_only=local_files_only,
        )  # fmt: skip
        with threads(1):  # hundreds of small tensors: others would have to be woken for each
            own = cls is TinyBioMoE  # a subclass may have layers that no file holds, and weights that are tied
            with Uninitialised() if own else nullcontext():
                model = cls(loaded.config.architecture, loaded.config.recipe, loaded.config.name)
            model.load_state_dict(loaded.tensors, strict=False, assign=own)  # but for batch counters, all checked
            lay_together([*model.parameters(), *model.buffers()])
            model.source, model.engine = loaded.source, engine
            model._loaded = (loaded.sha256, weights.tensor_digest(model.state_dict()))
        return model.eval().to(place)

    def _save_pretrained(self, save_directory: Path) -> None:
        weights.save(save_directory, self.state_dict(), self.config)
