"""The family of errors: what each is caught as, and what an unknown name is told."""

import pytest

from tiny_biomoe import errors


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
