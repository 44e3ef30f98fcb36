"""Whether vectors may be compared with those of a folder: the same weights, the same images."""

from __future__ import annotations

from typing import Any

from ..config import config_digest
from ..errors import ConfigError
from .folder import EmbeddingFolder


def check_comparable(provenance: dict[str, Any], folder: EmbeddingFolder) -> None:
    """Refuse vectors that other weights, another recipe or another scale made.

    Parameters
    ----------
    provenance
        Of the query, as `TinyBioMoE.provenance` and `WindowEmbeddings.provenance` give it.

    Raises
    ------
    ConfigError
        They differ; the message lists in what. Or the provenance does not say.
    """
    made_by = folder.manifest["fingerprint"]["weights"]
    here = {"weights": (provenance.get("weights"), provenance.get("tensors_sha256"))}
    there = {"weights": (made_by["weights"], made_by["tensors_sha256"])}
    if here["weights"][1] is None:
        raise ConfigError("the provenance of the query does not name its weights: pass that of model.provenance(...)")
    facts = {"recipe_sha256": config_digest(folder.recipe), "scale": folder.arguments["image"]["scale"]}
    for name in facts.keys() & provenance.keys():
        here[name], there[name] = provenance[name], facts[name]
    differences = [
        f"{name}: {_text(here[name])} here, {_text(there[name])} in the folder"
        for name in here
        if (here[name][1] != there[name][1] if name == "weights" else _plain(here[name]) != _plain(there[name]))
    ]
    if differences:
        raise ConfigError(
            f"the query cannot be compared with {str(folder.path)!r}: {'; '.join(differences)}: embed one of them again"
        )


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """A value for a message; of a hash, its beginning."""
    if isinstance(value, tuple):
        return f"{value[0]} ({_text(value[1])})"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
