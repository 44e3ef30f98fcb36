"""The compiled program: plain to rounding in any instruction set, the same bytes in any company, never stale."""

from __future__ import annotations

import gc
import os
import platform
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from time import process_time, sleep

import numpy as np
import pytest
import torch
from conftest import COMPILER, ROOT, needs_compiler
from toy import TINY
from toy_networks import plain, randomised

from tiny_biomoe import REPRESENTATIONS, Architecture, ConfigError, SignalError, TinyBioMoE
from tiny_biomoe.cli import selfcheck
from tiny_biomoe.images.rendering import colour
from tiny_biomoe.inference import native, program
from tiny_biomoe.inference.engine import Engine
from tiny_biomoe.inference.runtime import embed_levels
from tiny_biomoe.inference.threads import threads
from tiny_biomoe.network.waterfall_encoder import PatchMerging
from tiny_biomoe.readers.formats import read

pytestmark = needs_compiler


def compiled(model: TinyBioMoE, precision: str = "float32") -> TinyBioMoE:
    model.engine = Engine(precision, compile=True)
    return model


def network_of(model: TinyBioMoE, precision: str) -> native.NativeNetwork:
    return native.NativeNetwork(model, precision, program.compiled_program().library)


@pytest.mark.parametrize("gate", ["released", "paper"])
def test_levels_and_colours_are_plain_to_rounding(pictures, gate):
    model = randomised(gate)
    expected = plain(model, pictures)
    np.testing.assert_allclose(embed_levels(compiled(model), pictures, 32), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(embed_levels(model, colour(pictures), 32), expected, rtol=0, atol=1e-5)
    photograph = np.random.RandomState(1).randint(0, 256, (1, 224, 224, 3)).astype(np.uint8)  # no palette's colours
    np.testing.assert_allclose(embed_levels(model, photograph, 32), plain(model, photograph), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bytes_of_a_picture_depend_on_neither_neighbours_nor_threads(pictures, precision):
    model = compiled(TinyBioMoE.from_pretrained(), precision)
    with threads(1):
        alone = [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(len(pictures))]
    order = np.random.default_rng(0).integers(0, len(pictures), 9)
    for n in (1, 2, 5):
        with threads(n):
            assert [row.tobytes() for row in embed_levels(model, pictures[order], 32)] == [alone[i] for i in order]
            for _ in range(3):  # whichever thread takes which part
                assert [embed_levels(model, pictures[i : i + 1], 32).tobytes() for i in range(4)] == alone


def test_bfloat16_points_the_same_way_on_real_recordings():
    exact = TinyBioMoE.from_pretrained(compile=False)
    rounded = TinyBioMoE.from_pretrained(precision="bfloat16", compile=True)
    for path in sorted((ROOT / "examples" / "recordings").glob("*.csv")):
        (recording,) = read(path)
        arguments = recording.signal[: int(20 * recording.fs)], recording.fs, recording.modality, list(REPRESENTATIONS)
        a, b = (model.embed(*arguments).reshape(len(REPRESENTATIONS), -1) for model in (exact, rounded))
        assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() >= 0.9995
        assert not np.array_equal(a, b)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are instruction sets of x86")
@pytest.mark.parametrize("without", ["-mno-amx-tile", "-mno-amx-tile -mno-avx512bf16", "-mno-avx512f", "-march=x86-64"])
def test_other_processors_are_plain_to_rounding(without, tmp_path):
    """What compilers make of the program for processors that this one can stand for."""
    program = """
        import numpy as np
        from tiny_biomoe import TinyBioMoE
        from tiny_biomoe.inference import program
        program.shipped_program = lambda precision: None
        x = np.sin(np.arange(1000) / 9) + np.sin(np.arange(1000) / 2.3)
        expected = TinyBioMoE.from_pretrained(compile=False).embed(x, fs=100, modality="ecg")
        exact, rounded = (TinyBioMoE.from_pretrained(precision=p, compile=True) for p in ("float32", "bfloat16"))
        np.testing.assert_allclose(exact.embed(x, fs=100, modality="ecg"), expected, rtol=0, atol=1e-5)
        found = rounded.embed(x, fs=100, modality="ecg")
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.9995
    """
    environment = {**os.environ, "CXX": f"{COMPILER} {without}", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("tiny-biomoe/native/*.so"))) == 1


def test_a_changed_weight_is_seen(pictures):
    model = compiled(randomised())
    before = embed_levels(model, pictures[:1], 32)
    model.waterfall_encoder.blocks[1].attention.projection.conv.weight.detach().numpy()[...] *= 1.5
    after = embed_levels(model, pictures[:1], 32)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, plain(model, pictures[:1]), rtol=0, atol=1e-5)


def busy(seconds: float = 0.5) -> float:
    """The share of a processor that this process takes while it waits, after a moment to calm down."""
    sleep(0.3)
    begin = process_time()
    sleep(seconds)
    return (process_time() - begin) / seconds


def test_helpers_rest_between_calls(pictures, monkeypatch):
    model = compiled(TinyBioMoE.from_pretrained())
    embed_levels(model, pictures[:1], 32)
    assert busy() < 0.3
    monkeypatch.setattr("tiny_biomoe.inference.engine.own_parts", lambda network: 1 // 0)
    with pytest.raises(ZeroDivisionError) as caught:  # and is kept, with all that its frames hold
        embed_levels(model, pictures[:1], 32)
    assert busy() < 0.3
    assert caught.value


@pytest.mark.parametrize("factor", [1e-8, 1e-6, 1e-4, 1e2, 3e4, 1e8])
def test_numbers_beyond_sixteen_bits_are_right_or_told(factor, pictures):
    model = TinyBioMoE.from_pretrained(precision="bfloat16", compile=True)
    expected = embed_levels(model, pictures, 32)
    merging = next(module for module in model.modules() if isinstance(module, PatchMerging))
    with torch.no_grad():  # the ReLUs in between leave a factor as it is
        for tensor in (merging.expand.norm.weight, merging.expand.norm.bias, merging.depthwise.norm.bias):
            tensor *= factor
        merging.depthwise.norm.running_mean *= factor
        merging.squeeze_excite.squeeze.weight /= factor
        merging.reduce.conv.weight /= factor
    try:
        found = embed_levels(model, pictures, 32)
    except SignalError:
        found = expected if factor > 1e3 else np.nan
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_functions_of_one_number_are_exact_to_rounding(tmp_path):
    source = r"""
        #include "activations.h"
        #include <cstdio>
        int main() {
            double gelu = 0, half = 0, power = 0, share = 0;
            for (double at = -12; at < 12; at += 0.0007) {
                const float x = float(at), z = 7 * x;
                const double expected = x * 0.5 * std::erfc(-x / std::sqrt(2.0)), size = std::fabs(expected);
                gelu = std::max(gelu, std::fabs(Gelu<float>()(all(x))[0] - expected) / std::max(1.0, size));
                half = std::max(half, std::fabs(Gelu<bf16>()(all(x))[LANES - 1] - expected));
                power = std::max(power, std::fabs(exponential(all(z))[0] / std::exp(double(z)) - 1));
                share = std::max(share, std::fabs(sigmoid(all(z))[0] - 1 / (1 + std::exp(-double(z)))));
            }
            double narrow = 0;
            int told = 4;
        #if defined(__AVX512FP16__)
            for (float x = -12; x < 12; x += 0.003f) {
                const float y = float(_Float16(x));
                const double expected = y * 0.5 * std::erfc(-y / std::sqrt(2.0));
                const _Float16 found = Gelu<bf16>()(Fp16Vec{} + _Float16(y))[31];
                narrow = std::max(narrow, std::fabs(found - expected) / std::max(0.1, std::fabs(expected)));
            }
            told = 0;
            for (float x : {INFINITY, -INFINITY})
                for (_Float16 y : {Gelu<bf16>()(Fp16Vec{} + _Float16(x))[0], Relu()(Fp16Vec{} + _Float16(x))[31]})
                    told += std::isnan(float(y)) || std::isinf(float(y));
        #endif
            const Vec most = all(INFINITY), least = all(-INFINITY), none = all(NAN);
            const Vec hidden[] = {Gelu<float>()(least), Gelu<bf16>()(least), Gelu<bf16>()(none), exponential(none)};
            int finite = 0;
            for (Vec x : hidden) finite += std::isfinite(x[0]);
            std::printf("%g %g %g %g %d %g %g ", gelu, half, power, share, finite, sigmoid(most)[0], sigmoid(least)[0]);
            std::printf("%g %d", narrow, told);
        }
    """
    (tmp_path / "try.cpp").write_text(dedent(source))
    command = [*program.command_here(), "-I", program.SOURCE, tmp_path / "try.cpp", "-o", tmp_path / "try"]
    subprocess.run([word for word in command if word != "-shared"], check=True)
    done = subprocess.run([str(tmp_path / "try")], capture_output=True, text=True, check=True)
    gelu, half, power, share, finite, most, least, narrow, told = map(float, done.stdout.split())
    assert gelu < 1e-6
    assert half < 2e-4
    assert power < 4e-7
    assert share < 2e-7
    assert (finite, most) == (0, 1)
    assert 0 <= least < 1e-37
    assert narrow < 2e-3
    assert told == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_gives_the_same_bytes():
    program = """
        import os, signal, sys
        import numpy as np, torch
        from tiny_biomoe import TinyBioMoE
        torch.set_num_threads(2)
        x, model = np.sin(np.arange(1000) / 9), TinyBioMoE.from_pretrained(compile=True)
        expected = model.embed(x, fs=100, modality="ecg").tobytes()
        if not (child := os.fork()):
            signal.alarm(60)
            vectors = [model.embed(x, fs=100, modality="ecg"), *model.embed([x] * 3, fs=100, modality="ecg")]
            del model
            os._exit(0 if {vector.tobytes() for vector in vectors} == {expected} else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No program came, none is loaded, and none is kept."""
    monkeypatch.setattr(program, "shipped_program", lambda precision: None)
    monkeypatch.setattr(program.constants, "HF_HOME", str(tmp_path / "cache"))
    program._load.cache_clear()
    yield tmp_path
    program._load.cache_clear()


def test_a_program_is_kept_and_a_damaged_one_compiled_again(fresh, monkeypatch):
    digest = program.compiled_program().digest
    (kept,) = (fresh / "cache" / "tiny-biomoe" / "native").iterdir()
    assert kept.name.endswith(f"-{digest}.so")
    runs, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **rest: (runs.append(command), run(command, **rest))[1])
    program._load.cache_clear()
    assert program.compiled_program().digest == digest
    assert not any("-o" in command for command in runs)
    data = bytearray(kept.read_bytes())
    data[1000] ^= 1
    kept.unlink()  # it is open, and another file from here on
    kept.write_bytes(data)
    program._load.cache_clear()
    assert program.compiled_program().digest == digest
    assert any("-o" in command for command in runs)
    assert kept.read_bytes() != data


def test_a_kept_program_that_others_may_write_is_not_run(tmp_path):
    path = tmp_path / "native.so"
    path.touch()
    path.chmod(0o644)
    assert program.own(path)
    path.chmod(0o664)
    assert not program.own(path)


def test_what_is_not_a_picture_is_refused():
    run = network_of(TinyBioMoE.from_pretrained(), "float32")
    for picture in (np.zeros((224, 223), np.uint8), np.zeros((224, 224, 4), np.uint8), np.zeros((224, 224))):
        with pytest.raises(ValueError, match="a picture is"):
            run(picture, 1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_hidden(pictures, value, precision):
    """Weights that broke after they were loaded: where the plain network's vector is not finite, none is given out."""
    ends = ("weight", "position_bias", "depthwise.bias", "expand.bias")
    names = [name for name, _ in randomised().named_parameters() if name.endswith(ends)]
    behind = [name for name in names if name.endswith(("blocks.0.mlp.depthwise.bias", "class_block.expand.bias"))]
    broken, step = 0, 9 if np.isnan(value) and precision == "float32" else 50
    for name in [*names[::step], *behind]:
        model = compiled(randomised(), precision)
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[0] = value
        if not np.isfinite(plain(model, pictures[:1])).all():
            broken += 1
            with pytest.raises(SignalError, match="not finite"):
                embed_levels(model, pictures[:1], 32)
    assert broken > 2


def test_where_nothing_can_be_kept_the_program_runs_from_elsewhere(fresh):
    (fresh / "cache").write_bytes(b"in the way")
    with pytest.warns(UserWarning, match="could not be kept for the next time"):
        found = program.compiled_program()
    assert found.library.tiles() in (0, 1)
    assert len(found.digest) == 64
    assert program.compiled_program() is found


def test_without_a_compiler_compile_is_refused(fresh, monkeypatch):
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        TinyBioMoE.from_pretrained(compile=True)


def test_a_compiler_that_fails_is_told_with_its_own_words(fresh, monkeypatch):
    failing = fresh / "c++"
    failing.write_text("#!/bin/sh\necho unknown option >&2\nexit 1\n")
    failing.chmod(failing.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(ConfigError, match="failed with exit status 1 .unknown option"):
        program.compiled_program()


@pytest.mark.parametrize("words", ["'", "nothing-of-this-name"])
def test_a_compiler_that_is_no_command_is_refused(fresh, monkeypatch, words):
    monkeypatch.setenv("CXX", words)
    with pytest.raises(ConfigError, match="CXX"):
        program.compiled_program()


def test_a_compiler_may_have_words_before_and_options_behind(monkeypatch):
    monkeypatch.setenv("CXX", "env c++ -mno-avx512f")
    command = program.command_here()
    assert (command[:2], command[-1]) == (["env", "c++"], "-mno-avx512f")


ARCHITECTURES = {
    "wide keys": {"waterfall_key_dim": 64},
    "widest keys": {"waterfall_key_dim": 256},
    "keys wider than values": {"waterfall_heads": (16, 16, 16), "waterfall_kernels": (3,) * 16},
    "narrow stem": {"stem_width": 3},
    "attention alone": {"spectral_heads": (4, 8, 10, 16)},
    "filters": {"spectral_heads": (0, 0, 0, 16)},
    "one head and many": {"spectral_heads": (0, 0, 1, 96)},
    "narrow waterfall": {"waterfall_widths": (32, 32, 96), "waterfall_heads": (1, 2, 3)},
    "wide kernels, one window": {"waterfall_kernels": (15, 13, 11, 9), "waterfall_window": 999},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_are_plain_to_rounding(name, pictures):
    model = randomised(**ARCHITECTURES[name])
    expected = plain(model, pictures[:1])[0]
    exact, rounded = (network_of(model, precision) for precision in ("float32", "bfloat16"))
    np.testing.assert_allclose(exact(pictures[0], 2), expected, rtol=0, atol=1e-5)
    found = rounded(pictures[0], 2)
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999


@pytest.mark.parametrize(
    "architecture", [TINY, Architecture(waterfall_heads=(32, 32, 32), waterfall_kernels=(3,) * 32)]
)
def test_a_network_that_does_not_fit_is_refused(architecture):
    with pytest.raises(ConfigError, match="multiples of 32"):
        network_of(TinyBioMoE(architecture), "float32")


def test_a_share_that_is_all_but_nothing_is_nothing(pictures):
    model = randomised()
    with torch.no_grad():
        model.waterfall_encoder.merges[0].squeeze_excite.excite.bias.sub_(100)
    np.testing.assert_allclose(
        network_of(model, "float32")(pictures[0], 1), plain(model, pictures[:1])[0], rtol=0, atol=1e-5
    )


def test_networks_in_turn_and_at_once_keep_their_bytes(pictures):
    """Helpers are lent to one network after another: none may do what it was to do for the one before."""
    model = TinyBioMoE.from_pretrained()
    networks = [network_of(model, precision) for precision in ("float32", "bfloat16")]
    expected = [run(pictures[0], 1).tobytes() for run in networks]

    def turns(first):
        return [(i % 2, networks[i % 2](pictures[0], 2).tobytes()) for i in range(first, first + 150)]

    with ThreadPoolExecutor(3) as pool:
        found = [*turns(0), *(pair for pairs in pool.map(turns, range(3)) for pair in pairs)]
    assert all(vector == expected[which] for which, vector in found)


@pytest.mark.parametrize("pause", [0, 0.001, 0.3])  # helpers have hardly begun, are at it, fell asleep again
def test_pictures_that_are_dropped_leave_the_others_their_bytes(pictures, pause):
    networks = [network_of(TinyBioMoE.from_pretrained(), precision) for precision in ("float32", "bfloat16")]
    expected = [[run(picture, 1).tobytes() for picture in pictures[:2]] for run in networks]
    for _ in range(5):
        under_way = [(i, native.NativeImage(networks[i % 2], pictures[i // 4], (1, 2, 2, 3)[i % 4])) for i in range(8)]
        sleep(pause)
        for _, image in under_way[::3]:
            image.close()
            with pytest.raises(ValueError, match="closed"):
                image()
        for i, image in sorted(set(under_way) - set(under_way[::3]), reverse=True):
            assert image().tobytes() == expected[i % 2][i // 4]
        with pytest.raises(ValueError, match="given already"):
            image()
    assert busy() < 0.3


class Log:
    """The program, and what was called of it."""

    def __init__(self, library):
        self.library, self.calls = library, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            return getattr(self.library, name)(*arguments)

        return call


def test_a_network_outlives_its_pictures(pictures):
    """Even if both are thrown away at once, by the collector of cycles."""
    log = Log(program.compiled_program().library)
    network = native.NativeNetwork(TinyBioMoE.from_pretrained(), "float32", log)
    cycle = [network, native.NativeImage(network, pictures[0], 2)]
    cycle.append(cycle)
    del network, cycle
    gc.collect()
    assert log.calls == ["build", "begin", "drop", "destroy"]


def test_helpers_give_up_a_picture_that_nobody_ends(pictures):
    network = network_of(TinyBioMoE.from_pretrained(), "float32")
    expected = network(pictures[0], 1).tobytes()
    image = native.NativeImage(network, pictures[0], 2)  # as an interrupt may leave it, in a traceback that is kept
    sleep(2)
    assert busy() < 0.3
    assert network(pictures[0], 2).tobytes() == expected
    assert image().tobytes() == expected
    assert network(pictures[0], 2).tobytes() == expected


def test_a_forked_process_ends_what_its_parent_began(pictures):
    network = network_of(TinyBioMoE.from_pretrained(), "float32")
    expected = network(pictures[0], 1).tobytes()
    for pause in (0, 0.001, 0.003):
        images = [native.NativeImage(network, pictures[0], 2) for _ in range(2)]
        sleep(pause)
        child = os.fork()
        if not child:
            images[0].close()
            os._exit(images[1]().tobytes() != expected)
        assert os.waitpid(child, 0)[1] == 0
        assert [image().tobytes() for image in images] == [expected, expected]


def test_one_picture_is_begun_before_weights_are_looked_at(pictures, monkeypatch):
    model = compiled(TinyBioMoE.from_pretrained())
    expected = embed_levels(model, pictures[:1], 32).tobytes()
    whole = []
    run = native.NativeNetwork.__call__
    monkeypatch.setattr(native.NativeNetwork, "__call__", lambda *args: whole.append(args) or run(*args))
    assert embed_levels(model, pictures[:1], 32).tobytes() == expected
    assert not whole
    model.gate.weight.data[3] += 1
    changed = embed_levels(model, pictures[:1], 32)
    assert len(whole) == 1  # what was begun with the old weights is not what is given
    np.testing.assert_allclose(changed, plain(model, pictures[:1]), rtol=0, atol=1e-5)
    assert changed.tobytes() != expected


def test_weights_are_as_many_as_the_architecture_has(monkeypatch):
    model = TinyBioMoE.from_pretrained()
    every = list(native.tensors(model))
    for given, message in ((every[:-1], "fewer weights"), ([*every, torch.zeros(1)], "more weights")):
        monkeypatch.setattr(native, "tensors", lambda network, given=given: iter(given))
        with pytest.raises(ConfigError, match=message):
            network_of(model, "float32")


def test_provenance_names_the_program(monkeypatch):
    monkeypatch.setattr(program, "shipped_program", lambda precision: None)
    library, digest, _ = program.compiled_program()
    expected = f"native for this processor, {'tiles' if library.tiles() else 'vectors'}, sha256 {digest}"
    facts = TinyBioMoE.from_pretrained(compile=True).provenance(fs=100, modality="ecg")
    assert (facts["compile"], facts["program"]) == (True, expected)
    facts = TinyBioMoE.from_pretrained(compile=False).provenance(fs=100, modality="ecg")
    assert (facts["compile"], facts["program"]) == (False, None)


def test_every_shipped_signal_is_plain_to_rounding():
    exact, model = (TinyBioMoE.from_pretrained(compile=compiled) for compiled in (False, True))
    for modality, (signal, fs) in selfcheck.shipped_signals().items():
        expected, found = (m.embed(signal, fs, modality, list(REPRESENTATIONS)) for m in (exact, model))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
