"""Training, the optional half of the library: `pip install "tiny-biomoe[train]"`."""

from ..channels import need

need("sklearn", "matplotlib", "edfio", extra="train", what="training")
