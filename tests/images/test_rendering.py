"""Images: palette, quantisation, `render` through the public door, what may change an image, pictures read back."""

import hashlib
import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tiny_biomoe.config import IMAGE_SIZE, Recipe
from tiny_biomoe.errors import ConfigError, SignalError, SignalTypeError
from tiny_biomoe.images.rendering import (
    LARGEST_IMAGE,
    PALETTE,
    colour,
    contact_sheet,
    draw,
    read_images,
    render,
    to_levels,
)
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.filters import MODALITIES, minimum_duration
from tiny_biomoe.signals.request import Call

RECIPE = Recipe()


def levels(signal, fs, modality, representation, **options):
    """What `render` draws, before it is coloured."""
    call = Call.check(options.pop("recipe", RECIPE), fs, modality, representation, **options)
    filtered, _ = call.prepare(np.asarray(signal, float))
    return draw(filtered, call.fs, call.edges, call.representations[0], call.recipe, call.limits)


def differing(one, other, representation):
    """The share of pixels more than one level apart; the angle's 0 and 255 are neighbours."""
    distance = np.abs(one.astype(int) - other)
    return np.mean((np.minimum(distance, 255 - distance) if representation == "angle" else distance) > 1)


def random_signal(seed, n_samples):
    """Noise on a random walk: something at every frequency."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n_samples) + np.cumsum(rng.standard_normal(n_samples)) / 4


# --- From a matrix to an image ---------------------------------------------------------------------------------------


def test_the_palette_is_matplotlibs_viridis():
    expected = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(PALETTE, expected)
    np.testing.assert_array_equal(colour(np.array([[0, 255]], np.uint8)), [[[68, 1, 84], [253, 231, 36]]])


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("own_range", [True, False])
def test_levels_are_rounded_not_cut(representation, own_range):
    """A ramp of x from 0 to 1 in each representation's own unit becomes floor(255 x + 1/2)."""
    x = np.linspace(0, 1, IMAGE_SIZE**2).reshape(IMAGE_SIZE, IMAGE_SIZE)
    largest = 2 * np.sqrt(RECIPE.recurrence_dimension)  # two states of a signal in [-1, 1] are no further apart
    matrix = {
        "angle": np.pi * (2 * x - 1),
        "phase": 50 * x - 20,
        "psd": 80 * x - 80,
        "recurrence": largest * x,
        "scalogram": x**2,  # drawn to the power 1/2
        "waveform": x,
    }[representation]
    off = to_levels(matrix, representation, RECIPE, own_range) != np.floor(255 * x + 0.5)
    assert off.mean() < 1e-3  # rounding of x itself, at a border between two levels


@pytest.mark.parametrize(("representation", "matrix"), [("psd", -300.0), ("scalogram", 7.0), ("recurrence", 9.0)])
def test_what_lies_beyond_a_given_scale_is_held_at_its_edge(representation, matrix):
    drawn = to_levels(np.full((IMAGE_SIZE, IMAGE_SIZE), matrix), representation, RECIPE, own_range=False)
    assert np.unique(drawn).tolist() == [0 if matrix < 0 else 255]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_row_15_29_every_combination_draws_and_leaves_the_signal_alone(modality, representation, examples):
    signal, fs = examples[modality]  # read-only: whoever writes to it raises
    image = render(signal, fs, modality, representation)
    assert (image.shape, image.dtype) == ((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    np.testing.assert_array_equal(image, PALETTE[levels(signal, fs, modality, representation)])
    assert len(np.unique(image.reshape(-1, 3), axis=0)) >= (8 if representation == "waveform" else 100)


def test_a_waveform_is_the_waveform(examples):
    """The line's middle, read off the picture, is the signal between its extremes."""
    signal, fs = examples["eda"]
    drawn = levels(signal, fs, "eda", "waveform", band=None).astype(float)
    middle = (drawn * (np.arange(IMAGE_SIZE)[:, None] + 0.5)).sum(axis=0) / drawn.sum(axis=0)
    unit = (signal - signal.min()) / np.ptp(signal)
    expected = 220 - 216 * np.interp(
        (np.arange(IMAGE_SIZE) + 0.5) * signal.size / IMAGE_SIZE - 0.5, np.arange(signal.size), unit
    )
    assert np.abs(middle - expected).mean() < 1  # pixels


def test_low_frequencies_are_at_the_bottom_of_the_picture(examples):
    signal, fs = examples["bvp"]  # 1.1 Hz, in 0.05-1.7 Hz
    share = {"psd": (1.1 - 0.05) / 1.65, "scalogram": np.log(1.1 / 0.05) / np.log(1.7 / 0.05)}
    for representation, height in share.items():
        brightest = levels(signal, fs, "bvp", representation).sum(axis=1, dtype=float).argmax()
        assert brightest == pytest.approx(223 * (1 - height), abs=12), representation


def test_a_contact_sheet_holds_the_six_images(examples):
    signal, fs = examples["ecg"]
    sheet = np.asarray(contact_sheet(signal, fs, "ecg", band=(1, 40)))
    for index, representation in enumerate(REPRESENTATIONS):
        left, top = 12 + index % 3 * 236, 22 + index // 3 * 258
        panel = sheet[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
        np.testing.assert_array_equal(panel, render(signal, fs, "ecg", representation, band=(1, 40)))
    assert sheet.shape == (2 * 258, 3 * 236 + 12, 3)


# --- What must not change an image, and what must --------------------------------------------------------------------


@given(
    modality=st.sampled_from(list(MODALITIES)),
    seed=st.integers(0, 2**32),
    gain=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
)
@settings(max_examples=15, derandomize=True, deadline=None)
def test_gain_and_offset_do_not_matter_under_the_windows_own_range(modality, seed, gain, offset):
    signal = random_signal(seed, 1500)
    for representation in REPRESENTATIONS:
        one, other = (levels(x, 100, modality, representation) for x in (signal, gain * signal + offset))
        assert differing(one, other, representation) <= 1e-3, representation


@given(
    modality=st.sampled_from(list(MODALITIES)),
    fs=st.floats(1, 10_000),
    longer=st.integers(0, 3000),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, derandomize=True, deadline=None)
def test_any_rate_and_any_length_give_an_image(modality, fs, longer, seed):
    call = Call.check(RECIPE, fs, modality)
    shortest = int(np.ceil(minimum_duration(fs, call.edges, RECIPE) * fs - 1e-9))
    filtered, _ = call.prepare(random_signal(seed, shortest + longer))
    for representation in REPRESENTATIONS:
        drawn = draw(filtered, fs, call.edges, representation, RECIPE)
        assert np.ptp(drawn) > 20, representation  # levels


@pytest.mark.parametrize(
    ("representation", "expected"),
    [
        ("recurrence", lambda whole: whole / 2),
        ("scalogram", lambda whole: whole * np.sqrt(1 / 2)),  # drawn to the power 1/2
        ("psd", lambda whole: np.maximum(whole - 255 * 20 * np.log10(2) / 80, 0)),  # 6 of 80 dB
    ],
)
def test_half_the_signal_is_fainter_on_a_given_scale(representation, expected, examples):
    signal, fs = examples["eeg"]
    whole, half = (levels(x, fs, "eeg", representation, scale=(-50, 50)).astype(float) for x in (signal, signal / 2))
    shown = (whole > 0) & (whole < 255)
    np.testing.assert_allclose(half[shown], expected(whole)[shown], atol=1)
    assert shown.mean() > 0.5


def test_a_given_scale_moves_the_waveform():
    """A quarter of the scale is drawn at a quarter of the height: row 220 - 216 / 4."""
    drawn = levels(np.full(100, 25.0), 10, "eda", "waveform", scale=(0, 100))
    np.testing.assert_array_equal(np.flatnonzero(drawn[:, 10]), [165, 166])
    np.testing.assert_array_equal(drawn[165:167, 10], 255)


# --- The robustness table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("modality", ["eda", "spo2", "ecg"])
def test_row_08_33_a_flat_signal_is_an_error_where_the_image_spans_its_range(modality, representation):
    with pytest.raises(SignalError, match="signal is flat: all 400 samples are .*pass scale="):
        render(np.full(400, 97.0), 10, modality, representation)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("value", [1 / 3, 97.0])
def test_row_08_33_a_flat_signal_has_a_level_on_a_given_scale(value, representation):
    """Drawn alike in every column, whatever the level: no rounding noise."""
    drawn = levels(np.full(400, value), 10, "eda", representation, scale=(value - 1.5, value + 4))
    assert np.ptp(drawn, axis=1).max() == 0
    assert len(np.unique(drawn)) <= (4 if representation == "waveform" else 1)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("modality", ["eda", "ecg", "spo2"])
def test_row_08_nearly_flat_is_drawn_like_flat_on_a_given_scale(modality, representation):
    """A monitor that reads 97, and one whose last digit once flickers, tell the same."""
    nearly = np.full(400, 97.0)
    nearly[200] += 1e-3
    flat, flicker = (levels(x, 1, modality, representation, scale=(90, 100)) for x in (np.full(400, 97.0), nearly))
    if representation not in ("angle", "phase"):  # which show no level, only what there is
        assert differing(flat, flicker, representation) < 0.01


@pytest.mark.parametrize("signal", [np.ones((2, 50)), [[1.0] * 50, [2.0] * 50]])
def test_row_11_render_shows_the_shape_it_wants(signal):
    with pytest.raises(SignalError, match=r"one signal, \(n_samples,\), not"):
        render(signal, 10, "eda")


def test_row_11_a_batch_of_one_is_one(examples):
    signal, fs = examples["ecg"]
    np.testing.assert_array_equal(render(signal[None], fs, "ecg"), render(signal, fs, "ecg"))


@pytest.mark.parametrize("signal", ["ecg.csv", [1j] * 50, np.ma.masked_invalid(np.ones(50))])
def test_row_12_render_refuses_what_has_no_real_samples(signal):
    with pytest.raises(SignalTypeError):
        render(signal, 10, "eda")


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_row_13_14_any_dtype_or_layout_gives_the_same_bytes(representation, examples):
    signal, fs = np.round(examples["ecg"].signal), examples["ecg"].fs
    expected = render(signal, fs, "ecg", representation)
    for same in (signal.astype(np.int16), signal.astype(">f4"), np.repeat(signal, 2)[::2], signal.tolist()):
        np.testing.assert_array_equal(render(same, fs, "ecg", representation), expected)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("modality", ["ecg", "eda", "bvp"])
@pytest.mark.filterwarnings("error")
def test_row_17_denormals_are_drawn_like_anything_else(modality, representation):
    signal = random_signal(1, 1500)
    expected = levels(signal, 100, modality, representation)
    assert differing(levels(signal * 1e-307, 100, modality, representation), expected, representation) <= 1e-3


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.filterwarnings("error")
def test_row_17_the_smallest_step_there_is_is_a_step(representation):
    step = (np.arange(400) % 37 > 17).astype(float)
    np.testing.assert_array_equal(
        levels(step * 5e-324, 100, "ecg", representation), levels(step, 100, "ecg", representation)
    )


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("modality", ["ecg", "eda", "bvp"])
def test_row_17_a_huge_offset_costs_only_its_own_rounding(modality, representation):
    """At 1e7 a sample is rounded by 1e-9 of the signal's range."""
    signal = random_signal(2, 1500)
    one, other = (levels(x, 100, modality, representation) for x in (signal, signal + 1e7))
    assert differing(one, other, representation) <= 1e-3


def test_row_18_fs_and_modality_have_no_default(examples):
    with pytest.raises(TypeError, match="'fs' and 'modality'"):
        render(examples["ecg"].signal)
    with pytest.raises(SignalError, match="fs is missing"):
        render(examples["ecg"].signal, None, "ecg")


@pytest.mark.parametrize(("modality", "representation"), [("ekg ", "psd"), ("ecg", "scalogramm")])
def test_row_28_render_names_the_choices(modality, representation, examples):
    with pytest.raises(ConfigError, match="unknown (modality|representation) .*choose from"):
        render(*examples["ecg"], modality, representation)


def test_row_30_aliases_draw_the_same(examples):
    signal, fs = examples["eda"]
    expected = render(signal, fs, "eda", "angle")
    np.testing.assert_array_equal(render(signal, fs, "GSR", "Spectrogram-Angle"), expected)


DRAWN_ANYWHERE = """
import hashlib, numpy, sys
from tiny_biomoe import REPRESENTATIONS, render
signal = numpy.sin(numpy.arange(2000) ** 1.2)
digest = hashlib.sha256()
for name in REPRESENTATIONS:
    digest.update(render(signal, 100, "ecg", name).tobytes())
sys.exit(0 if digest.hexdigest() == sys.argv[1] else 3)
"""


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ('exec "$0" "$@" >&- 2>&-', {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        ('ulimit -n 24; exec "$0" "$@"', {"LC_ALL": "xx_XX.none", "LANG": "tr_TR.UTF-8", "HOME": "/nonexistent"}),
    ],
    ids=["closed-stdout-no-home-one-thread", "few-descriptors-odd-locale"],
)
def test_row_84_an_odd_process_draws_the_same(shell, environment):
    images = [render(np.sin(np.arange(2000) ** 1.2), 100, "ecg", name) for name in REPRESENTATIONS]
    digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    script = [sys.executable, "-c", DRAWN_ANYWHERE, digest]
    assert subprocess.run(["/bin/sh", "-c", shell, *script], cwd=ROOT, env=environment).returncode == 0


# --- Real recordings -------------------------------------------------------------------------------------------------

RECORDINGS = {  # file: (modality, column, fs in Hz, start and length in seconds)
    "opensignals/eda_slow_signal.txt": ("eda", 2, 100, 0, 28),
    "opensignals/bvp_sample.txt": ("bvp", 2, 1000, 2, 20),
    "opensignals/signal_sample_single_hub_RESPIRATION_2018_7_5.txt": ("resp", 2, 1000, 10, 40),
    "opensignals/signal_sample_single_hub_fSpO2_2018_9_3.txt": ("spo2", 2, 1000, 30, 30),
    "biosppy/ecg.txt": ("ecg", 0, 1000, 0, 10),
    "biosppy/eda.txt": ("eda", 0, 1000, 60, 30),
    "biosppy/eeg_ec.txt": ("eeg", 0, 125, 10, 10),
    "biosppy/emg_1.txt": ("emg", 0, 1000, 5, 10),
    "biosppy/ppg.txt": ("bvp", 0, 1000, 0, 15),
    "biosppy/resp.txt": ("resp", 0, 1000, 0, 40),
    "heartpy/e0103.csv": ("ecg", 0, 250, 5, 20),
}


@pytest.mark.parametrize("file", RECORDINGS)
def test_real_recordings_give_images(file, recordings):
    modality, column, fs, start, length = RECORDINGS[file]
    lines = (recordings / file).read_text().splitlines()
    rows = [line for line in lines if not line.startswith("#")][start * fs : (start + length) * fs]
    signal = np.loadtxt(rows, usecols=column)
    assert signal.size >= 0.9 * length * fs
    call = Call.check(RECIPE, fs, modality)
    filtered, _ = call.prepare(signal)
    unit = 2 * (filtered - filtered.min()) / np.ptp(filtered) - 1
    for name, function in REPRESENTATIONS.items():
        matrix = function(unit, call.fs, call.edges.shown(length), RECIPE)
        assert np.isfinite(matrix).all(), name
        assert np.ptp(draw(filtered, call.fs, call.edges, name, RECIPE)) > 150, name  # levels


# --- Pictures read back ----------------------------------------------------------------------------------------------


def test_a_picture_comes_back_as_it_was_drawn(examples, tmp_path):
    image = render(*examples["ecg"], "ecg")
    Image.fromarray(image).save(tmp_path / "ecg.png")
    for source in (tmp_path / "ecg.png", str(tmp_path / "ecg.png"), image, Image.fromarray(image)):
        pictures, single = read_images(source)
        assert single
        np.testing.assert_array_equal(next(pictures), image)
    pictures, single = read_images([image, tmp_path / "ecg.png"])
    assert not single
    np.testing.assert_array_equal(list(pictures), [image, image])
    pictures, single = read_images(np.stack([image, 255 - image]))
    assert not single
    np.testing.assert_array_equal(list(pictures)[1], 255 - image)


def test_another_size_or_mode_becomes_224_rgb():
    grey = Image.new("L", (448, 100), 77)
    (picture,) = read_images([grey])[0]
    np.testing.assert_array_equal(picture, np.full((224, 224, 3), 77))


@pytest.mark.parametrize(
    "array",
    [np.zeros((224, 224)), np.zeros((224, 224, 3)), np.zeros((3, 224, 224), np.uint8), np.zeros((9, 9), np.uint8)],
)
def test_an_array_that_is_no_picture_shows_the_shape_wanted(array):
    with pytest.raises(SignalError, match=r"image 0 has shape .*expected \(height, width, 3\) uint8"):
        next(read_images(array)[0])


@pytest.mark.parametrize("damage", ["text", "truncated", "missing", "none"])
def test_a_file_that_is_no_picture_is_an_error(damage, tmp_path, rng):
    path = tmp_path / "picture.png"
    if damage == "text":
        path.write_text("time,eda\n0,1\n")
    elif damage == "truncated":
        whole = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (224, 224, 3), np.uint8)).save(whole, "png")
        path.write_bytes(whole.getvalue()[:5000])
    with pytest.raises(SignalError, match="cannot be read as a picture"):
        next(read_images(None if damage == "none" else path)[0])


def test_row_103_an_image_bomb_is_refused_before_it_is_unpacked(tmp_path):
    Image.new("1", (2**14, 2**12 + 1)).save(tmp_path / "bomb.png")
    with pytest.raises(SignalError, match=f"16384 x 4097 pixels, over {LARGEST_IMAGE}: refused"):
        next(read_images(tmp_path / "bomb.png")[0])


def test_a_recurrence_of_rounding_alone_is_refused():
    signal = np.tile(np.sin(np.arange(20.0) ** 2), 224)  # one period an instant: every mean is the same
    with pytest.raises(SignalError, match="the recurrence of signal is one single value"):
        render(signal, 100, "ecg", "recurrence", recipe=Recipe(recurrence_dimension=1))
