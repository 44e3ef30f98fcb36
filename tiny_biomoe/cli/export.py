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
    and provenance are in the file's metadata; what it gives was checked against the network's to 1e-5.
    """
    from ..inference.onnx_export import to_onnx
    from ..model import TinyBioMoE

    if output.suffix != f".{format}":
        raise ConfigError(f"{str(output)!r}: the name of the output ends in .{format}")
    if not output.parent.is_dir():
        raise ConfigError(f"{str(output.parent)!r} is no folder: make it first")
    classifier = None
    if weights is not None and (Path(weights) / "classifier.json").is_file() and not embedding:
        from ..train.classifier import TrainedClassifier
        from ..train.classifier_export import classifier_to_onnx

        classifier = TrainedClassifier.load(weights)
    model = TinyBioMoE.from_pretrained(weights)
    facts = model.provenance(1.0, "eda", band=None)
    kept = {name: str(facts[name]) for name in ("weights", "weights_source", "weights_sha256")}
    data = to_onnx(model, **kept) if classifier is None else classifier_to_onnx(classifier, **kept)
    holds = "the embedding network" if classifier is None else "the classifier, its head included"
    output.write_bytes(data)
    click.echo(
        f"{output}: {holds}, {len(data) / 1e6:.1f} MB, tiny-biomoe {__version__}, "
        f"weights sha256 {kept['weights_sha256']}"
    )
