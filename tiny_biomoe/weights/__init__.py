"""Weights: from the package, a folder, a file or the Hub to verified tensors, and back to a folder."""

from .loading import Weights, convert, load, save, tensor_digest

__all__ = ["Weights", "convert", "load", "save", "tensor_digest"]
