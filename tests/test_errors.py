"""The family of errors: what each is caught as, and what an unknown name is told."""

import numpy as np
import pytest

import tiny_biomoe
from tiny_biomoe import errors
from tiny_biomoe.estimators import TinyBioMoEEmbedder


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (errors.SignalError, (errors.TinyBioMoEError, ValueError)),
        (errors.WeightsError, (errors.TinyBioMoEError, ValueError)),
        (errors.ConfigError, (errors.TinyBioMoEError, ValueError)),
        (errors.SignalTypeError, (errors.SignalError, TypeError)),
        (errors.SignalWarning, (UserWarning,)),
    ],
)
def test_each_error_is_caught_as_python_users_expect(kind, parents):
    assert all(issubclass(kind, parent) for parent in parents)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Wavform", "unknown kind 'Wavform': choose from 'psd', 'waveform' (did you mean 'waveform'?)"),
        ("zzz", "unknown kind 'zzz': choose from 'psd', 'waveform'"),
        (None, "unknown kind None: choose from 'psd', 'waveform'"),
        (3, "unknown kind 3: choose from 'psd', 'waveform'"),
    ],
)
def test_an_unknown_name_is_told_the_choices_and_the_nearest(value, message):
    assert str(errors.unknown("kind", value, ["psd", "waveform"])) == message


MODEL = tiny_biomoe.TinyBioMoE.from_pretrained()


@pytest.mark.parametrize(
    "use",
    [
        lambda signal: MODEL.embed(signal, 4, "ecg", "psd"),
        lambda signal: MODEL.embed_windows(signal, 4, "ecg", "psd", window=50),
        lambda signal: tiny_biomoe.contact_sheet(signal, 4, "ecg"),
        lambda signal: TinyBioMoEEmbedder(4, "ecg", "psd").fit_transform(signal[None]),
    ],
)
def test_a_warning_names_the_callers_line_however_deep_it_arises(use):
    with pytest.warns(errors.SignalWarning, match="slow for ecg") as seen:
        use(np.random.default_rng(0).standard_normal(400))
    assert {warning.filename for warning in seen} == {__file__}


def test_row_120_repeated_warnings_are_one_a_kind_with_count_and_places():
    def clipped(where):
        errors.warn(f"{where}: clipped", where)

    @errors.one_warning_a_kind()
    def call():
        with errors.one_warning_a_kind():  # within another call it waits for that one's end
            for number in range(5):
                clipped(f"signal[{number}]")
        errors.warn("slow")

    for expected in (
        ["signal[0]: clipped (and 4 more like this: signal[1], signal[2] ...)", "slow"],
        ["signal[0]: clipped (and 4 more like this: signal[1], signal[2] ...)", "slow"],
    ):
        with pytest.warns(errors.SignalWarning) as caught:
            call()
        assert [str(each.message) for each in caught] == expected
        assert {each.filename for each in caught} == {__file__}


def test_row_120_many_clipped_signals_are_one_warning():
    clipped = np.clip(np.sin(np.arange(640) / 8), -0.3, 0.3)
    with pytest.warns(errors.SignalWarning) as caught:
        tiny_biomoe.embed([clipped] * 3, 64, "bvp", "waveform")
    assert len(caught) == 1
    assert str(caught[0].message).startswith("signal[0]: ")
    assert str(caught[0].message).endswith("(and 2 more like this: signal[1], signal[2])")
    assert caught[0].filename == __file__
