"""The embedding as a scikit-learn transformer: signals in, 192 numbers each out, inside pipelines and searches."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import need

need("sklearn", extra="sklearn", what="the scikit-learn transformer")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402
from sklearn.utils import Tags  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

from .errors import ConfigError, WeightsError  # noqa: E402
from .model import TinyBioMoE  # noqa: E402
from .signals.filters import MODALITY_BAND  # noqa: E402
from .signals.request import Call  # noqa: E402
from .signals.validation import check_positive  # noqa: E402


@lru_cache(maxsize=2)
def _model(weights: str | None, device: str) -> TinyBioMoE:
    """Loaded once a process, for all clones of an estimator."""
    return TinyBioMoE.from_pretrained(weights, device=device)


class TinyBioMoEEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Signals of one length, one a row, to embeddings: (n, n_samples) to (n, 192) float32.

    Nothing is learnt in `fit`: it checks the arguments against the first signal, and notes which weights are used.
    A pickle holds no weights, but their sha256, and refuses to go on with others.

    Parameters
    ----------
    fs : sampling rate, Hz; there is no default rate, None is refused in `fit`
    modality : "eda", "bvp", "resp", "spo2", "ecg", "emg" or "eeg"; likewise
    representation, fusion, band, scale, nan_policy, max_gap : as in `TinyBioMoE.embed`
    weights : folder, "Tiny-BioMoE.pth" or "owner/name" on the Hub; None for the weights that come with the package
    device, batch_size : where, and how many images at once

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
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: str = "error",
        max_gap: float = 1.0,
        weights: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ):
        self.fs = fs
        self.modality = modality
        self.representation = representation
        self.fusion = fusion
        self.band = band
        self.scale = scale
        self.nan_policy = nan_policy
        self.max_gap = max_gap
        self.weights = weights
        self.device = device
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> TinyBioMoEEmbedder:
        """Check the arguments, and the first signal; `y` is not looked at.

        Raises
        ------
        SignalError
            The rate is missing or impossible, or the signals are too short for the filter.
        ConfigError
            An argument is not one of its choices.
        """
        signals = self._validated(X, reset=True)
        check_positive(self.batch_size, "batch_size")
        model = _model(self.weights, self.device)
        if self.modality is None:
            raise ConfigError('modality is missing: say what was measured, e.g. modality="eda"; there is no default')
        options = self._options()
        call = Call.check(model.recipe, self.fs, self.modality, self.representation, **options)
        call.prepare(signals[0], "signal 0")
        self.provenance_ = model.provenance(self.fs, self.modality, self.representation, **options)  # type: ignore[arg-type]
        self.representations_ = list(call.representations)
        self.width_ = model.architecture.embedding_dim
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed signals as long as those of `fit`: (n, n_samples) to (n, 192), or k * 192 for k concatenated.

        Raises
        ------
        SignalError
            A signal cannot be used; the message says which, counted from 0.
        WeightsError
            The weights are no longer those of `fit`.
        """
        check_is_fitted(self)
        signals = self._validated(X, reset=False)
        model = _model(self.weights, self.device)
        fs, modality = self.provenance_["fs"], self.provenance_["modality"]
        now = model.provenance(fs, modality)["tensors_sha256"]
        if now != self.provenance_["tensors_sha256"]:
            raise WeightsError(
                f"fitted with weights of sha256 {self.provenance_['tensors_sha256']}, and weights={self.weights!r} now "
                f"gives {now}: fit again, or bring back the weights of then"
            )
        return model.embed(signals, fs, modality, self.representations_, batch_size=self.batch_size, **self._options())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the numbers: "scalogram_0", ..., or "scalogram+waveform_0", ... where they are added."""
        check_is_fitted(self)
        if input_features is not None and len(input_features) != self.n_features_in_:
            raise ValueError(f"input_features has {len(input_features)} names, and {self.n_features_in_} were fitted")
        added = self.fusion == "add"
        groups = ["+".join(self.representations_)] if added else self.representations_
        return np.array([f"{group}_{index}" for group in groups for index in range(self.width_)], object)

    def _options(self) -> dict[str, Any]:
        return {
            "fusion": self.fusion,
            "band": self.band,
            "scale": self.scale,
            "nan_policy": self.nan_policy,
            "max_gap": self.max_gap,
        }

    def _validated(self, X: Any, reset: bool) -> NDArray[np.float64]:
        finite: bool | str = "allow-nan" if self.nan_policy == "interpolate" else True
        return np.asarray(validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=finite))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32 whatever comes in
        tags.input_tags.allow_nan = self.nan_policy == "interpolate"
        return tags
