"""Whether vectors of two runs may stand side by side: what they were made with, where that differs, and what it does.

`docs/studies.md` has the figures behind `EFFECTS`, which `benchmarks/mixing.py` measures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import plain_digest
from ..errors import ConfigError
from ..sealed_files import plain

NEVER, CARE, NOTHING = "no", "with care", "yes"  # may the vectors be mixed, where one fact differs
EFFECTS = {  # in the order in which they are reported
    "weights": (NEVER, "other weights are another space: distances mean nothing"),
    "recipe": (NEVER, "other filters or images"),
    "representation": (NEVER, "another kind of image"),
    "scale": (NEVER, "an image spans another range"),
    "band": (NEVER, "another filter"),
    "window": (NEVER, "an image spans another time"),
    "on_held": (CARE, "recordings with repeated values were read at another rate, and other images follow"),
    "precision": (CARE, "vectors differ in the second digit; more than noise where windows are nearly alike"),
    "backend": (NOTHING, "vectors differ by some 1e-5"),
    "program": (NOTHING, "vectors differ in the last digit"),
    "library": (NOTHING, "the recipe decides, not the version"),
    "readout": (NOTHING, "a further column: the embeddings are the same"),
    "stride": (NOTHING, "other windows, not other vectors"),
    "short": (NOTHING, "decides about recordings shorter than a window alone"),
    "nan_policy": (NOTHING, "decides about windows with missing samples alone"),
    "max_gap": (NOTHING, "decides about windows with missing samples alone"),
    "max_missing": (NOTHING, "decides about windows with missing samples alone"),
}


@dataclass(frozen=True)
class Difference:
    """One fact in which two runs differ."""

    name: str
    here: Any
    there: Any
    mix: str  # whether the vectors may be mixed: "no", "with care" or "yes"
    why: str

    def __str__(self) -> str:
        here, there = self.texts
        return f"{self.name}: {here} and {there}"

    @property
    def texts(self) -> tuple[str, str]:
        """Both values for a message."""
        if self.name == "weights":
            return f"{self.here[0]} ({_text(self.here[1])})", f"{self.there[0]} ({_text(self.there[1])})"
        return _text(self.here), _text(self.there)


def facts_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the vectors of a run, from its manifest."""
    made, arguments = manifest["fingerprint"], manifest["fingerprint"]["arguments"]
    weights = made["weights"]
    image = arguments["image"]
    return {
        "weights": (weights["weights"], weights["tensors_sha256"]),
        "recipe": plain_digest(made["recipe"]),
        "representation": tuple(arguments["representations"]),
        "scale": plain(image.get("scale", "window")),
        "band": plain(image.get("band", "modality")),
        "window": arguments["window"],
        "on_held": arguments.get("reading", {}).get("on_held", "warn"),
        "precision": made["backend"]["precision"],
        "backend": made["backend"]["backend"],
        "program": made["backend"].get("program"),
        "library": made["library"]["tiny-biomoe"],
        "readout": arguments.get("readout", "embedding"),
        "stride": arguments["window"] if arguments["stride"] is None else arguments["stride"],
        "short": arguments["short"],
        "nan_policy": image.get("nan_policy", "error"),
        "max_gap": image.get("max_gap", 1.0),
        "max_missing": arguments.get("max_missing", 1.0),
    }


def facts_of_vector(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The same of one vector, from its provenance, as far as that says it.

    Raises
    ------
    ConfigError
        It does not name the weights.
    """
    if provenance.get("tensors_sha256") is None:
        raise ConfigError("the provenance of the query does not name its weights: pass that of model.provenance(...)")
    found = {"weights": (provenance.get("weights"), provenance["tensors_sha256"])}
    named = {"recipe": "recipe_sha256", **{name: name for name in ("scale", "precision", "backend", "program")}}
    return found | {name: plain(provenance[key]) for name, key in named.items() if key in provenance}


def differences(
    here: Mapping[str, Any], there: Mapping[str, Any], names: Collection[str] = tuple(EFFECTS)
) -> list[Difference]:
    """Where two sets of facts differ, of those that both have; the weightiest first."""
    found = []
    for name, (mix, why) in EFFECTS.items():
        if name not in names or name not in here or name not in there:
            continue
        if name == "representation":
            mix = CARE if set(here[name]) & set(there[name]) else NEVER
            why = (
                why if mix == NEVER else f"both hold {', '.join(x for x in here[name] if x in there[name])}: mix those"
            )
        if not _same(name, here[name], there[name]):
            found.append(Difference(name, here[name], there[name], mix, why))
    return found


def check_mixable(manifests: Sequence[tuple[str, Mapping[str, Any]]], representations: Collection[str]) -> None:
    """Refuse folders whose vectors of some representations do not belong together.

    Parameters
    ----------
    manifests : names of the folders, each with its manifest

    Raises
    ------
    ConfigError
        Which two, and in what they differ.
    """
    (first, known), *others = manifests
    for name, manifest in others:
        found = [
            each
            for each in differences(facts_of(known), facts_of(manifest))
            if each.mix == NEVER and each.name != "representation"
        ]
        if found:
            listed = "; ".join(map(str, found))
            raise ConfigError(
                f"vectors of {first!r} and {name!r} may not be mixed: {listed}: embed one of them again "
                "(tiny-biomoe compare says more)"
            )
        held = manifest["fingerprint"]["arguments"]["representations"]
        if missing := [each for each in representations if each not in held]:
            raise ConfigError(f"{name!r} holds {', '.join(held)}, no {missing[0]}: name those that all folders hold")


def _same(name: str, here: Any, there: Any) -> bool:
    return bool(here[1] == there[1]) if name == "weights" else plain(here) == plain(there)


def _text(value: Any) -> str:
    """A value for a message; of a hash, its beginning."""
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}..."
    return "none" if value is None else str(value)
