"""The run by time: its rate, average, growth and checkpoint, and the command on a CPU with nothing beside it."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from toy_pretraining import toy_source

from pretraining.gpu import CHECKPOINT, ON_CPU, Run, Settings, rate_at
from pretraining.gpu_results import table, weights_folder
from pretraining.sources import read_pack, write_pack
from tiny_biomoe import Config, TinyBioMoE, WeightsError
from tiny_biomoe.network.network import Network

QUICK = Settings(**{**ON_CPU, "images": 4, "windows": 2, "views": 2, "per_round": 2, "most": 2})
LIGHT = """
import sys, runpy
for name in ("PIL", "click", "tqdm", "sklearn", "pywt", "huggingface_hub", "matplotlib", "pyarrow", "edfio"):
    sys.modules[name] = None  # as if it were not installed
import torch
torch.set_num_threads(1)
sys.argv = ["pretraining.gpu", *sys.argv[1:]]
runpy.run_module("pretraining.gpu", run_name="__main__")
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "pack"
    resp = replace(toy_source("resp", 8.0), name="ds000210-resp")
    write_pack(folder, [resp, toy_source("eeg", 50.0), replace(toy_source("bvp", 16.0, ()), name="nurse-bvp")], {})
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state(run):
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def test_the_command_needs_four_packages_alone_and_leaves_weights_and_a_table(pack, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        LIGHT,
        "--data",
        str(pack),
        "--minutes",
        "0.25",
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    command += ["--workers", "1", "--images", "4", "--windows", "2", "--per-round", "2", "--most", "2"]
    command += ["--finish-share", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("last", "average"):
        assert (out / name / "model.safetensors").stat().st_size < 16 * 2**20
        assert TinyBioMoE.from_pretrained(out / name).config.name == "pretraining.gpu"
    text = (out / "metrics.md").read_text()
    assert done.stdout.endswith(text + "\n")
    assert "| device | CPU |" in text
    assert "| image views | " in text
    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["size"] for row in rows] == sorted((row["size"] for row in rows), key=int)
    assert float(rows[-1]["rate"]) == pytest.approx(1e-5)


def test_the_rate_rises_falls_and_rests():
    shares = [rate_at(share / 1000) for share in range(1001)]
    assert shares[0] == 0
    assert max(shares) == pytest.approx(1)
    assert shares[30] == pytest.approx(1)
    assert all(a >= b for a, b in zip(shares[30:], shares[31:], strict=False))
    assert shares[960:] == pytest.approx([0.01] * 41)


def test_a_run_goes_on_where_it_was_saved(pack, tmp_path):
    run = Run(read_pack(pack), tmp_path, QUICK, "cpu", 0)
    (batch, *_) = next(run._rounds())
    run._update(batch)
    run.spent = 40.0
    run.save()
    again = Run(read_pack(pack), tmp_path, QUICK, "cpu", 0)
    assert (again.step, again.views, again.round) == (1, 4, 1)
    assert 40 < again.spent <= run.seconds
    assert again.seconds >= again.spent
    assert all(torch.equal(a, b) for a, b in zip(state(run).values(), state(again).values(), strict=True))
    assert again.optimizer.state_dict()["state"].keys() == run.optimizer.state_dict()["state"].keys()


@pytest.mark.parametrize("change", [{"seed": 1}, {"minutes": 3.0}])
def test_a_run_of_other_settings_is_refused(pack, tmp_path, change):
    Run(read_pack(pack), tmp_path, QUICK, "cpu", 0).save()
    with pytest.raises(WeightsError, match="other settings or recordings"):
        Run(read_pack(pack), tmp_path, replace(QUICK, **change), "cpu", 0)


def test_weights_that_are_not_finite_leave_the_checkpoint_as_it_was(pack, tmp_path):
    run = Run(read_pack(pack), tmp_path, QUICK, "cpu", 0)
    run.save()
    before = (tmp_path / CHECKPOINT).read_bytes()
    with torch.no_grad():
        run.model.network.gate.bias[0] = torch.nan
    with pytest.raises(WeightsError, match="not finite at step 0"):
        run.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_run_grows_into_whole_pictures_with_its_heads_and_low_frequencies(pack, tmp_path):
    run = Run(read_pack(pack), tmp_path, QUICK, "cpu", 0)
    small = state(run)
    run._grow()
    assert run.size == 224
    grown = state(run)
    assert torch.equal(grown["targets.0.weight"], small["targets.0.weight"])
    name = "network.spectral_encoder.blocks.0.mixer.weight"
    assert torch.equal(grown[name][:14, :15], small[name][:14])
    assert {id(p) for group in run.optimizer.param_groups for p in group["params"]} == {
        id(p) for p in run.model.parameters()
    }


def test_the_average_is_the_mean_of_the_weights_and_has_statistics_of_its_own(pack, tmp_path):
    run = Run(read_pack(pack), tmp_path, replace(QUICK, small_share=0.0), "cpu", 0)
    bias = run.model.network.gate.bias
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            bias.fill_(value)
        run._average()
    averaged = run._averaged()
    assert averaged.gate.bias.tolist() == pytest.approx([3.0] * 96)
    assert bias[0] == 6
    (batch, *_) = next(run._rounds())
    run._statistics(averaged, [batch, batch], 0.0)
    stem = averaged.spectral_encoder.stem.convs
    with torch.no_grad():
        pixels = torch.nn.functional.embedding(batch.levels.int(), run.palette).permute(0, 3, 1, 2)
        wanted = stem[0](averaged.image_norm(pixels)).mean((0, 2, 3))
    assert torch.allclose(stem[1].running_mean, wanted, atol=1e-3)


def test_encoder_1_learns_slower_and_norms_do_not_decay(pack, tmp_path):
    run = Run(read_pack(pack), tmp_path, QUICK, "cpu", 0)
    where = {id(p): group for group in run.optimizer.param_groups for p in group["params"]}
    of = {name: where[id(p)] for name, p in run.model.named_parameters()}
    assert of["network.gate.weight"]["peak"] == 10 * of["network.spectral_encoder.blocks.3.mlp.expand.weight"]["peak"]
    assert of["network.gate.weight"]["weight_decay"] == 0.05
    assert {
        of[name]["weight_decay"] for name in ("network.gate.bias", "network.image_norm.weight", "loss_weights")
    } == {0.0}


def test_averaging_small_pictures_is_refused(pack, tmp_path):
    with pytest.raises(ValueError, match="averaged weights have one size"):
        Run(read_pack(pack), tmp_path, replace(QUICK, small_share=0.9), "cpu", 0)


def test_weights_of_an_earlier_run_are_begun_with(pack, tmp_path):
    torch.manual_seed(3)
    network = Network(Config())
    weights_folder(tmp_path / "w", network, Config())
    run = Run(read_pack(pack), tmp_path / "out", replace(QUICK, small_share=0.0), "cpu", 0, tmp_path / "w")
    assert torch.equal(run.model.network.gate.weight, network.gate.weight.half().float())
    with pytest.raises(ValueError, match="--small-share 0"):
        Run(read_pack(pack), tmp_path / "other", QUICK, "cpu", 0, tmp_path / "w")


def test_a_weight_beyond_float16_is_refused(tmp_path):
    network = Network(Config())
    with torch.no_grad():
        network.gate.bias[0] = 1e6
    with pytest.raises(WeightsError, match=r"gate.bias does not fit float16"):
        weights_folder(tmp_path, network, Config())


def test_the_table_tells_speed_and_scores():
    log = [
        {"seconds": float(t), "step": t, "views": 100.0 * t, "size": 112.0, "rate": 1e-3, "loss": 5.0 - t}
        for t in (1, 2, 3)
    ]
    text = table({"device": "CPU"}, {"last": {"pulse rate": (0.5, 0.25)}, "average": {}}, ["pulse rate"], log)
    assert "| image views a second, 112 pixels | 100 |" in text
    assert "| loss | 2 |" in text
    assert "| pulse rate | 0.500 / 0.250 | out of time |" in text
