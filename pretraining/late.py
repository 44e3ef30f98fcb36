"""Pretraining of the late stages on the kept maps of the early ones: many views an hour on a processor.

Run it with `python -m pretraining.late --data PACK --cache FOLDER --out FOLDER`. It is deterministic, and a run
that was killed goes on from its last checkpoint to the same weights, bit for bit.

A step reads a batch of kept maps. By Eq. 8 of the paper it learns the classes of every source that has some, and as
one more loss what can be computed from the window: descriptors, a fine profile, shares of narrow bands, and a picture
of it in time and frequency with its fine rows. All are read by linear heads from the 192 numbers, and beside them from
each encoder's 96 alone, so that neither can leave to the other what it held before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from pretraining.beginnings import RAMP, untrained_spectral_encoder
from pretraining.distillation import components, minirocket, rows_of_maps
from pretraining.examples import MADE, Drawing, Examples, draw_examples
from pretraining.metrics import draw_metrics, forget_after, log_row
from pretraining.precision import on_threads, reproducible
from pretraining.readout import FARTHEST, Readout, Wanted, Weights
from pretraining.row_heads import read_rows, regress
from pretraining.sources import Source, read_pack, sources_digest
from pretraining.stages import EARLY, early_maps, late_parameters, late_vectors, set_training
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.model import TinyBioMoE, embed_levels
from tiny_biomoe.network.network import Network
from tiny_biomoe.train.checkpoints import load_checkpoint, save_checkpoint
from tiny_biomoe.train.schedules import cosine_with_warmup
from tiny_biomoe.weights.loading import tensor_digest

FIRST = 2000  # examples, at most, whose maps heads of the class block are made from
RIDGE = 0.1  # of the variance of the vectors, in the regressions that heads begin as


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives; a checkpoint of other settings is refused."""

    steps: int
    start: str  # sha256 of the network's tensors that the run began with
    images: int = 64  # of a step
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    norm_momentum: float = 0.02  # of BatchNorm statistics
    clip: float = 1.0  # largest norm of the gradient, that of the losses' weights apart
    seed: int = 20251201
    threads: int = 1  # of the CPU: sums are taken in another order with another number
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class KeptMaps:
    """What the late stages are given of each example, in half precision."""

    grids: NDArray[np.float16]  # (n, 7, 7, 96), of encoder 1
    maps: NDArray[np.float16]  # (n, 96, 4, 4), of encoder 2

    @classmethod
    def of(cls, files: Sequence[Path]) -> KeptMaps:
        """What `keep_maps` wrote, file behind file."""
        parts = [np.load(file) for file in files]
        return cls(*(np.concatenate([part[name] for part in parts]) for name in ("grids", "maps")))

    def batch(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Of some examples, in float32."""
        return torch.from_numpy(self.grids[rows]).float(), torch.from_numpy(self.maps[rows]).float()


def keep_maps(network: Network, levels: NDArray[np.uint8], path: Path, at_once: int = 8) -> KeptMaps:
    """Maps of images (n, 224, 224), computed where `path`, a folder, does not hold them yet."""
    path.mkdir(parents=True, exist_ok=True)
    network.eval()
    files = []
    for number, some in enumerate(np.array_split(levels, max(1, len(levels) // 250))):
        file = path / f"maps-{number:05d}.npz"
        if not file.exists():
            with torch.inference_mode():
                found = [early_maps(network, part) for part in torch.from_numpy(some).split(at_once)]
            grids, maps = (torch.cat(column).half().numpy() for column in zip(*found, strict=True))
            whole = file.with_suffix(".partial.npz")
            np.savez(whole, grids=grids, maps=maps)
            whole.replace(file)
        files.append(file)
    return KeptMaps.of(files)


@dataclass(frozen=True)
class Kept:
    """Examples, with what is kept of them."""

    examples: Examples
    maps: KeptMaps
    taught: NDArray[np.float32] | None = None  # (n, teachers, 256), what other features say (`distillation`)
    remembered: NDArray[np.float32] | None = None  # (n, 192), embeddings by earlier weights


def watch(model: Readout, watched: Kept, settings: Settings) -> dict[str, float]:
    """Losses on facts of examples of people held out, in eval mode."""
    learning = {module for module in model.modules() if module.training}
    model.eval()
    parts: dict[str, list[float]] = {}
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(watched.maps.grids)), -(-len(watched.maps.grids) // settings.images)):
            found = late_loss(model, (), watched.examples, watched.maps, rows, settings.weights, watched.taught)[1]
            for name, value in found.items():
                parts.setdefault(name, []).append(value * len(rows))
    for module in learning:
        module.training = True
    return {name: sum(values) / len(watched.maps.grids) for name, values in parts.items()}


def begin(model: Readout, examples: Examples, maps: KeptMaps, taught: NDArray[np.float32] | None = None) -> None:
    """Standardise the targets, and let the heads on them begin as ridge regressions on the vectors as they are.

    So that from the first step on the network is asked for what its vectors lack.
    """
    wanted = torch.from_numpy(examples.targets)
    model.standardise(wanted)
    wanted = model.standardised(wanted)
    vectors = embed_maps(model.network, maps)
    half = vectors.shape[1] // 2
    shares = torch.from_numpy(examples.spectra).mean(0)
    for part, head, spectrum in zip(
        (vectors, vectors[:, :half], vectors[:, half:]), model.targets, model.spectra, strict=True
    ):
        weights, bias = regress(part.double(), wanted.double(), RIDGE)
        head.weight.data.copy_(weights.T)
        head.bias.data.copy_(bias)
        spectrum.weight.data.zero_()
        spectrum.bias.data.copy_(shares.clamp_min(1e-6).log())
    if taught is None:
        return
    said = torch.from_numpy(taught).flatten(1).double()
    for part, reader in zip((vectors, vectors[:, :half], vectors[:, half:]), model.taught, strict=True):
        weights, bias = regress(part.double(), said, RIDGE)
        reader.weight.data.copy_(weights.T)
        reader.bias.data.copy_(bias)


def begin_as_rows(network: Network, kept: Kept) -> None:
    """Let the heads of the class block begin as readers of rows (`row_heads`), made from the first examples."""
    targets = kept.examples.targets
    targets = ((targets - targets.mean(0)) / targets.std(0).clip(1e-3)).clip(-FARTHEST, FARTHEST)
    read_rows(network, torch.from_numpy(kept.maps.grids[:FIRST]).float(), targets[:FIRST])


def embed_maps(network: Network, maps: KeptMaps, at_once: int = 64) -> Tensor:
    """Embeddings of all kept maps, in eval mode: (n, 192)."""
    network.eval()
    with torch.no_grad():
        parts = np.array_split(np.arange(len(maps.grids)), max(1, len(maps.grids) // at_once))
        return torch.cat([late_vectors(network, *maps.batch(part)) for part in parts])


def train_late(
    network: Network,
    sources: Sequence[Source],
    examples: Examples,
    maps: KeptMaps,
    out: Path,
    settings: Settings,
    every: int = 100,
    taught: NDArray[np.float32] | None = None,
    watched: Kept | None = None,
    optimizer: Callable[[list[dict[str, Any]], float], Optimizer] = AdamW,
) -> Network:
    """Train the late stages from the newest checkpoint in `out`, or from `network` as it is; returns it in eval mode.

    Parameters
    ----------
    taught : (n, teachers, 256), what other features say of each example (`distillation`)
    watched : examples of people held out, on which the loss is logged in `held_out.csv` at every checkpoint
    optimizer : of groups of parameters and the learning rate

    Raises
    ------
    WeightsError
        The folder holds checkpoints of other settings, or only damaged ones; or a loss is no longer finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    if settings.start != tensor_digest(network.state_dict()):
        raise WeightsError(f"settings.start is {settings.start}, not the digest of the network that was given")
    with reproducible(settings.threads, settings.seed):
        classes = [len(source.classes) for source in sources if source.classes]
        model = Readout(network, classes, shared=True, teachers=0 if taught is None else taught.shape[1])
        steps = optimizer(_parameter_groups(model, settings), settings.learning_rate)
        scheduler = cosine_with_warmup(steps, settings.steps)
        facts_of_run = {"settings": asdict(settings), "learnt_from": _digest(examples, taught)}
        facts_of_run["optimized_by"] = type(steps).__name__
        start = _resume(out, facts_of_run, model, steps, scheduler)
        if not start:
            begin(model, examples, maps, taught)
        forget_after(out / "metrics.csv", start)
        set_training(network, settings.norm_momentum)
        for step in tqdm(range(start, settings.steps), initial=start, total=settings.steps, mininterval=20):
            rows = batch_rows(len(examples.labels), settings.images, settings.seed, step)
            facts = _step(model, sources, examples, maps, rows, settings, steps, step, taught)
            log_row(out / "metrics.csv", {"step": step, "lr": float(scheduler.get_last_lr()[0]), **facts})
            scheduler.step()
            if (step + 1) % every == 0 or step + 1 == settings.steps:
                state = {**facts_of_run, "step": step + 1, "model": model.state_dict()}
                state |= {"optimizer": steps.state_dict(), "scheduler": scheduler.state_dict()}
                save_checkpoint(out, step + 1, state)
                if watched is not None:
                    log_row(out / "held_out.csv", {"step": step + 1, **watch(model, watched, settings)})
    draw_metrics(out / "metrics.csv", out / "metrics.png")
    return network.eval()


def batch_rows(examples: int, images: int, seed: int, step: int) -> NDArray[np.intp]:
    """Which examples step `step` reads: every epoch goes through all in an order of its own, whole batches alone."""
    epoch, place = divmod(step, examples // images)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return order[place * images : (place + 1) * images]


def _step(
    model: Readout,
    sources: Sequence[Source],
    examples: Examples,
    maps: KeptMaps,
    rows: NDArray[np.intp],
    settings: Settings,
    optimizer: Optimizer,
    step: int,
    taught: NDArray[np.float32] | None,
) -> dict[str, float]:
    loss, facts = late_loss(model, sources, examples, maps, rows, settings.weights, taught)
    if not math.isfinite(loss.item()):
        raise WeightsError(f"the loss is {loss.item()} at step {step}: stopped; the last good checkpoint is kept")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learnt = [p for group in optimizer.param_groups for p in group["params"] if p is not model.loss_weights]
    norm = nn.utils.clip_grad_norm_(learnt, settings.clip)
    if not math.isfinite(norm.item()):
        raise WeightsError(f"the gradient's norm is {norm.item()} at step {step}: stopped; the last checkpoint is kept")
    optimizer.step()
    return facts


def late_loss(
    model: Readout,
    sources: Sequence[Source],
    examples: Examples,
    maps: KeptMaps,
    rows: NDArray[np.intp],
    weights: Weights,
    taught: NDArray[np.float32] | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Loss on some examples, and its parts."""
    wanted = wanted_of(examples, rows, taught)
    with_classes = {index: source.name for index, source in enumerate(sources) if source.classes}
    vectors = late_vectors(model.network, *maps.batch(rows))  # (n, 192)
    loss, parts = model.loss(vectors, wanted, with_classes, weights)
    return loss, {name: value.item() for name, value in parts.items()}


def wanted_of(examples: Examples, rows: NDArray[np.intp], taught: NDArray[np.float32] | None = None) -> Wanted:
    """What is to be read of some examples."""
    columns = ("representations", "sources", "labels", "targets", "spectra")
    return Wanted(
        *(torch.from_numpy(getattr(examples, name)[rows]) for name in columns),
        taught=None if taught is None else torch.from_numpy(taught[rows]),
    )


def _parameter_groups(model: Readout, settings: Settings) -> list[dict[str, Any]]:
    """Matrices and kernels decay; norms, biases and the weights of the losses do not. Early stages do not learn."""
    named = [(f"network.{name}", p) for name, p in late_parameters(model.network)]
    named += [(name, p) for name, p in model.named_parameters() if not name.startswith("network.")]
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        decays = parameter.ndim > 1 and "position_bias" not in name
        groups.setdefault(settings.weight_decay if decays else 0.0, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items()]


def _digest(examples: Examples, taught: NDArray[np.float32] | None) -> str:
    """Of what is asked of each example: other examples, sources or teachers ask otherwise."""
    digest = hashlib.sha256()
    for asked in (examples.targets, examples.labels, *([] if taught is None else [taught])):
        digest.update(f"{asked.shape}".encode() + np.ascontiguousarray(asked).tobytes())
    return digest.hexdigest()


def _resume(out: Path, run: dict[str, Any], model: nn.Module, optimizer: Optimizer, scheduler: LambdaLR) -> int:
    state = load_checkpoint(out)
    if state is None:
        return 0
    state.setdefault("optimized_by", "AdamW")  # of runs that did not say
    for name, now in run.items():
        if state.get(name) != now:
            raise WeightsError(f"{out} holds a run with {name}={state.get(name)}, not {now}: choose another folder")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["step"])


def people_held_out(sources: Sequence[Source]) -> list[Source]:
    """Sources whose training windows are those of the people that are held out, without classes."""
    held = [source for source in sources if source.held_out.any()]
    return [replace(source, held_out=~source.held_out, classes=()) for source in held]


def early_digest(network: Network) -> str:
    """Sixteen digits that tell early stages apart."""
    early = {n: t for n, t in network.state_dict().items() if n.startswith(tuple(f"{part}." for part in EARLY))}
    return tensor_digest(early)[:16]


def go_on(network: Network, source: str) -> None:
    """Take the weights of an earlier run, whose early stages have to be those of `network`.

    Raises
    ------
    WeightsError
        They differ: the kept maps would be of another network.
    """
    early = early_digest(network)
    network.load_state_dict(TinyBioMoE.from_pretrained(source).state_dict())
    if early_digest(network) != early:
        raise WeightsError(
            f"the maps that are kept are not of the early stages of {source}: give its --from and --ramp"
        )


def keep_vectors(model: TinyBioMoE, levels: NDArray[np.uint8], path: Path) -> NDArray[np.float32]:
    """Embeddings of images (n, 224, 224), computed where `path`, a .npy file, does not hold them yet: (n, 192)."""
    if not path.exists():
        whole = path.with_suffix(".partial.npy")
        np.save(whole, embed_levels(model, levels, 16))
        whole.replace(path)
    return np.asarray(np.load(path), np.float32)


def teach(network: Network, some: Sequence[Kept]) -> list[NDArray[np.float32]]:
    """What teachers say of each of several sets of examples, fitted on the first: (n, teachers, 256) of each.

    MiniRocket, the rows of the maps and, where they are kept, embeddings by earlier weights.
    """
    rocket = minirocket(some[0].examples.waves)
    teachers = [
        [rocket(kept.examples.waves) for kept in some],
        [rows_of_maps(network, kept.maps.grids, kept.maps.maps) for kept in some],
    ]
    if earlier := [kept.remembered for kept in some if kept.remembered is not None]:
        teachers.append(earlier)
    found = []
    for features in teachers:
        project = components(features[0])
        found.append([project(part) for part in features])
    return [np.stack(columns, axis=1) for columns in zip(*found, strict=True)]


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A pack.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), required=True, help="For examples and maps.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--from", "start", help="Weights whose encoder 2 is kept; the bundled ones otherwise.")
@click.option("--on", help="Weights of an earlier run whose late stages go on; as they are built otherwise.")
@click.option("--examples", "count", default=3000, show_default=True, help="Windows, each drawn once.")
@click.option("--watched", default=500, show_default=True, help="Windows of people held out, for the loss on them.")
@click.option("--steps", default=1300, show_default=True)
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--class-block", type=click.Choice(["built", "rows"]), default="built", show_default=True,
    help="How it begins: as it is built, or as a reader of rows.")  # fmt: skip
@click.option("--ramp", default=RAMP, show_default=True, help="Of the image norm's bias, from top to bottom; 0: none.")
@click.option("--classes", default=Weights.classes, show_default=True, help="Weight of losses on classes; 0: no heads.")
@click.option("--smoothing", default=Weights.smoothing, show_default=True, help="Of their labels.")
@click.option(
    "--teachers/--no-teachers", default=False, show_default=True, help="MiniRocket and the maps' rows (aeon)."
)
@click.option("--remember/--no-remember", default=False, show_default=True,
    help="With --teachers: one more, the 192 numbers of --from.")  # fmt: skip
@click.option("--seed", default=Settings.seed, show_default=True)
@click.option("--threads", default=Settings.threads, show_default=True, help="Of the CPU.")
@click.option("--workers", default=1, show_default=True, help="Processes that draw images.")
@click.option("--every", default=50, show_default=True, help="Steps between checkpoints.")
def main(
    data: Path, cache: Path, out: Path, start: str | None, on: str | None, count: int, watched: int, steps: int,
    learning_rate: float, class_block: str, ramp: float, classes: float, smoothing: float, teachers: bool,
    remember: bool, seed: int, threads: int, workers: int, every: int,
) -> None:  # fmt: skip
    """Train the late stages and write OUT/model, loadable by TinyBioMoE.from_pretrained."""
    if remember and not teachers:
        raise click.UsageError("--remember adds a teacher: give --teachers as well")
    sources = read_pack(data)
    click.get_current_context().with_resource(on_threads(threads))
    standing = TinyBioMoE.from_pretrained(start)
    network = untrained_spectral_encoder(standing.state_dict(), ramp=ramp)

    def kept(some: Sequence[Source], many: int) -> Kept:
        examples = draw_examples(some, Drawing(seed), many, cache / "examples", workers)
        drawn_from = f"{Drawing(seed).digest()}-{sources_digest(some)[:16]}"
        maps = keep_maps(network, examples.levels, cache / f"maps-{drawn_from}-{early_digest(network)}")
        vectors = cache / f"vectors-{drawn_from}-{many}-{tensor_digest(standing.state_dict())[:16]}.npy"
        return Kept(examples, maps, None, keep_vectors(standing, examples.levels, vectors) if remember else None)

    drawn, held = kept(sources, count), kept(people_held_out(sources), watched)
    held = replace(held, examples=replace(held.examples, sources=np.full_like(held.examples.sources, MADE)))
    if on is not None:
        go_on(network, on)
    elif class_block == "rows":
        begin_as_rows(network, drawn)
    taught, of_held = teach(network, (drawn, held)) if teachers else (None, None)
    settings = Settings(
        steps, tensor_digest(network.state_dict()), learning_rate=learning_rate, seed=seed, threads=threads,
        weights=Weights(classes=classes, smoothing=smoothing),
    )  # fmt: skip
    held = replace(held, taught=of_held)
    if not classes:
        sources = [replace(source, classes=()) for source in sources]
    network = train_late(network, sources, drawn.examples, drawn.maps, out, settings, every, taught, held)
    model = TinyBioMoE()
    model.load_state_dict(network.state_dict())
    model.save_pretrained(out / "model")
    click.echo(f"weights: {out / 'model'}")


if __name__ == "__main__":
    main()
