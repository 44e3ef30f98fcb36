"""Pretraining: the loss, the schedules, the draws, and that a kill changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_pretraining import QUICK, toy_task
from toy_training import TINY

from pretraining.archives import Task
from pretraining.batches import (
    NO_LABEL,
    Augmentation,
    TrainingBatches,
    draw_window,
    evaluation_windows,
    person_limits,
    vary,
)
from pretraining.growth import take_over
from pretraining.multitask import Settings, finished, train
from pretraining.objectives import FACTS, MultitaskModel, Objectives, multitask_loss, read_loss
from pretraining.ranks import Ranks, process_group
from tiny_biomoe import Config, ConfigError, Recipe, WeightsError
from tiny_biomoe.network.network import Network
from tiny_biomoe.train.checkpoints import load_checkpoint, save_checkpoint
from tiny_biomoe.train.schedules import cosine_factor, linear

PLAIN_NOISE = Augmentation(noise_share=1.0, noise_db=(20, 20), drift_share=0.0, flip_share=0.0)
RECORDED = Augmentation(made_share=0.0, disguise_share=0.0)


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [toy_task("ecg"), toy_task("eeg", 125.0)]


@pytest.fixture(scope="module")
def uninterrupted(tasks, tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    out = tmp_path_factory.mktemp("whole")
    return train(tasks, out, QUICK, workers=0, every=2).state_dict(), out


def test_eq_8_and_its_gradient():
    losses, weights = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.5], requires_grad=True)
    total = multitask_loss(losses, weights)
    assert total.item() == pytest.approx(1.0 + 2.0 * np.exp(0.5) + 0.5)
    total.backward()
    assert weights.grad.tolist() == pytest.approx([2.0, 2.0 * np.exp(0.5) + 1.0])


def test_eq_9_end_points():
    assert [linear(0.5, 0.1, share) for share in (0, 0.5, 1)] == pytest.approx([0.5, 0.3, 0.1])


def test_cosine_rises_falls_and_rests():
    factors = [cosine_factor(step, 200) for step in range(200)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert np.all(np.diff(factors[4:190]) <= 0)
    assert factors[190:] == [0.01] * 10


def test_a_batch_is_a_pure_function_of_seed_and_step(tasks):
    first, again = (TrainingBatches(tasks, Recipe(), 12, 7, Augmentation())[3] for _ in range(2))
    other = TrainingBatches(tasks, Recipe(), 12, 8, Augmentation())[3]
    assert first.levels.tobytes() == again.levels.tobytes()
    assert first.levels.tobytes() != other.levels.tobytes()
    assert first.levels.shape == (12, 224, 224)
    assert first.tasks.tolist() == [0, 1] * 6


def test_every_task_shows_every_representation_equally_often(tasks):
    batches = TrainingBatches(tasks, Recipe(), 12, 0, Augmentation())
    drawn = [
        (task, name)
        for step in range(4)
        for task, name in zip(batches[step].tasks, batches[step].representations, strict=True)
    ]
    assert {pair: drawn.count(pair) for pair in set(drawn)} == {(t, r): 4 for t in range(2) for r in range(6)}


def test_as_in_the_paper_all_six_images_of_a_window(tasks):
    batch = TrainingBatches(tasks, Recipe(), 24, 0, RECORDED, views=6)[1]
    assert batch.tasks.tolist() == [0] * 6 + [1] * 6 + [0] * 6 + [1] * 6
    assert batch.representations.tolist() == [0, 1, 2, 3, 4, 5] * 4
    windows = batch.profiles.reshape(4, 6, -1)
    assert (windows == windows[:, :1]).all()
    assert len({window[0].tobytes() for window in windows}) == 4
    assert len({levels.tobytes() for levels in batch.levels}) == 24


@pytest.mark.parametrize(("images", "views"), [(3, 1), (12, 4), (6, 6), (12, 0)])
def test_a_batch_that_cannot_be_shared_out_is_refused(tasks, images, views):
    with pytest.raises(ConfigError, match="multiple of views times 2 tasks"):
        TrainingBatches(tasks, Recipe(), images, 0, Augmentation(), views)


def test_objectives_weigh_what_is_learnt_beside_the_labels(tasks):
    batch = TrainingBatches(tasks, Recipe(), 6, 0, RECORDED)[0]
    learnt = []
    for objectives in (Objectives(0, 0, 0), Objectives(1, 0, 0), Objectives(0, 1, 0), Objectives(0, 0, 1)):
        torch.manual_seed(0)
        model = MultitaskModel(Network(Config(architecture=TINY)), [2, 2])
        read_loss(model, batch, ["ecg", "eeg"], objectives, half=False)[0].backward()
        targets = model.targets.weight.grad.unflatten(0, (6, -1))  # (6, 120, embedding_dim)
        gradients = targets[:, :FACTS], targets[:, FACTS:], model.spectrum.weight.grad
        learnt.append([bool(gradient.abs().sum() > 0) for gradient in gradients])
        assert model.labels[1].weight.grad.abs().sum() > 0
    assert learnt == [[False] * 3, [True, False, False], [False, True, False], [False, False, True]]


def test_the_loss_on_a_spectrum_is_least_where_it_is_told_as_it_is(tasks):
    batch = TrainingBatches(tasks, Recipe(), 6, 0, RECORDED)[0]
    torch.manual_seed(0)
    model = MultitaskModel(Network(Config(architecture=TINY)), [2, 2])
    torch.nn.init.zeros_(model.spectrum.weight)
    shares = torch.from_numpy(batch.spectra)
    lost = []
    for told in (shares[0], torch.full_like(shares[0], 1 / 40)):
        model.spectrum.bias.data = told.clamp_min(1e-12).log().repeat(6)
        lost.append(read_loss(model, replace_spectra(batch, batch.spectra[:1]), ["ecg", "eeg"], Objectives(), False)[1])
    assert lost[0]["spectrum_loss"] == pytest.approx(0, abs=1e-5)
    assert lost[1]["spectrum_loss"] == pytest.approx(
        float(np.sum(batch.spectra[0] * np.log(40 * np.maximum(batch.spectra[0], 1e-12)))), abs=1e-4
    )


def replace_spectra(batch, spectra):
    """The batch with one window's spectrum for all."""
    return replace(batch, spectra=np.repeat(spectra, len(batch.levels), axis=0))


def test_a_task_without_a_label_in_the_batch_logs_no_score(tasks):
    batch = TrainingBatches(tasks, Recipe(), 6, 0, RECORDED)[0]
    torch.manual_seed(0)
    model = MultitaskModel(Network(Config(architecture=TINY)), [2, 2])
    hidden = replace(batch, labels=np.where(batch.tasks == 1, NO_LABEL, batch.labels))
    loss, parts = read_loss(model, hidden, ["ecg", "eeg"], Objectives(), half=False)
    assert np.isnan([parts["eeg_loss"], parts["eeg_accuracy"]]).all()
    assert parts["ecg_loss"] > 0
    assert loss.isfinite()


def test_a_window_in_disguise_has_no_label(tasks):
    for share in (0.0, 0.5, 1.0):
        batches = TrainingBatches(tasks, Recipe(), 48, 0, Augmentation(made_share=0.0, disguise_share=share))
        hidden = np.concatenate([batches[step].labels for step in range(3)]) == NO_LABEL
        assert hidden.mean() == pytest.approx(share, abs=0.12)


def test_a_window_that_is_made_has_no_label_and_needs_no_recording(tasks, monkeypatch):
    batches = TrainingBatches(tasks, Recipe(), 48, 0, Augmentation(made_share=0.25, disguise_share=0.0))
    hidden = np.concatenate([batches[step].labels for step in range(4)]) == NO_LABEL
    assert hidden.mean() == pytest.approx(0.25, abs=0.1)
    monkeypatch.delattr(Task, "recording")
    batch = TrainingBatches(tasks, Recipe(), 12, 0, Augmentation(made_share=1.0))[0]
    assert (batch.labels == NO_LABEL).all()
    assert len({levels.tobytes() for levels in batch.levels}) == 12


def test_held_out_recordings_are_never_drawn(tasks, monkeypatch):
    task = tasks[0]
    seen = set()
    original = Task.recording
    monkeypatch.setattr(Task, "recording", lambda self, index: (seen.add(index), original(self, index))[1])
    batches = TrainingBatches([task], Recipe(), 30, 0, Augmentation(person_scale_share=0.0))
    batches[0], batches[1]
    assert seen
    assert not any(task.held_out[index] for index in seen)
    assert {index for index, _ in evaluation_windows(task, True, 99, 0)} == {9, 10, 11}


def test_augmentation_shares_are_what_they_say():
    upside_down = Augmentation(noise_share=0.0, drift_share=0.0, flip_share=0.5)
    window = np.arange(100.0)
    flips = [vary(window, upside_down, np.random.default_rng(seed))[0] != window[0] for seed in range(400)]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.08)
    added = vary(np.sin(np.arange(20000.0)), PLAIN_NOISE, np.random.default_rng(0)) - np.sin(np.arange(20000.0))
    assert added.std() == pytest.approx(np.sqrt(0.5) / 10, rel=0.03)


def test_drift_wanders_as_far_as_it_says():
    drift = Augmentation(noise_share=0.0, drift_share=1.0, drift_size=(0.5, 0.5), flip_share=0.0)
    signal = np.sin(np.arange(20000.0))
    added = vary(signal, drift, np.random.default_rng(0)) - signal
    assert added.std() == pytest.approx(0.5 * signal.std(), rel=1e-6)
    assert np.abs(np.diff(added)).max() < 0.1 * added.std()


def test_person_limits_span_the_persons_recordings(tasks):
    low, high = person_limits(tasks[0], 0, (0, 100))
    both = np.concatenate([tasks[0].recording(0)[::8], tasks[0].recording(1)[::8]])
    assert (low, high) == (both.min(), both.max())
    assert draw_window(tasks[0].recording(0), tasks[0], Recipe(), limits=(low, high)).shape == (6, 224, 224)


def test_two_runs_give_the_same_weights_and_log(tasks, uninterrupted, tmp_path):
    weights, out = uninterrupted
    again = train(tasks, tmp_path, QUICK, workers=1, every=4).state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (tmp_path / "metrics.csv").read_text() == (out / "metrics.csv").read_text()
    assert (out / "metrics.png").stat().st_size > 5000


def test_training_changes_what_it_should_and_restores_the_callers_settings(uninterrupted):
    weights, out = uninterrupted
    assert weights["gate.bias"].sub(0.5).abs().max() > 1e-6
    assert torch.are_deterministic_algorithms_enabled() is False
    assert len((out / "metrics.csv").read_text().splitlines()) == 5


def test_row_89_killed_at_any_moment_and_resumed_is_uninterrupted(tasks, uninterrupted, tmp_path):
    weights, _ = uninterrupted
    options = {"workers": 0, "every": 1}
    killed = get_context("fork").Process(target=train, args=(tasks, tmp_path, QUICK), kwargs=options, daemon=True)
    killed.start()
    while killed.is_alive() and not list(tmp_path.glob("checkpoint-*2.pt")):
        time.sleep(0.02)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL  # it had not finished
    assert list(tmp_path.glob("checkpoint-*.pt"))
    resumed = train(tasks, tmp_path, QUICK, workers=0, every=2).state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == [
        "step",
        "0",
        "1",
        "2",
        "3",
    ]


def learn_as(rank: int, port: int, tasks: list[Task], out: Path) -> None:
    """What one of two processes does, as torchrun would start it; what it found is left in a file."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()})
    with process_group("cpu") as (ranks, device):
        layer = torch.nn.BatchNorm1d(2)
        layer.weight.grad = torch.full((2,), float(ranks.rank))
        layer.running_mean.fill_(10 * ranks.rank)
        ranks.average_gradients(layer)
        ranks.average_statistics(layer)
        averages = f"{layer.weight.grad.tolist()} {layer.bias.grad} {layer.running_mean.tolist()}"
        assert (ranks.world, device) == (2, "cpu")
    network = train(tasks, out, replace(QUICK, steps=2, processes=Settings().processes), workers=0)
    learnt = sum(float(tensor.double().abs().sum()) for tensor in network.state_dict().values()).hex()
    (out / f"said-{rank}").write_text(f"{averages}\n{learnt}")


def test_two_processes_learn_one_network_from_batches_of_their_own(tasks, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = get_context("fork")
    started = [fork.Process(target=learn_as, args=(rank, port, tasks, tmp_path), daemon=True) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=300)
    assert [process.exitcode for process in started] == [0, 0]
    (averages, first), (others, second) = ((tmp_path / f"said-{rank}").read_text().split("\n") for rank in (0, 1))
    assert averages == others == "[0.5, 0.5] None [5.0, 5.0]"
    assert first == second
    state = load_checkpoint(tmp_path)
    assert (state["step"], state["settings"]["processes"]) == (2, 2)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
    assert Ranks(1, 2).batches(3, 5) == range(7, 11, 2)  # 7, 9: nobody else draws them
    with pytest.raises(WeightsError, match="processes=2, not 1"):
        train(tasks, tmp_path, replace(QUICK, steps=2), workers=0)


def test_small_images_first_then_whole_ones(tasks, tmp_path):
    settings = Settings(**{**QUICK.__dict__, "steps": 2})
    small = train(tasks, tmp_path / "small", settings, workers=0)
    assert small.image_norm.weight.shape == (3, 112, 112)
    start = finished(tmp_path / "small")
    assert torch.equal(start["network.gate.weight"], small.gate.weight)
    settings = Settings(**{**QUICK.__dict__, "steps": 2, "seed": 1, "image_size": 224})
    whole = train(tasks, tmp_path / "whole", settings, workers=0, start=start)
    assert whole.image_norm.weight.shape == (3, 224, 224)
    difference = (whole.gate.weight - small.gate.weight).abs().max().item()
    assert 0 < difference < 3 * settings.learning_rate  # two steps away from where the small one ended
    with pytest.raises(WeightsError, match="holds a run with start="):
        train(tasks, tmp_path / "whole", settings, workers=0)


def test_a_run_goes_on_with_its_heads_unless_they_tell_something_else(tasks, tmp_path):
    settings = replace(QUICK, steps=1)
    train(tasks, tmp_path / "first", settings, workers=0)
    begin = finished(tmp_path / "first")
    model = MultitaskModel(Network(Config(architecture=TINY), 112), [len(task.classes) for task in tasks])
    assert take_over(model, begin)
    state = model.state_dict()
    assert all(torch.equal(tensor, begin[name]) for name, tensor in state.items() if name != "loss_weights")
    assert begin["loss_weights"].abs().max() > 0 == state["loss_weights"].abs().max()
    other = MultitaskModel(Network(Config(architecture=TINY), 112), [7] * len(tasks))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    assert not take_over(other, begin)
    with pytest.raises(WeightsError, match="no state of a MultitaskModel: it lacks network"):
        take_over(model, {name.removeprefix("network."): tensor for name, tensor in begin.items()})
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, begin[name] if name.startswith("network.") else before[name])

    train(tasks, tmp_path / "second", replace(settings, seed=2), workers=0, start=begin)
    seen = finished(tmp_path / "second")
    assert torch.equal(seen["target_mean"], begin["target_mean"])
    assert torch.equal(seen["target_std"], begin["target_std"])


def test_a_run_without_a_checkpoint_is_no_start(tmp_path):
    with pytest.raises(WeightsError, match="holds no checkpoint to start from"):
        finished(tmp_path)


def test_a_checkpoint_of_other_recordings_is_refused(tasks, uninterrupted):
    with pytest.raises(WeightsError, match="other recordings"):
        train([tasks[0], toy_task("emg")], uninterrupted[1], QUICK, workers=0)


def test_a_checkpoint_of_other_settings_is_refused(tasks, uninterrupted):
    with pytest.raises(WeightsError, match="seed=20251123, not 1"):
        train(tasks, uninterrupted[1], Settings(**{**QUICK.__dict__, "seed": 1}), workers=0)


def test_row_87_a_kill_during_a_save_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, {"step": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, {"step": 2})
    assert load_checkpoint(tmp_path) == {"step": 1}


def test_row_88_a_damaged_newest_gives_way_to_the_one_before_loudly(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2})
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(tmp_path) == {"step": 1}
    (tmp_path / "checkpoint-00000001.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(WeightsError, match="every checkpoint"):
        load_checkpoint(tmp_path)


def test_row_91_a_checkpoint_that_names_code_is_never_run(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1, "payload": Path("x")})
    with pytest.raises(WeightsError, match="holds objects that are not tensors"):
        load_checkpoint(tmp_path)


def test_row_90_a_loss_that_is_not_finite_stops_the_run(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("pretraining.objectives.multitask_loss", lambda losses, weights: losses.sum() * float("nan"))
    with pytest.raises(WeightsError, match="the loss is nan at step 0"):
        train(tasks, tmp_path, QUICK, workers=0)
    assert load_checkpoint(tmp_path) is None


def test_row_90_a_gradient_that_overflows_stops_before_it_is_learnt_and_keeps_the_last_good(
    tasks, tmp_path, monkeypatch
):
    from pretraining import multitask

    original, calls = multitask.read_loss, []

    def overflow_in_last_step(*arguments):
        calls.append(1)
        loss, facts = original(*arguments)
        if len(calls) == 2:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss, facts

    monkeypatch.setattr(multitask, "read_loss", overflow_in_last_step)
    with pytest.raises(WeightsError, match=r"norm of the gradient is (inf|nan) at step 1: stopped"):
        train(tasks, tmp_path, Settings(**{**QUICK.__dict__, "steps": 2}), workers=0, every=1)
    kept = load_checkpoint(tmp_path)
    assert kept["step"] == 1
    assert all(value.isfinite().all() for value in kept["model"].values())
