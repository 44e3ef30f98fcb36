"""The native program: the plain network to rounding, the same bytes in any company, and never a hidden NaN."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from time import process_time, sleep

import numpy as np
import pytest
import torch
from conftest import ROOT, needs_compiler
from toy_networks import NARROW, plain, randomised
from toy_training import TINY

from tiny_biomoe import REPRESENTATIONS, Architecture, ConfigError, SignalError, TinyBioMoE
from tiny_biomoe.cli import selfcheck
from tiny_biomoe.images.rendering import colour
from tiny_biomoe.inference import native_backend, native_build
from tiny_biomoe.inference.native_program import native_program
from tiny_biomoe.model import embed_levels
from tiny_biomoe.network.waterfall_encoder import PatchMerging
from tiny_biomoe.readers.read import read
from tiny_biomoe.weights.loading import arrays

pytestmark = pytest.mark.skipif(native_program("float32") is None, reason="no native program for this processor")


def network_of(model: TinyBioMoE, precision: str) -> native_backend.NativeNetwork:
    return native_backend.NativeNetwork(
        arrays(model.state_dict()), model.architecture, precision, native_program(precision)
    )


def test_levels_and_colours_are_plain_to_rounding(pictures):
    model = randomised()
    expected = plain(model, pictures)
    np.testing.assert_allclose(embed_levels(model, colour(pictures), 32), expected, rtol=0, atol=1e-5)
    photograph = np.random.RandomState(1).randint(0, 256, (1, 224, 224, 3)).astype(np.uint8)  # no palette's colours
    np.testing.assert_allclose(embed_levels(model, photograph, 32), plain(model, photograph), rtol=0, atol=1e-5)


def test_bfloat16_points_the_same_way_on_real_recordings():
    exact, rounded = (TinyBioMoE.from_pretrained(precision=each) for each in ("float32", "bfloat16"))
    for path in sorted((ROOT / "examples" / "recordings").glob("*.csv")):
        (recording,) = read(path)
        arguments = recording.signal[: int(20 * recording.fs)], recording.fs, recording.modality, list(REPRESENTATIONS)
        a, b = (model.embed(*arguments).reshape(len(REPRESENTATIONS), -1) for model in (exact, rounded))
        assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() >= 0.9995
        assert not np.array_equal(a, b)


def busy(seconds: float = 0.5) -> float:
    """The share of a processor that this process takes while it waits, after a moment to calm down."""
    sleep(0.3)
    begin = process_time()
    sleep(seconds)
    return (process_time() - begin) / seconds


def test_helpers_rest_between_calls(pictures):
    network_of(TinyBioMoE.from_pretrained(), "float32")(pictures[0], 2)
    assert busy() < 0.3


@pytest.mark.parametrize("factor", [1e-8, 1e-6, 1e-4, 1e2, 3e4, 1e8])
def test_numbers_beyond_sixteen_bits_are_right_or_refused(factor, pictures):
    model = TinyBioMoE.from_pretrained(precision="bfloat16", backend="native")
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


@needs_compiler
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
    command = [
        *native_build.command("-march=native"),
        "-I",
        native_build.SOURCE,
        tmp_path / "try.cpp",
        "-o",
        tmp_path / "try",
    ]
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
    names = [name for name, _ in randomised(**NARROW).named_parameters() if name.endswith(ends)]
    behind = [name for name in names if name.endswith(("blocks.0.mlp.depthwise.bias", "class_block.expand.bias"))]
    broken, step = 0, 9 if np.isnan(value) and precision == "float32" else 50
    for name in [*names[::step], *behind]:
        model = randomised(**NARROW)
        model.precision = precision
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[0] = value
        if not np.isfinite(plain(model, pictures[:1])).all():
            broken += 1
            with pytest.raises(SignalError, match="not finite"):
                embed_levels(model, pictures[:1], 32)
    assert broken > 2


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
    """The helpers serve one network after another: none may do what it was to do for the one before."""
    model = randomised(**NARROW)
    networks = [network_of(model, precision) for precision in ("float32", "bfloat16")]
    expected = [run(pictures[0], 1).tobytes() for run in networks]

    def turns(first):
        return [(i % 2, networks[i % 2](pictures[0], 2).tobytes()) for i in range(first, first + 60)]

    with ThreadPoolExecutor(3) as pool:
        found = [*turns(0), *(pair for pairs in pool.map(turns, range(3)) for pair in pairs)]
    assert all(vector == expected[which] for which, vector in found)


def test_weights_are_as_many_as_the_architecture_has(monkeypatch):
    every = list(native_backend.Layers(arrays(TinyBioMoE.from_pretrained().state_dict()), Architecture()).all())
    for given, message in ((every[:-1], "fewer weights"), ([*every, np.zeros(1, np.float32)], "more weights")):
        monkeypatch.setattr(native_backend.Layers, "all", lambda self, given=given: iter(given))
        with pytest.raises(ConfigError, match=message):
            network_of(TinyBioMoE.from_pretrained(), "float32")


def test_every_shipped_signal_is_plain_to_rounding():
    exact, model = (TinyBioMoE.from_pretrained(backend=backend) for backend in ("torch", "native"))
    for modality, (signal, fs) in selfcheck.shipped_signals().items():
        expected, found = (m.embed(signal, fs, modality, list(REPRESENTATIONS)) for m in (exact, model))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
