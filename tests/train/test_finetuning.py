"""Fine-tuning: what learns, what stays, that two runs are one, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import QUICK, tiny, toy_samples

from tiny_biomoe import ConfigError, SignalWarning, WeightsError
from tiny_biomoe.model import embed_levels
from tiny_biomoe.train.augment import NONE, Augmentation
from tiny_biomoe.train.checkpoints import load_checkpoint, save_checkpoint
from tiny_biomoe.train.classifier import TrainedClassifier
from tiny_biomoe.train.finetuning import _Run, finetune
from tiny_biomoe.train.settings import Settings
from tiny_biomoe.train.vectors import VectorCache

AUGMENTED = dataclasses.replace(QUICK, augmentation=Augmentation())


def weights_of(classifier):
    return classifier.model.state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def samples():
    return toy_samples()


@pytest.fixture(scope="module")
def parts():
    """People to learn from, and others."""
    every = toy_samples(6)
    return every.take(slice(0, 8)), every.take(slice(8, 12))


@pytest.fixture(scope="module")
def uninterrupted(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return finetune(tiny(), *parts[:1], validation=parts[1], settings=AUGMENTED, out=out), out


def test_it_learns_and_leaves_the_callers_model_and_settings_untouched(samples):
    model, state = tiny(), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = dataclasses.replace(QUICK, epochs=12, learning_rate=0.01, smoothing=(0.0, 0.0), dropout=(0.0, 0.0))
    classifier = finetune(model, samples, settings=settings)
    assert same(before, model.state_dict())
    assert not model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.are_deterministic_algorithms_enabled() is False
    assert classifier.history[-1]["train_loss"] < 0.3 * classifier.history[0]["train_loss"]
    assert classifier.evaluate(samples).accuracy > 0.9
    assert len(classifier.history) == 12
    changed = {name for name, value in classifier.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert {"image_norm.weight", "gate.weight", "spectral_encoder.stem.convs.0.weight"} <= changed


def test_two_runs_give_the_same_weights(parts, uninterrupted):
    again = finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED)
    assert same(weights_of(uninterrupted[0]), weights_of(again))
    assert again.history == uninterrupted[0].history
    other = finetune(tiny(), parts[0], validation=parts[1], settings=dataclasses.replace(AUGMENTED, seed=1))
    assert not same(weights_of(other), weights_of(again))


def test_row_89_stopped_after_an_epoch_and_resumed_is_uninterrupted(parts, uninterrupted, tmp_path, monkeypatch):
    from tiny_biomoe.train import finetuning as module

    original = module._Run._epoch

    def stop_in_second(self, epoch):
        if epoch == 1:
            original(self, epoch)
            raise KeyboardInterrupt
        return original(self, epoch)

    monkeypatch.setattr(module._Run, "_epoch", stop_in_second)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED, out=tmp_path)
    monkeypatch.setattr(module._Run, "_epoch", original)
    torch.manual_seed(99)  # the caller's random state is not the run's
    resumed = finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED, out=tmp_path)
    assert same(weights_of(uninterrupted[0]), weights_of(resumed))
    assert resumed.history == uninterrupted[0].history


def test_row_74_killed_at_any_moment_and_resumed_is_uninterrupted(parts, uninterrupted, tmp_path):
    program = (  # a process of its own, whose sets are in another order
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/train']\n"
        "from pathlib import Path\nfrom test_finetuning import AUGMENTED, finetune, tiny, toy_samples, torch\n"
        "torch.set_num_threads(int(sys.argv[3]))\n"
        "every = toy_samples(6)\n"
        "finetune(tiny(), every.take(slice(0, 8)), validation=every.take(slice(8, 12)), settings=AUGMENTED,\n"
        "         out=Path(sys.argv[2]))\n"
    )
    arguments = [str(Path(__file__).parents[1]), str(tmp_path), str(torch.get_num_threads())]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    while process.poll() is None and not list(tmp_path.glob("checkpoint-*1.pt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not finished
    assert load_checkpoint(tmp_path)["history"]
    resumed = finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED, out=tmp_path)
    assert same(weights_of(uninterrupted[0]), weights_of(resumed))


def test_row_88_a_damaged_newest_checkpoint_gives_way_to_the_one_before(parts, uninterrupted, tmp_path):
    finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED, out=tmp_path)
    newest = tmp_path / "checkpoint-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match="damaged"):
        resumed = finetune(tiny(), parts[0], validation=parts[1], settings=AUGMENTED, out=tmp_path)
    assert same(weights_of(uninterrupted[0]), weights_of(resumed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(AUGMENTED, seed=1)}, "seed=0, not 1"),
        ({"settings": dataclasses.replace(AUGMENTED, fusion="add")}, "fusion='concat', not 'add'"),
        ({"model": 1}, "model="),
        ({"dataset": slice(0, 6)}, "dataset="),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(parts, uninterrupted, change, message):
    arguments = {"model": tiny(change.get("model", 0)), "dataset": parts[0].take(change.get("dataset", slice(None)))}
    with pytest.raises(WeightsError, match=message):
        finetune(**arguments, validation=parts[1], settings=change.get("settings", AUGMENTED), out=uninterrupted[1])


def test_row_92_another_class_count_is_refused(parts, uninterrupted):
    three = dataclasses.replace(parts[0], classes=("calm", "stress", "third"))
    other = dataclasses.replace(parts[1], classes=("calm", "stress", "third"))
    with pytest.raises(WeightsError, match=r"dataset=|classes="):
        finetune(tiny(), three, validation=other, settings=AUGMENTED, out=uninterrupted[1])


def test_row_90_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(samples, tmp_path, monkeypatch):
    original = torch.nn.functional.cross_entropy
    calls = []

    def break_in_second_epoch(*arguments, **options):
        calls.append(1)
        return original(*arguments, **options) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr("tiny_biomoe.train.finetuning.F.cross_entropy", break_in_second_epoch)
    with pytest.raises(WeightsError, match=r"the loss is nan at step 3: stopped; the last good checkpoint is in"):
        finetune(tiny(), samples, settings=QUICK, out=tmp_path)
    assert len(load_checkpoint(tmp_path)["history"]) == 1


def test_row_90_a_gradient_that_overflows_stops_before_it_is_learnt_and_keeps_the_last_good(
    samples, tmp_path, monkeypatch
):
    original = torch.nn.functional.cross_entropy
    calls = []

    def overflow_in_last_step(*arguments, **options):
        calls.append(1)
        loss = original(*arguments, **options)
        if len(calls) == 6:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr("tiny_biomoe.train.finetuning.F.cross_entropy", overflow_in_last_step)
    with pytest.raises(WeightsError, match=r"norm of the gradient is (inf|nan) at step 5: stopped; the last good"):
        finetune(tiny(), samples, settings=QUICK, out=tmp_path)
    kept = load_checkpoint(tmp_path)
    assert len(kept["history"]) == 1
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_row_93_a_full_disk_leaves_the_checkpoint_before(samples, tmp_path, monkeypatch):
    import os

    finetune(tiny(), samples, settings=dataclasses.replace(QUICK, epochs=1), out=tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 2, {"step": 2})
    monkeypatch.undo()
    assert len(load_checkpoint(tmp_path)["history"]) == 1
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("part", ["last", "head"])
def test_what_is_frozen_stays_with_its_running_statistics(samples, part):
    model = tiny()
    settings = dataclasses.replace(QUICK, part=part, epochs=1)
    classifier = finetune(model, samples, settings=settings)
    changed = {n for n, v in classifier.backbone.state_dict().items() if not torch.equal(v, model.state_dict()[n])}
    assert not any(
        name.startswith(("image_norm", "spectral_encoder.stem", "waterfall_encoder.patch")) for name in changed
    )
    assert ("gate.weight" in changed) == (part == "last")
    if part == "head":
        assert not changed


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss(parts, monkeypatch):
    losses = iter([0.6, 0.5, 0.7, 0.8, 0.9])
    seen = []

    def validate(self):
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return {"validation_loss": next(losses), "validation_accuracy": 0.5}

    monkeypatch.setattr("tiny_biomoe.train.finetuning._Run._validate", validate)
    classifier = finetune(
        tiny(), parts[0], validation=parts[1], settings=dataclasses.replace(QUICK, epochs=5, patience=2)
    )
    assert len(classifier.history) == 4
    assert same(weights_of(classifier), seen[1])


def test_dropout_and_smoothing_follow_eq_9_from_the_first_epoch_to_the_last(samples, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tiny_biomoe.train.finetuning._Run._step",
        lambda self, step, rows, smoothing: (seen.append((self.model.dropout.p, smoothing)), (0.0, 0))[1],
    )
    finetune(tiny(), samples.take(slice(0, 4)), settings=dataclasses.replace(QUICK, epochs=3, smoothing=(0.2, 0.0)))
    assert seen == [pytest.approx(pair) for pair in [(0.3, 0.2), (0.2, 0.1), (0.1, 0.0)]]


def test_a_step_is_taken_with_the_rate_the_weights_and_the_smoothing_of_the_settings(samples, monkeypatch):
    rates, losses = [], []
    step, loss = torch.optim.AdamW.step, torch.nn.functional.cross_entropy

    def taken(self, *arguments, **options):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments, **options)

    def recorded(logits, labels, weights, *, label_smoothing):
        losses.append((weights.tolist(), label_smoothing))
        return loss(logits, labels, weights, label_smoothing=label_smoothing)

    monkeypatch.setattr(torch.optim.AdamW, "step", taken)
    monkeypatch.setattr("tiny_biomoe.train.finetuning.F.cross_entropy", recorded)
    settings = dataclasses.replace(
        QUICK, epochs=4, batch_size=6, learning_rate=0.01, warmup=0.25, cooldown=0.25, smoothing=(0.2, 0.05),
        class_weights=(1.0, 3.0),
    )  # fmt: skip
    finetune(tiny(), samples, settings=settings)
    expected = [0.005, 0.01]  # warm-up, of two steps
    expected += [0.01 * (0.01 + 0.99 * (1 + np.cos(np.pi * k / 4)) / 2) for k in range(4)]
    expected += [0.0001, 0.0001]  # cool-down
    assert np.array(rates) == pytest.approx(np.array([expected, expected]).T)  # of what decays, and what does not
    assert [weights for weights, _ in losses] == [[1.0, 3.0]] * 8
    assert [smoothing for _, smoothing in losses[::2]] == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_row_89_a_run_that_may_stop_early_resumes_with_its_best(parts, tmp_path, monkeypatch):
    losses = {0: 0.6, 1: 0.5, 2: 0.7, 3: 0.8}
    monkeypatch.setattr(
        _Run, "_validate", lambda self: {"validation_loss": losses[len(self.history)], "validation_accuracy": 0.5}
    )
    settings = dataclasses.replace(QUICK, epochs=4, patience=2)
    whole = finetune(tiny(), parts[0], validation=parts[1], settings=settings)
    original = _Run._epoch

    def stop_in_third(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return original(self, epoch)

    monkeypatch.setattr(_Run, "_epoch", stop_in_third)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny(), parts[0], validation=parts[1], settings=settings, out=tmp_path)
    monkeypatch.setattr(_Run, "_epoch", original)
    resumed = finetune(tiny(), parts[0], validation=parts[1], settings=settings, out=tmp_path)
    assert same(weights_of(whole), weights_of(resumed))
    assert resumed.history == whole.history
    assert len(resumed.history) == 4


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_callers_choice_of_algorithms_comes_back(samples, warn_only):
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        finetune(tiny(), samples.take(slice(0, 2)), settings=dataclasses.replace(QUICK, epochs=1))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)


def test_every_sample_is_seen_once_an_epoch_in_another_order(samples, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tiny_biomoe.train.finetuning._Run._step", lambda self, step, rows, smoothing: (seen.append(rows), (0.0, 0))[1]
    )
    finetune(tiny(), samples, settings=dataclasses.replace(QUICK, batch_size=5))
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert max(map(len, seen)) <= 5


def test_mixed_precision_learns_in_float32_weights(samples):
    classifier = finetune(tiny(), samples, settings=dataclasses.replace(QUICK, precision="bfloat16"))
    assert {value.dtype for value in weights_of(classifier).values() if value.is_floating_point()} == {torch.float32}
    assert classifier.history[-1]["train_loss"] == pytest.approx(
        finetune(tiny(), samples, settings=QUICK).history[-1]["train_loss"], rel=0.2
    )


def test_the_head_alone_learns_from_still_images_that_are_embedded_once(parts, monkeypatch):
    from tiny_biomoe.train import finetuning, vectors

    embedded, embed = [], vectors.embed_levels
    monkeypatch.setattr(
        vectors,
        "embed_levels",
        lambda net, images, size: (embedded.append(len(held := list(images))), embed(net, held, size))[1],
    )
    settings = dataclasses.replace(QUICK, part="head", epochs=3)
    once = finetune(tiny(), parts[0], validation=parts[1], settings=settings)
    assert embedded == [8, 4]  # not once an epoch
    monkeypatch.setattr(finetuning, "NONE", Augmentation())  # as if images varied: each step looks at them anew
    anew = finetune(tiny(), parts[0], validation=parts[1], settings=settings)
    assert embedded == [8, 4, 4]  # the validation images are never varied
    assert torch.allclose(once.model.head.weight, anew.model.head.weight, atol=1e-5)
    for row, other in zip(once.history, anew.history, strict=True):
        assert row == pytest.approx(other, abs=1e-4)


def test_the_head_alone_learns_from_images_as_they_are_unless_it_is_asked_otherwise():
    assert Settings(part="head").augmentation == NONE
    assert Settings().augmentation == Settings(part="last").augmentation == Augmentation()
    assert Settings(part="head", augmentation=Augmentation()).augmentation == Augmentation()


def test_vectors_stay_in_the_folder_and_a_stopped_run_of_a_head_computes_none_twice(parts, tmp_path, monkeypatch):
    settings = dataclasses.replace(QUICK, part="head", epochs=25)
    whole = finetune(tiny(), parts[0], validation=parts[1], settings=settings)
    original = _Run._epoch

    def stop(self, epoch):
        if epoch == 21:
            raise KeyboardInterrupt
        return original(self, epoch)

    monkeypatch.setattr(_Run, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(tiny(), parts[0], validation=parts[1], settings=settings, out=tmp_path)
    monkeypatch.setattr(_Run, "_epoch", original)
    assert len(load_checkpoint(tmp_path)["history"]) == 20
    monkeypatch.setattr("tiny_biomoe.train.vectors.embed_levels", None)
    resumed = finetune(tiny(), parts[0], validation=parts[1], settings=settings, out=tmp_path)
    assert same(weights_of(whole), weights_of(resumed))
    assert resumed.history == whole.history


def test_a_damaged_file_of_vectors_is_computed_anew_and_another_model_has_its_own(parts, tmp_path):
    images = parts[0].levels[:3, 0]
    found = VectorCache(tiny(), tmp_path).of([*images, images[0]])
    assert found[3].tobytes() == found[0].tobytes()
    (path,) = tmp_path.glob("vectors-*.bin")
    assert len(VectorCache(tiny(), tmp_path).known) == 3
    assert not VectorCache(tiny(1), tmp_path).known
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = VectorCache(tiny(), tmp_path)
    assert not damaged.known
    assert damaged.of(images).tobytes() == found[:3].tobytes()
    with pytest.raises(ConfigError, match="vectors= are of another model"):
        finetune(tiny(1), parts[0], settings=dataclasses.replace(QUICK, part="head"), vectors=damaged)


def test_a_log_gets_plain_lines_and_the_epoch_that_a_run_resumes_from(parts, tmp_path, capsys):
    settings = dataclasses.replace(QUICK, part="head", epochs=2)
    finetune(tiny(), parts[0], settings=settings, out=tmp_path, progress=True)
    err = capsys.readouterr().err
    assert "embedding: image 8 of 8: 0 s left" in err
    assert "training: 2 epochs\n" in err
    assert re.search(r"training: epoch 2 of 2: train_loss \d.\d{3}, train_accuracy \d.\d{3}, 0 s left\n", err)
    finetune(tiny(), parts[0], settings=settings, out=tmp_path, progress=True)
    assert "training: 2 epochs from epoch 3\n" in capsys.readouterr().err


def test_still_images_of_samples_that_lack_some_are_embedded_where_they_are():
    views = (("bvp", "waveform"), ("eda", "psd"))
    every = toy_samples(4, views)
    present = every.present.copy()
    present[3, 0] = present[4, 1] = False
    gaps = dataclasses.replace(every, present=present)
    run = _Run(tiny(), gaps, None, dataclasses.replace(QUICK, part="head", missing="mask"), torch.device("cpu"), None)
    still = run._still(gaps)
    assert still.shape == (8, 2, 16)
    assert not still[3, 0].any()
    assert not still[4, 1].any()
    alone = embed_levels(run.model.backbone, [gaps.levels[4, 0]], 1)
    assert still[4, 0].numpy().tobytes() == alone.tobytes()


def numbers(samples):
    """The same samples with a number to predict: about 10 calm, about 14 stressed."""
    return dataclasses.replace(
        samples, labels=10.0 + 4 * samples.labels + np.linspace(-0.1, 0.1, len(samples)), classes=()
    )


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_regression_learns_numbers_in_their_own_unit(parts, tmp_path, loss):
    settings = dataclasses.replace(QUICK, epochs=60, part="head", learning_rate=0.05, dropout=(0.0, 0.0), loss=loss)
    trained = finetune(tiny(), numbers(parts[0]), validation=numbers(parts[1]), settings=settings)
    assert trained.target.mean == pytest.approx(12, abs=0.01)
    assert trained.target.std == pytest.approx(2, rel=0.01)
    assert trained.history[-1]["train_loss"] < 0.8 * trained.history[0]["train_loss"]
    assert trained.history[-1]["train_mae"] < 2.5  # in the target's unit
    with pytest.warns(SignalWarning, match="scored on 2 people"):
        scores = trained.evaluate(numbers(parts[1]))
    assert scores.baseline == pytest.approx(2, abs=0.1)
    assert scores.mae == pytest.approx(trained.history[-1]["validation_mae"], abs=1e-4)
    trained.save(tmp_path, scores)
    loaded = TrainedClassifier.load(tmp_path)
    assert loaded.predict(parts[1]).tobytes() == trained.predict(parts[1]).tobytes()
    assert 6 < loaded.predict(parts[1]).min() < loaded.predict(parts[1]).max() < 18
    card = (tmp_path / "README.md").read_text()
    assert "concordance" in card
    assert "baseline mae" in card
    with pytest.raises(ConfigError, match="a regression has no probabilities"):
        loaded.predict_proba(parts[1])


def test_a_regression_stops_early_and_refuses_what_is_one_number(parts):
    settings = dataclasses.replace(QUICK, epochs=9, part="head", patience=1, learning_rate=0.3)
    trained = finetune(tiny(), numbers(parts[0]), validation=numbers(parts[1]), settings=settings)
    losses = [row["validation_loss"] for row in trained.history]
    assert losses.index(min(losses)) >= len(losses) - 2
    with pytest.raises(ConfigError, match="a regression has none"):
        finetune(tiny(), numbers(parts[0]), settings=dataclasses.replace(QUICK, class_weights="balanced"))
    alone = dataclasses.replace(parts[0], labels=np.zeros(8, np.int64), classes=("calm",))
    with pytest.raises(ConfigError, match="a classifier tells at least two classes apart, and there are 1"):
        finetune(tiny(), alone, settings=dataclasses.replace(QUICK, part="head"))
    same = dataclasses.replace(parts[0], labels=np.full(8, 3.0), classes=())
    with pytest.raises(ConfigError, match="all 8 numbers to predict are 3"):
        finetune(tiny(), same, settings=dataclasses.replace(settings, patience=None))


def test_the_function_and_what_it_takes_come_from_the_package():
    import tiny_biomoe.train as train

    assert train.finetune is finetune
    assert train.finetune.__name__ == "finetune"
    assert all(getattr(train, name).__name__ == name for name in train.__all__)
    assert set(train.__all__) <= set(dir(train))
    with pytest.raises(AttributeError, match="no attribute 'finetunes'"):
        train.finetunes  # noqa: B018


def test_a_person_in_both_parts_is_refused(samples):
    with pytest.raises(ConfigError, match="subject 'P0' is in both parts"):
        finetune(tiny(), samples, validation=samples.take([0, 1]), settings=QUICK)


def test_early_stopping_without_other_people_is_refused(samples):
    with pytest.raises(ConfigError, match="patience=3 needs validation samples"):
        finetune(tiny(), samples, settings=dataclasses.replace(QUICK, patience=3))


def test_the_defaults_are_the_papers():
    assert (Settings().batch_size, Settings().learning_rate, Settings().epochs) == (32, 1e-4, 200)
    with pytest.raises(ConfigError, match="dropout"):
        Settings(dropout=(0.1, 1.0))
    with pytest.raises(ConfigError, match="unknown precision 'float16'"):
        Settings(precision="float16")


@contextmanager
def another_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("around", "part"),
    [
        (torch.no_grad, "head"), (torch.inference_mode, "head"), (lambda: torch.device("meta"), "head"),
        (another_dtype, "head"), (another_dtype, "all"),
    ],
    ids=str,
)  # fmt: skip
def test_row_122_training_is_the_same_whatever_the_process_has_set(parts, tmp_path, around, part):
    settings = dataclasses.replace(QUICK, epochs=1, part=part) if part == "head" else AUGMENTED
    some, others = parts[0].take(slice(0, 4)), parts[1].take(slice(0, 2))
    usual = finetune(tiny(), some, validation=others, settings=settings)
    model = tiny()
    with around():
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = finetune(model, some, validation=others, settings=settings)
        assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        found.save(tmp_path / "c")
        answers = found.predict_proba(others), TrainedClassifier.load(tmp_path / "c").predict_proba(others)
    assert found.history == usual.history
    assert same(weights_of(found), weights_of(usual))
    for each in answers:
        np.testing.assert_array_equal(each, usual.predict_proba(others))
