"""The embedding as a scikit-learn transformer: signals in, 192 numbers each out, inside pipelines and searches."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import need

need("sklearn", extra="sklearn", what="the scikit-learn transformer")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402
from sklearn.utils import Tags  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

from .config import LAST_ROWS, Architecture  # noqa: E402
from .errors import ConfigError, SignalError, WeightsError  # noqa: E402
from .model import TinyBioMoE  # noqa: E402
from .sealed_files import plain_json  # noqa: E402
from .signals.filters import MODALITY_BAND  # noqa: E402
from .signals.request import Call  # noqa: E402
from .signals.validation import check_positive, check_signals, without_torch  # noqa: E402

KEPT = 64 << 20  # bytes of vectors that a process remembers: 80 000 rows of 192 numbers


def _model(weights: str | None, revision: str | None, device: str) -> TinyBioMoE:
    """Loaded once a process for all clones of an estimator, and anew where a folder's weights have changed."""
    return _loaded(weights, revision, device, _state(weights))


@lru_cache(maxsize=2)
def _loaded(weights: str | None, revision: str | None, device: str, state: Any) -> TinyBioMoE:
    return TinyBioMoE.from_pretrained(weights, revision=revision, device=device)


def _state(weights: str | None) -> Any:
    """What changes where weights on disk are saved anew: the files' names, sizes, times and places on the disk."""
    if weights is None or not os.path.exists(weights):
        return None
    path = Path(weights)
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return tuple(
        (each.name, *(facts.st_size, facts.st_mtime_ns, facts.st_ino)) for each in files for facts in [each.stat()]
    )


class VectorsKept:
    """Vectors by the bytes of their signal and of all that was asked, the latest of them, for a process.

    A search embeds a signal once, whatever the folds and whatever the parameters of what follows.
    """

    def __init__(self, limit: int = KEPT):
        self.limit, self.size = limit, 0
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes]) -> list[NDArray[np.float32] | None]:
        """The vector of each key, None where it is not known."""
        with self._lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
            return [self._rows.get(key) for key in keys]

    def put(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Remember vectors, and forget those that were not asked for the longest where there are too many."""
        with self._lock:
            for key, vector in zip(keys, vectors, strict=True):
                if key not in self._rows:
                    self._rows[key] = vector.copy()
                    self.size += vector.nbytes
            while self.size > self.limit:
                self.size -= self._rows.popitem(last=False)[1].nbytes


KNOWN = VectorsKept()


class TinyBioMoEEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Signals of one length, one a row, to embeddings: (n, n_samples) to (n, 192) float32.

    Nothing is learnt in `fit`: it checks the arguments and the signals, and keeps both the arguments and which weights
    are used. Parameters that are set after it count from the next `fit` on. A pickle holds no weights, but their
    sha256, and refuses to go on with others.

    Parameters
    ----------
    fs : sampling rate, Hz; there is no default rate, None is refused in `fit`
    modality : "eda", "bvp", "resp", "spo2", "ecg", "emg" or "eeg"; likewise
    representation, fusion, readout, band, scale, nan_policy, max_gap : as in `TinyBioMoE.embed`
    weights : folder, "Tiny-BioMoE.pth" or "owner/name" on the Hub; None for the weights that come with the package
    revision : branch, tag or commit, of weights on the Hub
    device, batch_size : where, and how many images at once
    cache : whether a process keeps vectors (64 MiB, the latest), so that a search embeds each signal once

    Attributes
    ----------
    n_features_in_ : samples of each signal
    feature_names_in_ : names of the columns, where `fit` was given a table whose columns have names
    provenance_ : where the vectors come from, as `TinyBioMoE.provenance` gives it

    Examples
    --------
    >>> import numpy as np
    >>> signals = np.random.default_rng(0).standard_normal((2, 500))
    >>> TinyBioMoEEmbedder(fs=100, modality="ecg").fit_transform(signals).shape
    (2, 192)
    """

    def __init__(
        self,
        fs: float | None = None,
        modality: str | None = None,
        representation: str | list[str] = "scalogram",
        *,
        fusion: str = "concat",
        readout: str = "embedding",
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
        weights: str | None = None,
        revision: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        cache: bool = True,
    ):
        self.fs = fs
        self.modality = modality
        self.representation = representation
        self.fusion = fusion
        self.readout = readout
        self.band = band
        self.scale = scale
        self.nan_policy = nan_policy
        self.max_gap = max_gap
        self.weights = weights
        self.revision = revision
        self.device = device
        self.batch_size = batch_size
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> TinyBioMoEEmbedder:
        """Check the arguments, and the first signal; `y` is not looked at.

        Raises
        ------
        SignalError
            The rate is missing or impossible, or the signals are too short for the filter.
        ConfigError
            An argument is not one of its choices.
        """
        signals = self._validated(X, reset=True, nan_policy=self.nan_policy)
        check_positive(self.batch_size, "batch_size")
        weights = None if self.weights is None else os.fspath(self.weights)
        model = _model(weights, self.revision, self.device)
        if self.modality is None:
            raise ConfigError('modality is missing: say what was measured, e.g. modality="eda"; there is no default')
        options = {
            name: getattr(self, name) for name in ("fusion", "readout", "band", "scale", "nan_policy", "max_gap")
        }
        call = Call.check(model.recipe, self.fs, self.modality, self.representation, **options)
        call.prepare(signals[0], "signal 0")
        self.provenance_ = model.provenance(self.fs, self.modality, self.representation, **options)  # type: ignore[arg-type]
        self.fitted_: dict[str, Any] = {
            "call": {"fs": call.fs, "modality": call.modality, "representation": list(call.representations), **options},
            "weights": (weights, self.revision, self.device), "batch_size": self.batch_size, "cache": self.cache,
            "numbers": _numbers(model.architecture, call.readout),
        }  # fmt: skip
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed signals as long as those of `fit`: (n, n_samples) to (n, 192), or k * 192 for k concatenated.

        With readout="rows" 1056 stands in place of 192.

        Raises
        ------
        SignalError
            A signal cannot be used; the message says which, counted from 0.
        WeightsError
            The weights are no longer those of `fit`.
        """
        check_is_fitted(self)
        call = self.fitted_["call"]
        signals = self._validated(X, reset=False, nan_policy=call["nan_policy"])
        model = _model(*self.fitted_["weights"])
        now = model.provenance(call["fs"], call["modality"])
        if now["tensors_sha256"] != self.provenance_["tensors_sha256"]:
            raise WeightsError(
                f"fitted with weights of sha256 {self.provenance_['tensors_sha256']}, and "
                f"weights={self.fitted_['weights'][0]!r} now gives {now['tensors_sha256']}: fit again, or bring back "
                "the weights of then"
            )
        if not self.fitted_["cache"]:
            return model.embed(signals, **call, batch_size=self.fitted_["batch_size"])
        return self._embedded(signals, model, plain_json([_plain(call), _plain(now)]))

    def _embedded(self, signals: NDArray[np.float64], model: TinyBioMoE, asked: bytes) -> NDArray[np.float32]:
        """The vectors of signals, of which those that are known are not computed again."""
        start = hashlib.sha256(asked)
        keys = []
        for signal in signals:
            digest = start.copy()
            digest.update(np.ascontiguousarray(signal).tobytes())
            keys.append(digest.digest())
        found = KNOWN.get(keys)
        new = {key: row for row, (key, vector) in enumerate(zip(keys, found, strict=True)) if vector is None}
        if not new:
            return np.stack(found)  # type: ignore[arg-type]
        rows = list(new.values())
        try:
            vectors = model.embed(signals[rows], **self.fitted_["call"], batch_size=self.fitted_["batch_size"])
        except SignalError:
            if len(rows) < len(signals):  # for the message: a signal is counted among all that were given
                model.embed(signals, **self.fitted_["call"], batch_size=self.fitted_["batch_size"])
            raise
        KNOWN.put(list(new), vectors)
        fresh = dict(zip(new, vectors, strict=True))
        return np.stack([fresh[k] if known is None else known for k, known in zip(keys, found, strict=True)])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the numbers: "scalogram_0", ..., or "scalogram+waveform_0", ... where they are added.

        Of readout "rows" "scalogram_encoder1_row0_0", ...: the encoder, the row of its map from the upper one on, and
        the channel.
        """
        check_is_fitted(self)
        if input_features is not None and len(input_features) != self.n_features_in_:
            raise ValueError(f"input_features has {len(input_features)} names, and {self.n_features_in_} were fitted")
        names = self.fitted_["call"]["representation"]
        groups = ["+".join(names)] if self.fitted_["call"]["fusion"] == "add" else names
        return np.array([f"{group}_{number}" for group in groups for number in self.fitted_["numbers"]], object)

    def _validated(self, X: Any, reset: bool, nan_policy: str) -> NDArray[np.float64]:
        """What scikit-learn demands of a table, and `embed` of signals."""
        X = without_torch(X, "X")
        if np.ma.isMaskedArray(X) or isinstance(X, list | tuple):
            check_signals(X)  # masked and ragged signals are refused by name
        finite: bool | str = "allow-nan" if nan_policy == "interpolate" else True
        try:
            return np.asarray(validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=finite))
        except ValueError as error:
            if "NaN" not in str(error) or nan_policy == "interpolate":
                raise
            raise SignalError(
                f'{error}\nSignals with missing samples (NaN) are embedded by nan_policy="interpolate", which fills '
                "gaps of up to max_gap= seconds"
            ) from error

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32 whatever comes in
        tags.input_tags.allow_nan = self.nan_policy == "interpolate"
        return tags


def _numbers(network: Architecture, readout: str) -> list[str]:
    """What each number of a vector is called behind its representation's name."""
    if readout == "embedding":
        return [str(index) for index in range(network.embedding_dim)]
    maps = zip(LAST_ROWS, (network.spectral_widths[-1], network.waterfall_widths[-1]), strict=True)
    return [
        f"encoder{encoder}_row{row}_{channel}"
        for encoder, (rows, width) in enumerate(maps, 1)
        for row in range(rows)
        for channel in range(width)
    ]


def _plain(value: Any) -> Any:
    """As JSON gives it back, whatever its tuples and NumPy numbers are."""
    return json.loads(json.dumps(value, default=lambda each: each.tolist() if hasattr(each, "tolist") else repr(each)))
