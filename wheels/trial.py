"""An installed wheel embeds without a network: run with the Python of the environment that it was installed into."""

import socket
import sys


def refuse(*arguments: object) -> None:
    raise OSError("the trial opens no connection")


socket.socket.connect = refuse  # type: ignore[method-assign, assignment]

import numpy  # noqa: E402

from tiny_biomoe import __file__, __version__, embed, render  # noqa: E402
from tiny_biomoe.embedding import Embedder  # noqa: E402

backend = Embedder.from_pretrained().backend
signal = numpy.sin(numpy.arange(999) / 9)
vector = embed(signal, fs=100, modality="ecg")
image = render(signal, fs=100, modality="ecg")
if vector.shape != (192,) or image.shape != (224, 224, 3) or not numpy.isfinite(vector).all():
    raise SystemExit(f"{__file__} gave {vector.shape} and {image.shape}")
if "torch" in sys.modules and sys.platform == "linux":
    raise SystemExit("the native program computes without torch, and torch was imported")
print(f"tiny-biomoe {__version__} from {__file__}: {vector.shape}, computed by {backend.program or backend.name}")
