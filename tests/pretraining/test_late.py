"""Training of the late stages: what learns, what is refused, and that a kill changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_pretraining import toy_maps, toy_source

from pretraining import late
from pretraining.beginnings import untrained_spectral_encoder
from pretraining.examples import Examples
from pretraining.late import (
    Settings,
    batch_rows,
    keep_maps,
    late_loss,
    train_late,
)
from pretraining.readout import PARTS, TARGETS, Readout, Weights
from pretraining.stages import EARLY
from tiny_biomoe import Config, TinyBioMoE, WeightsError
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network
from tiny_biomoe.train.checkpoints import load_checkpoint
from tiny_biomoe.weights.loading import tensor_digest

SOURCES = [toy_source(), toy_source("eda", 4.0, ())]


def toy_examples(count: int = 24) -> Examples:
    """Examples of noise."""
    rng = np.random.default_rng(0)
    spectra = rng.random((count, 40), dtype=np.float32)
    return Examples(
        rng.integers(0, 256, (count, 224, 224), dtype=np.uint8), np.arange(count) % 3 - 1, np.arange(count) % 6,
        np.where(np.arange(count) % 3 == 1, np.arange(count) % 2, -1),
        rng.standard_normal((count, TARGETS), dtype=np.float32), spectra / spectra.sum(1, keepdims=True),
        rng.standard_normal((count, 1024)).astype(np.float16),
    )  # fmt: skip


def toy_network() -> Network:
    torch.manual_seed(5)
    return Network(Config()).eval()


def quick(**changes) -> Settings:
    return replace(Settings(steps=4, start=tensor_digest(toy_network().state_dict()), images=8), **changes)


def run(out: Path, every: int = 2, **changes) -> dict[str, torch.Tensor]:
    return train_late(toy_network(), SOURCES, toy_examples(), toy_maps(), out, quick(**changes), every).state_dict()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    out = tmp_path_factory.mktemp("whole")
    return run(out), out


def test_maps_are_those_of_the_network_and_computed_once(tmp_path, monkeypatch):
    network, levels = toy_network(), toy_examples(3).levels
    kept = keep_maps(network, levels, tmp_path, at_once=2)
    with torch.inference_mode():
        grid, maps = late.early_maps(network, torch.from_numpy(levels))
    assert np.allclose(kept.grids, grid.numpy(), atol=2e-3, rtol=2e-3)
    assert np.allclose(kept.maps, maps.numpy(), atol=2e-3, rtol=2e-3)
    monkeypatch.setattr(late, "early_maps", None)
    assert keep_maps(network, levels, tmp_path).grids.tobytes() == kept.grids.tobytes()
    assert [part.dtype for part in kept.batch(np.array([2, 0]))] == [torch.float32] * 2


def test_an_epoch_reads_every_example_once_and_the_next_in_another_order():
    epochs = [np.concatenate([batch_rows(24, 8, 1, step) for step in range(3 * e, 3 * e + 3)]) for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(24))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def test_every_part_of_the_loss_counts_by_its_weight():
    torch.manual_seed(0)
    model = Readout(toy_network(), [2], shared=True)
    rows = np.arange(12)

    def loss(**changes) -> tuple[float, dict[str, float]]:
        nothing = dict.fromkeys(("descriptors", "profile", "picture", "rows", "spectrum", "halves"), 0.0)
        total, facts = late_loss(model, SOURCES, toy_examples(), toy_maps(), rows, Weights(**nothing | changes))
        return total.item(), facts

    labels, facts = loss()
    assert labels == pytest.approx(facts["toy-resp_loss"], rel=1e-5)
    for name in (*PARTS, "spectrum"):
        assert loss(**{name: 3.0})[0] == pytest.approx(labels + 3 * facts[name], rel=1e-4)
    total, facts = loss(rows=3.0, halves=0.5)
    halves = facts["encoder1_rows"] + facts["encoder2_rows"]
    assert total == pytest.approx(labels + 3 * (facts["rows"] + 0.5 * halves), rel=1e-4)


def test_a_half_is_learnt_from_by_its_own_encoder_alone():
    torch.manual_seed(0)
    model = Readout(toy_network(), [2], shared=True)
    model.network.output_norm = torch.nn.Identity()  # it mixes the halves' scales
    model.targets[0].requires_grad_(False).weight.zero_()
    weights = Weights(0, 0, 1, 0, 0, halves=1.0)
    torch.nn.init.zeros_(model.targets[2].weight)
    late_loss(model, SOURCES, toy_examples(), toy_maps(), np.array([0, 3, 6]), weights)[0].backward()
    assert model.network.spectral_encoder.norm.weight.grad.abs().max() > 0
    assert model.network.waterfall_encoder.blocks[2].after.reduce.conv.weight.grad.abs().max() == 0


def test_early_stages_stay_and_late_ones_learn(uninterrupted):
    weights, out = uninterrupted
    before = toy_network().state_dict()
    changed = {name for name in before if not torch.equal(before[name], weights[name])}
    assert changed
    assert not [name for name in changed if name.startswith(tuple(f"{part}." for part in EARLY))]
    assert {name.split(".")[0] for name in changed} >= {"spectral_encoder", "waterfall_encoder", "gate", "output_norm"}
    assert len((out / "metrics.csv").read_text().splitlines()) == 5
    assert (out / "metrics.png").stat().st_size > 5000


def test_two_runs_give_the_same_weights_and_log(uninterrupted, tmp_path):
    weights, out = uninterrupted
    again = run(tmp_path, every=3)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (tmp_path / "metrics.csv").read_text() == (out / "metrics.csv").read_text()


def test_killed_at_any_moment_and_resumed_is_uninterrupted(uninterrupted, tmp_path):
    weights, out = uninterrupted
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\nfrom pathlib import Path\nfrom test_late import run\n"
        "run(Path(sys.argv[1]), every=1)\n"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), *folders])
    while process.poll() is None and not list(tmp_path.glob("checkpoint-*2.pt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = run(tmp_path)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert (tmp_path / "metrics.csv").read_text() == (out / "metrics.csv").read_text()


def test_other_settings_and_another_network_are_refused(uninterrupted):
    with pytest.raises(WeightsError, match="holds a run with settings="):
        run(uninterrupted[1], seed=1)
    taught = np.zeros((24, 2, 256), np.float32)
    for examples, teachers in ((toy_examples(), taught), (toy_examples(16), None)):
        with pytest.raises(WeightsError, match="holds a run with learnt_from="):
            train_late(toy_network(), SOURCES, examples, toy_maps(), uninterrupted[1], quick(), 2, teachers)
    with pytest.raises(WeightsError, match="not the digest of the network"):
        run(uninterrupted[1], start="0" * 64)


def test_teachers_are_learnt_from_and_people_held_out_are_watched(uninterrupted, tmp_path):
    taught = np.random.default_rng(2).standard_normal((24, 2, 256)).astype(np.float32)
    settings = quick(weights=Weights(0, 0, 0, 0, 0, halves=0, teachers=1.0, classes=0))
    watched = late.Kept(toy_examples(6), toy_maps(6), taught[:6])
    network = train_late(toy_network(), SOURCES, toy_examples(), toy_maps(), tmp_path, settings, 2, taught, watched)
    assert not torch.equal(network.output_norm.weight, toy_network().output_norm.weight)
    rows = (tmp_path / "held_out.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4"]
    assert {"descriptors", "teachers", "encoder1_teachers"} <= set(rows[0].split(","))
    assert network.training is False


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    original = Readout.loss
    monkeypatch.setattr(Readout, "loss", lambda *of: (original(*of)[0] * float("nan"), {}))
    with pytest.raises(WeightsError, match="the loss is nan at step 0"):
        run(tmp_path)
    assert load_checkpoint(tmp_path) is None


def test_vectors_are_computed_once(tmp_path, monkeypatch):
    torch.manual_seed(3)
    model, levels = TinyBioMoE().eval(), toy_examples(3).levels
    kept = late.keep_vectors(model, levels, tmp_path / "vectors.npy")
    with torch.inference_mode():
        expected = model(to_pixels(torch.from_numpy(levels), "cpu")).numpy()
    assert np.allclose(kept, expected, atol=1e-4)
    monkeypatch.setattr(late, "embed_levels", None)
    assert late.keep_vectors(model, levels, tmp_path / "vectors.npy").tobytes() == kept.tobytes()


def test_what_is_remembered_is_one_more_teacher(monkeypatch):
    monkeypatch.setattr(late, "minirocket", lambda _: lambda waves: waves.astype(np.float32))
    kept = [late.Kept(toy_examples(count), toy_maps(count)) for count in (24, 6)]
    vectors = [np.random.default_rng(count).standard_normal((count, 192)).astype(np.float32) for count in (24, 6)]
    remembering = [replace(one, remembered=earlier) for one, earlier in zip(kept, vectors, strict=True)]
    two, three = late.teach(toy_network(), kept), late.teach(toy_network(), remembering)
    assert [part.shape for part in three] == [(24, 3, 256), (6, 3, 256)]
    assert all(np.array_equal(part, longer[:, :2]) for part, longer in zip(two, three, strict=True))
    like = three[0][:, 2] @ three[0][:, 2].T  # cosines: alike where the remembered vectors are
    assert np.corrcoef(like.ravel(), np.corrcoef(vectors[0]).ravel())[0, 1] > 0.8


def test_to_remember_without_teachers_is_refused(tmp_path):
    result = CliRunner().invoke(late.main, ["--data", str(tmp_path), "--cache", "c", "--out", "o", "--remember"])
    assert result.exit_code == 2
    assert "give --teachers as well" in result.output


def test_a_run_goes_on_from_one_with_the_same_early_stages_alone(tmp_path):
    model = TinyBioMoE()
    model.save_pretrained(tmp_path)
    network = untrained_spectral_encoder(model.state_dict(), ramp=0.0)
    with pytest.raises(WeightsError, match="not of the early stages of .*--ramp"):
        late.go_on(network, str(tmp_path))
    network.load_state_dict(model.state_dict())
    network.gate.weight.data.zero_()
    late.go_on(network, str(tmp_path))
    assert torch.equal(network.gate.weight, model.gate.weight)
