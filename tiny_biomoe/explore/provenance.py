"""Whether vectors may be compared with those of a folder: the same weights, the same images."""

from __future__ import annotations

from typing import Any

from ..batch.mixing import differences, facts_of, facts_of_vector
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
    if provenance.get("readout") == "rows":
        raise ConfigError('the query holds rows, and embeddings are compared: embed it with readout="embedding"')
    found = differences(facts_of_vector(provenance), facts_of(folder.manifest), ("weights", "recipe", "scale"))
    if found:
        listed = "; ".join("{}: {} here, {} in the folder".format(each.name, *each.texts) for each in found)
        raise ConfigError(f"the query cannot be compared with {str(folder.path)!r}: {listed}: embed one of them again")
