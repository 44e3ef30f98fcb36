"""Weights: where they come from, the formats of their files, and what is verified before they are used."""

from .loading import Weights, convert, load, save, tensor_digest

__all__ = ["Weights", "convert", "load", "save", "tensor_digest"]
