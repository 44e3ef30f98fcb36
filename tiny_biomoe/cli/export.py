"""The command `tiny-biomoe export`: the network as a file for other runtimes (`pip install "tiny-biomoe[onnx]"`)."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import ConfigError
from ..version import __version__


@click.command()
@click.option("--format", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="Of the file.")
@click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; the bundled weights otherwise.")
@click.option("--embedding", is_flag=True, help="Of a classifier's folder, the embedding network without its head.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A file, .onnx")
def export(format: str, weights: str | None, embedding: bool, output: Path) -> None:
    """Write the whole network, pixels to embedding, with any number of images a batch, as one ONNX file.

    Of a folder that `finetune` wrote the file holds the head as well: pixels to probabilities, or to a number. Recipe
    and provenance are in the file's metadata; what it gives was checked against the network's to 1e-4.
    """
    from ..inference.onnx_export import to_onnx
    from ..weights.loading import load

    if output.suffix != f".{format}":
        raise ConfigError(f"{str(output)!r}: the name of the output ends in .{format}")
    if not output.parent.is_dir():
        raise ConfigError(f"{str(output.parent)!r} is no folder: make it first")
    loaded = load(weights)
    kept = {"weights": loaded.config.name, "weights_source": loaded.source, "weights_sha256": loaded.sha256}
    if weights is not None and (Path(weights) / "classifier.json").is_file() and not embedding:
        from ..train.classifier import TrainedClassifier
        from ..train.classifier_export import classifier_to_onnx

        holds, data = "the classifier, its head included", classifier_to_onnx(TrainedClassifier.load(weights), **kept)
    else:
        holds, data = "the embedding network", to_onnx(loaded.tensors, loaded.config, **kept)
    output.write_bytes(data)
    click.echo(
        f"{output}: {holds}, {len(data) / 1e6:.1f} MB, tiny-biomoe {__version__}, "
        f"weights sha256 {kept['weights_sha256']}"
    )
