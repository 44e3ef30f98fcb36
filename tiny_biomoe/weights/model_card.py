"""The model card of saved weights: what a visitor of their folder or Hub page has to know to use them."""

from __future__ import annotations

from ..config import Config
from ..images.representations import REPRESENTATIONS
from ..signals.filters import MODALITIES

MARK = "<!-- Written by tiny-biomoe when these weights were saved. Delete this line to keep your own text. -->"

CITATION = """@misc{gkikas2025tinybiomoe,
  title  = {Tiny-BioMoE: a Lightweight Embedding Model for Biosignal Analysis},
  author = {Gkikas, Stefanos and Kyprakis, Ioannis and Tsiknakis, Manolis},
  year   = {2025}
}"""


def model_card(config: Config, tensors: str, digest: str) -> str:
    """Text of `README.md` beside the tensors' file `tensors`, whose sha256 is `digest`."""
    size = config.architecture.embedding_dim
    modalities = [row.name for row in config.recipe.modalities if row.name in MODALITIES]
    measured = ", ".join(f"`{name}` ({MODALITIES[name].measures})" for name in modalities)
    return f"""---
license: mit
library_name: tiny-biomoe
pipeline_tag: feature-extraction
tags: [biosignals, embeddings, {", ".join(modalities)}]
---
{MARK}
# {config.name}

Weights of Tiny-BioMoE: a physiological signal is filtered, drawn as an image, and read by two small vision encoders
whose outputs are gated and joined to {size} numbers.

```python
from tiny_biomoe import TinyBioMoE

model = TinyBioMoE.from_pretrained("owner/name")  # of this repository, or the folder that holds this file
vector = model.embed(signal, fs=100, modality="eda", representation="scalogram")  # ({size},)
```

| | |
|---|---|
| name | {config.name} |
| file | `{tensors}` |
| sha256 | `{digest}` |
| recipe of the images | version {config.recipe.version}, in `config.json` |
| modalities | {measured} |
| representations | {", ".join(f"`{name}`" for name in REPRESENTATIONS)} |

Every load compares the file with the sha256 in `config.json`, and each name and shape with the architecture there.

## Limits

- Not a medical device: not for diagnosis, monitoring or treatment.
- One channel at a time. Vectors of other weights, or of another recipe, cannot be compared with these.
- This card was written by a program, which does not know on what data these weights were trained or how they score:
  whoever publishes them should say so here. Measure on your own data before believing in a vector.

## Licence

MIT, as the library and the weights that come with it. Whoever trained these further may add terms of the data here.

## Citation

The method is that of

```bibtex
{CITATION}
```
"""
