"""The numbers: they survive the trip through `config.json`, refuse what is not theirs, and none of them is dead."""

import dataclasses
import json

import numpy as np
import pytest

from tiny_biomoe.config import FORMAT, Architecture, Config, ModalityRecipe, Recipe
from tiny_biomoe.errors import ConfigError, SignalError, TinyBioMoEError
from tiny_biomoe.images.rendering import draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.request import Call, recording_limits

UNUSUAL = Config(
    name="mine",
    architecture=Architecture(gate="paper", waterfall_kernels=(5, 5, 3, 3)),
    recipe=Recipe(version="2", psd_range_db=60.0, modalities=(ModalityRecipe("eda", 0.01, 3.0, False),)),
)


def edited(*path, value):
    """The text of a config in which the value at `path` is another."""
    data = json.loads(Config().to_json())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize("config", [Config(), UNUSUAL])
def test_a_config_survives_its_json(config):
    read, extra = Config.from_json(config.to_json(sha256="abc"))
    assert read == config
    assert hash(read) == hash(config)
    assert extra == {"sha256": "abc"}
    assert read.to_json() == config.to_json()
    assert json.loads(config.to_json())["format"] == FORMAT == "tiny-biomoe/1"


def test_whole_numbers_may_stand_for_floats():
    read, _ = Config.from_json(edited("recipe", "psd_range_db", value=80))
    assert read == Config()
    assert type(read.recipe.psd_range_db) is float


@pytest.mark.parametrize("part", [Config(), Recipe(), Architecture(), Recipe().modalities[0]])
def test_a_config_is_frozen_and_can_key_a_cache(part):
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.name = "other"
    assert {part: 1}[dataclasses.replace(part)] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "c.json: not a valid JSON configuration"),
        ("[" * 100_000, "c.json: not a valid JSON configuration"),
        ("[1]", "c.json: format is 'list', expected 'tiny-biomoe/1'"),
        ("{}", "c.json: format is None, expected 'tiny-biomoe/1'"),
        (edited("format", value="tiny-biomoe/2"), "c.json: format is 'tiny-biomoe/2', expected 'tiny-biomoe/1'"),
        (edited("auto_map", value="evil.py"), r"c.json: unknown key 'auto_map'; the keys are \['architecture', 'name'"),
        (edited("recipe", "filter_orders", value=4), "c.json: recipe: unknown key 'filter_orders'; the keys are"),
        (edited("recipe", "modalities", 0, "hi", value=4), r"c.json: recipe: modalities\[0\]: unknown key 'hi'"),
        ('{"format": "tiny-biomoe/1"}', "c.json: key 'architecture' is missing"),
        (edited("recipe", value={}), "c.json: recipe: key 'filter_order' is missing"),
        (edited("recipe", value=[]), r"c.json: recipe: expected an object, got \[\]"),
        (edited("name", value=1), "c.json: name: expected str, got 1"),
        (edited("recipe", "filter_order", value=4.0), "c.json: recipe: filter_order: expected int, got 4.0"),
        (edited("recipe", "filter_order", value=True), "c.json: recipe: filter_order: expected int, got True"),
        (edited("recipe", "psd_range_db", value="80"), "c.json: recipe: psd_range_db: expected float, got '80'"),
        (edited("recipe", "psd_range_db", value=None), "c.json: recipe: psd_range_db: expected float, got None"),
        (edited("recipe", "psd_range_db", value=float("nan")), "c.json: .*NaN|psd_range_db: expected float, got nan"),
        (
            edited("recipe", "psd_range_db", value=float("inf")),
            "c.json: .*Infinity|psd_range_db: expected float, got inf",
        ),
        (edited("recipe", "psd_range_db", value=10**400), "c.json: recipe: psd_range_db: expected float, got 1000"),
        (
            edited("recipe", "scale_percentiles", value=[1]),
            r"scale_percentiles: expected tuple\[float, float\], got \[1\]",
        ),
        (edited("recipe", "scale_percentiles", value=[1, 10**400]), "scale_percentiles: expected tuple"),
        (edited("recipe", "scale_percentiles", value=[1, True]), "scale_percentiles: expected tuple"),
        (edited("recipe", "modalities", value=[1]), r"c.json: recipe: modalities\[0\]: expected an object, got 1"),
        (edited("recipe", "modalities", value=7), "c.json: recipe: modalities"),
        (
            edited("recipe", "modalities", value=dataclasses.asdict(Recipe().modalities[0])),
            "c.json: recipe: modalities",
        ),
        (edited("recipe", "modalities", 0, "filtered", value=1), r"modalities\[0\]: filtered: expected bool, got 1"),
        (edited("architecture", "spectral_widths", value=64), r"spectral_widths: expected tuple\[int, ...\], got 64"),
        (edited("architecture", "spectral_widths", value=[64.0]), "spectral_widths: expected tuple"),
        (edited("architecture", "gate", value="papers"), "unknown gate 'papers': .*did you mean 'paper'"),
        (edited("recipe", "palette", value="jet"), "unknown palette 'jet': choose from 'viridis'"),
        (Config().to_json().replace('"name": "untrained"', '"name": "a", "name": "b"'), "key 'name' appears twice"),
        (Config().to_json().replace('"low": null', '"low": 1, "low": null', 1), "key 'low' appears twice"),
    ],
    ids=lambda value: value[:60] if value.startswith(("c.json", "un", "key")) else "",
)
def test_what_is_not_a_config_is_refused_with_its_place(text, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_json(text, "c.json")


def test_encoders_that_end_in_different_widths_share_no_gate():
    with pytest.raises(ConfigError, match="the encoders end in 96 and 64 channels"):
        Architecture(waterfall_widths=(192, 288, 64))
    assert Architecture().embedding_dim == 192


def test_the_modality_table_is_the_papers():
    rows = {row.name: (row.low, row.high) for row in Recipe().modalities if row.filtered}
    assert rows == {"eda": (None, 5), "bvp": (0.04, 1.7), "resp": (0.05, 0.5), "spo2": (0.04, 1.7)}
    assert Recipe().modality("emg") == ModalityRecipe("emg", None, 450, False)
    with pytest.raises(ConfigError, match="unknown modality 'edaa'.*did you mean 'eda'"):
        Recipe().modality("edaa")


# --- No dead numbers -------------------------------------------------------------------------------------------------

ANOTHER = {  # another value of each number that changes an image
    "filter_order": 3,
    "frame_fraction": 0.4,
    "frame_steps": 0.4,
    "psd_range_db": 60.0,
    "morlet_omega": 8.0,
    "scalogram_gamma": 0.7,
    "recurrence_dimension": 2,
    "recurrence_delay": 0.3,
    "waveform_thickness": 3.0,
    "waveform_margin": 8.0,
}
LIMITS = {"minimum_samples": 65, "minimum_periods": 42.0}  # another value that makes 64 samples at 64 Hz too few
TESTED_BELOW = {"modalities", "scale_percentiles"}
LABELS = {"version", "palette"}  # which has one value: see above


def images(recipe, examples, **options):
    """All six images of a filtered and of an unfiltered modality; two rates, as frames are bounded in two ways."""
    drawn = []
    for modality in ("bvp", "eeg"):
        for n_samples in (200, None):
            signal, fs = examples[modality]
            call = Call.check(recipe, fs, modality, **options)
            filtered, _ = call.prepare(signal[:n_samples])
            drawn += [draw(filtered, call.fs, call.edges, name, recipe, call.limits) for name in REPRESENTATIONS]
    return np.stack(drawn)


def test_every_number_of_the_recipe_is_tried_here():
    assert {
        field.name for field in dataclasses.fields(Recipe)
    } == ANOTHER.keys() | LIMITS.keys() | TESTED_BELOW | LABELS


@pytest.mark.parametrize("number", ANOTHER)
def test_every_number_changes_an_image(number, examples):
    changed = dataclasses.replace(Recipe(), **{number: ANOTHER[number]})
    assert (images(changed, examples) != images(Recipe(), examples)).any()


@pytest.mark.parametrize("number", LIMITS)
def test_the_minima_change_what_is_long_enough(number, rng):
    signal = rng.standard_normal(64)
    assert Call.check(Recipe(), 64, "eeg").prepare(signal)[0].size == 64
    changed = dataclasses.replace(Recipe(), **{number: LIMITS[number]})
    with pytest.raises(SignalError, match="too short"):
        Call.check(changed, 64, "eeg").prepare(signal)


@pytest.mark.parametrize("change", [{"low": 0.4}, {"high": 1.3}, {"filtered": False}])
def test_every_number_of_a_modality_changes_its_image(change, examples):
    rows = [dataclasses.replace(row, **change) if row.name == "bvp" else row for row in Recipe().modalities]
    changed = dataclasses.replace(Recipe(), modalities=tuple(rows))
    assert (images(changed, examples) != images(Recipe(), examples)).any()


def test_the_percentiles_change_a_recordings_scale():
    recording = np.arange(101.0)
    assert recording_limits(recording, Recipe()) == (1, 99)
    assert recording_limits(recording, Recipe(scale_percentiles=(5.0, 90.0))) == (5, 90)


@pytest.mark.parametrize(
    "impossible",
    [
        {"filter_order": 0},
        {"minimum_samples": 1},
        {"minimum_periods": 0.5},
        {"frame_fraction": 0.0},
        {"frame_fraction": 1.5},
        {"psd_range_db": 0.0},
        {"morlet_omega": -6.0},
        {"recurrence_dimension": 0},
        {"recurrence_delay": 5.0},
        {"scale_percentiles": (99.0, 1.0)},
        {"waveform_margin": 112.0},
        {"modalities": ()},
        {"modalities": (ModalityRecipe("eda", 5.0, 0.5, True),)},
    ],
    ids=str,
)
def test_numbers_with_which_nothing_can_be_drawn_are_refused(impossible, examples):
    """A recipe comes from a file someone else may have written: it fails as an error of ours, not as a blank image."""
    with pytest.raises(TinyBioMoEError):
        images(Recipe(**impossible), examples)
