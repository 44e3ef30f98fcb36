"""Training, the optional half of the library: `pip install "tiny-biomoe[train]"`."""

from ..channels import need

need("sklearn", "matplotlib", "edfio", "kornia", extra="train", what="training")
