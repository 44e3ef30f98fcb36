"""Training, the optional half of the library: `pip install "tiny-biomoe[train]"`."""
