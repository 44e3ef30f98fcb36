"""From signals to vectors: shapes, bytes, fusion, windows, pictures, provenance, and what must not be touched."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_biomoe import ConfigError, SignalError, SignalWarning, TinyBioMoE, embed, render
from tiny_biomoe.config import Recipe, config_digest
from tiny_biomoe.images.rendering import colour, draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.filters import apply_filter, passband
from tiny_biomoe.signals.request import recording_limits

FS = 64.0


@pytest.fixture(scope="module")
def model() -> TinyBioMoE:
    return TinyBioMoE.from_pretrained()


@pytest.fixture(scope="module")
def pulses() -> list[np.ndarray]:
    """Five signals of different lengths, in which nothing repeats."""
    rng = np.random.default_rng(1)
    times = [np.arange(round(FS * seconds)) / FS for seconds in (10, 12, 8, 10, 30)]
    return [
        np.sin(2 * np.pi * rng.uniform(0.8, 1.5) * t + rng.uniform(0, 6)) + 0.2 * rng.standard_normal(t.size)
        for t in times
    ]


def test_one_signal_gives_192_and_several_give_rows(model, pulses):
    one = model.embed(pulses[0], FS, "bvp")
    many = model.embed(pulses, FS, "bvp")
    assert one.shape == (192,)
    assert one.dtype == np.float32
    assert many.shape == (5, 192)
    assert np.abs(one.mean()) < 1.0
    assert not np.allclose(many[0], many[1], atol=1e-2)


def test_an_array_of_signals_is_a_batch_even_of_one(model, pulses):
    assert model.embed(pulses[0][None], FS, "bvp").shape == (1, 192)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_same_bytes_alone_in_any_batch_in_any_position(model, pulses, batch_size):
    alone = [model.embed(pulse, FS, "bvp").tobytes() for pulse in pulses]
    order = [3, 0, 4, 2, 1]
    shuffled = model.embed([pulses[i] for i in order], FS, "bvp", batch_size=batch_size)
    assert [row.tobytes() for row in shuffled] == [alone[i] for i in order]


def test_vector_is_that_of_the_rendered_picture(model, pulses):
    image = render(pulses[0], FS, "bvp", "psd")
    np.testing.assert_allclose(model.embed_images(image), model.embed(pulses[0], FS, "bvp", "psd"), atol=1e-5)


def test_forward_agrees_with_embed_and_lets_gradients_flow(model, pulses):
    image = render(pulses[0], FS, "bvp", "waveform")
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255).requires_grad_()
    vector = model(pixels)
    np.testing.assert_allclose(vector[0].detach().numpy(), model.embed(pulses[0], FS, "bvp", "waveform"), atol=1e-4)
    vector.sum().backward()
    assert pixels.grad.abs().max() > 0


def test_encode_names_its_parts(model):
    parts = model.encode(torch.rand(2, 3, 224, 224))
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "encoder1": (2, 96), "encoder2": (2, 96), "gate1": (2, 96), "gate2": (2, 96), "embedding": (2, 192),
    }  # fmt: skip
    assert 0 <= parts["gate1"].min() <= parts["gate1"].max() <= 1


def test_concatenated_representations_stand_in_the_order_asked_for(model, pulses):
    names = ["waveform", "scalogram"]
    joined = model.embed(pulses[:2], FS, "bvp", names)
    apart = [model.embed(pulses[:2], FS, "bvp", name) for name in names]
    assert joined.shape == (2, 384)
    assert joined.tobytes() == np.concatenate(apart, axis=1).tobytes()


def test_added_representations_are_a_sum(model, pulses):
    names = ["waveform", "scalogram", "psd"]
    added = model.embed(pulses[0], FS, "bvp", names, fusion="add")
    np.testing.assert_allclose(added, sum(model.embed(pulses[0], FS, "bvp", name) for name in names), atol=1e-5)


def test_rows_are_read_in_place_of_the_embedding(model, pulses):
    rows = model.embed(pulses[:2], FS, "bvp", readout="rows")
    assert (rows.shape, rows.dtype) == ((2, 1056), np.float32)
    assert model.embed(pulses[0], FS, "bvp", readout="rows").tobytes() == rows[0].tobytes()
    image = render(pulses[0], FS, "bvp", "psd")
    of_psd = model.embed_images(image, readout="rows")
    joined = model.embed(pulses[:2], FS, "bvp", ["scalogram", "psd"], readout="rows")
    assert joined.shape == (2, 2112)
    np.testing.assert_allclose(joined[0], np.concatenate([rows[0], of_psd]), rtol=0, atol=1e-4)
    added = model.embed(pulses[0], FS, "bvp", ["scalogram", "psd"], readout="rows", fusion="add")
    np.testing.assert_allclose(added, rows[0] + of_psd, rtol=0, atol=1e-4)
    flat = [pulses[0], np.zeros(640)]
    with pytest.warns(UserWarning, match="1 of 2 signals"):
        some = model.embed(flat, FS, "bvp", readout="rows", on_bad="nan")
    assert np.isnan(some).all(1).tolist() == [False, True]
    assert some.shape == (2, 1056)


def test_rows_of_windows_say_so(model, pulses):
    found = model.embed_windows(pulses[4], FS, "bvp", window=10, readout="rows")
    assert found.embeddings.shape == (3, 1056)
    assert found.provenance["readout"] == model.provenance(FS, "bvp", readout="rows")["readout"] == "rows"
    assert model.provenance(FS, "bvp")["readout"] == "embedding"
    assert model.embed(pulses[4], FS, "bvp", window=10, readout="rows").tobytes() == found.embeddings.tobytes()
    with pytest.raises(ConfigError, match="unknown readout 'maps'"):
        model.embed_images(np.zeros((224, 224, 3), np.uint8), readout="maps")


def test_windows_are_cut_after_the_filter(model, pulses):
    found = model.embed_windows(pulses[4], FS, "bvp", window=10, stride=5)
    assert found.starts.tolist() == [0, 5, 10, 15, 20]
    assert found.stops.tolist() == [10, 15, 20, 25, 30]
    recipe, edges = Recipe(), passband(FS, "bvp", Recipe())
    part = apply_filter(pulses[4], FS, edges, recipe)[320:960]
    expected = model.embed_images(colour(draw(part, FS, edges, "scalogram", recipe)))
    np.testing.assert_allclose(found.embeddings[1], expected, atol=1e-5)
    assert model.embed(pulses[4], FS, "bvp", window=10, stride=5).tobytes() == found.embeddings.tobytes()


def test_recording_scale_is_the_recordings_percentiles(model, pulses):
    found = model.embed_windows(pulses[4], FS, "bvp", "waveform", window=10, scale="recording")
    filtered = apply_filter(pulses[4], FS, passband(FS, "bvp", Recipe()), Recipe())
    limits = recording_limits(filtered, Recipe())
    given = model.embed_windows(pulses[4], FS, "bvp", "waveform", window=10, scale=limits)
    assert found.embeddings.tobytes() == given.embeddings.tobytes()
    own = model.embed_windows(pulses[4], FS, "bvp", "waveform", window=10)
    assert found.embeddings.tobytes() != own.embeddings.tobytes()


def test_pictures_from_everywhere_and_of_every_size(model, pulses, tmp_path):
    image = render(pulses[0], FS, "bvp")
    Image.fromarray(image).save(tmp_path / "a.png")
    large = Image.fromarray(image).resize((448, 300))
    vectors = model.embed_images([image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png"), large])
    assert vectors.shape == (5, 192)
    assert len({row.tobytes() for row in vectors[:4]}) == 1
    resized = np.asarray(large.resize((224, 224), Image.Resampling.BILINEAR))
    assert vectors[4].tobytes() == model.embed_images(resized).tobytes()
    assert model.embed_images(np.stack([image, image])).shape == (2, 192)


def test_row_103_image_bomb_and_what_is_no_picture(model, tmp_path):
    with pytest.raises(SignalError, match="9000 x 9000 pixels"):
        model.embed_images(Image.new("L", (9000, 9000)))
    (tmp_path / "no.png").write_text("<html>")
    with pytest.raises(SignalError, match="cannot be read as a picture"):
        model.embed_images(tmp_path / "no.png")
    with pytest.raises(SignalError, match=r"expected \(height, width, 3\) uint8"):
        model.embed_images(np.zeros((224, 224, 3), np.float32))


def test_provenance_says_what_made_a_vector(model):
    facts = model.provenance(4.0, "gsr", ["psd", "waveform"], fusion="add", scale=(0, 20))
    assert facts["weights_sha256"] == model.provenance(64, "bvp")["weights_sha256"]
    assert len(facts["weights_sha256"]) == 64
    assert facts["recipe"] == Recipe().version
    assert facts["recipe_sha256"] == config_digest(Recipe()) != config_digest(Recipe(psd_range_db=70))
    assert facts["modality"] == "eda"
    assert facts["representation"] == ["psd", "waveform"]
    assert facts["filter"] == {"low": None, "high": None, "order": 4}
    assert facts["filter_dropped"] == ["high cut-off 5 Hz is at or above Nyquist (2 Hz) and removes nothing"]
    assert facts["scale"] == [0.0, 20.0]
    assert model.provenance(64, "bvp")["filter"] == {"low": 0.04, "high": 1.7, "order": 4}
    assert model.provenance(64, "bvp", band=None)["filter"]["high"] is None


def test_provenance_does_not_vouch_for_changed_weights():
    changed = TinyBioMoE.from_pretrained()
    before = changed.provenance(64, "bvp")
    with torch.no_grad():
        changed.gate.bias += 1e-3
    after = changed.provenance(64, "bvp")
    assert before["weights_sha256"] is not None
    assert after["weights_sha256"] is None
    assert after["tensors_sha256"] != before["tensors_sha256"]
    assert after["weights_source"] == "bundled, then changed"


def test_top_level_embed_is_the_bundled_model(model, pulses):
    assert embed(pulses[0], fs=FS, modality="bvp").tobytes() == model.embed(pulses[0], FS, "bvp").tobytes()
    assert embed(pulses[0], sampling_rate=FS, modality="ppg").tobytes() == embed(pulses[0], FS, "bvp").tobytes()
    with pytest.raises(ConfigError, match="two names of one argument"):
        embed(pulses[0], fs=FS, sampling_rate=FS, modality="bvp")


def test_row_08_flat_window_keeps_its_level_under_a_given_scale(model):
    flat = np.full(640, 95.0)
    with pytest.raises(SignalError, match="flat"):
        model.embed(flat, FS, "eda")
    found = model.embed_windows(
        np.r_[flat, flat + np.linspace(0, 4, 640)], FS, "eda", "waveform", window=10, scale=(90, 100)
    )
    assert found.flat[0] == pytest.approx(639 / 640)
    low = model.embed(np.full(640, 91.0), FS, "eda", "waveform", scale=(90, 100))
    assert not np.allclose(low, model.embed(flat, FS, "eda", "waveform", scale=(90, 100)), atol=1e-2)


@pytest.mark.parametrize("modality", ["eda", "bvp", "resp", "spo2"])
def test_row_08_a_given_scale_shows_the_level_of_every_modality(model, modality):
    rng = np.random.default_rng(0)
    signal = 95 + 0.1 * rng.standard_normal(3200)
    images = [render(signal + level, FS, modality, "waveform", scale=(90, 100)) for level in (-3, 0, 3)]
    rows = [np.argmax(image[..., 1].max(axis=1) > 200) for image in images]  # of the first bright pixel, from the top
    assert rows[0] > rows[1] + 50 > rows[2] + 100
    facts = model.provenance(FS, modality, scale=(90, 100))
    assert facts["filter"]["low"] is None
    assert model.provenance(FS, "bvp", scale=(-1, 1))["filter"]["low"] == 0.04


def test_row_08_a_flat_window_of_a_filtered_recording_is_flat(model):
    t = np.arange(3000) / 100
    signal = np.where(t < 20, 5.0, 5.0 + np.sin(t))
    with pytest.raises(SignalError, match="signal, 0-10 s, is flat"):
        model.embed_windows(signal, 100, "eda", window=10)


def test_a_flat_signal_of_a_batch_is_named(model, pulses):
    with pytest.raises(SignalError, match=r"signal\[1\] is flat"):
        model.embed([pulses[0], np.ones(640)], FS, "eda")


def test_no_pictures_are_an_error(model):
    with pytest.raises(SignalError, match="images is empty"):
        model.embed_images([])


def test_row_09_clipped_signal_warns_and_is_measured(model, pulses):
    clipped = np.clip(pulses[0], -0.5, 0.5)
    with pytest.warns(SignalWarning, match="saturated"):
        model.embed(clipped, FS, "bvp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.embed_windows(clipped, FS, "bvp", window=5).clipped.min() > 0.3


def test_row_01_gaps_are_interpolated_on_request_and_reported(model, pulses):
    broken = pulses[0].copy()
    broken[100:110] = np.nan
    with pytest.raises(SignalError, match="10 missing samples.*index 100"):
        model.embed(broken, FS, "bvp")
    found = model.embed_windows(broken, FS, "bvp", window=10, nan_policy="interpolate")
    assert found.missing.tolist() == [10 / broken.size]
    halves = model.embed_windows(broken, FS, "bvp", window=5, nan_policy="interpolate")
    assert halves.missing.tolist() == [10 / 320, 0.0]
    assert found.provenance["nan_policy"] == "interpolate"


def test_row_07_shorter_than_a_window_is_padded_dropped_and_said_or_refused(model, pulses):
    padded = model.embed_windows(pulses[0], FS, "bvp", window=20, short="pad")
    assert padded.embeddings.shape == (1, 192)
    assert padded.stops.tolist() == [20]  # of a recording that lasts 10
    assert padded.missing.tolist() == [0.5]
    with pytest.raises(SignalError, match="lacks more than 40% of its samples"):
        model.embed_windows(pulses[0], FS, "bvp", window=20, short="pad", max_missing=0.4)
    with pytest.warns(SignalWarning, match=r"a\.csv lasts 10 s, less than one window of 20 s, and is dropped"):
        dropped = model.embed_windows(pulses[0], FS, "bvp", window=20, short="drop", where="a.csv")
    assert dropped.embeddings.shape == (0, 192)
    assert len(dropped.starts) == 0
    with pytest.warns(SignalWarning, match="dropped"):  # also where nothing could be drawn of it
        assert model.embed(np.ones(3), FS, "bvp", ["psd", "angle"], window=20, short="drop").shape == (0, 384)
    with pytest.raises(SignalError, match="less than one window of 20 s"):
        model.embed_windows(pulses[0], FS, "bvp", window=20)


def test_row_14_every_kind_of_array_gives_the_same_vector(model, pulses):
    signal = np.round(pulses[0] * 1000).astype(np.int16)
    padded = np.zeros((signal.size, 2), ">i2")
    padded[:, 0] = signal
    frozen = signal.astype(np.float64)
    frozen.flags.writeable = False
    kinds = [padded[:, 0], frozen, torch.from_numpy(signal), torch.tensor(frozen, requires_grad=True), signal.tolist()]
    expected = model.embed(signal, FS, "bvp").tobytes()
    assert [model.embed(kind, FS, "bvp").tobytes() == expected for kind in kinds] == [True] * len(kinds)


def test_row_15_the_callers_array_is_never_changed(model, pulses):
    signal = pulses[0].copy()
    signal[5] = np.nan
    before = signal.tobytes()
    model.embed(signal, FS, "bvp", list(REPRESENTATIONS), nan_policy="interpolate")
    assert signal.tobytes() == before


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "8", True, None])
def test_row_31_batch_size_is_a_positive_integer(model, pulses, wrong):
    with pytest.raises(ConfigError, match="batch_size="):
        model.embed(pulses[0], FS, "bvp", batch_size=wrong)


@pytest.mark.parametrize("device", ["cuda:7", "nonsense"])
def test_row_32_no_silent_fall_back_to_the_cpu(device):
    with pytest.raises(ConfigError, match=f"device='{device}' cannot be used"):
        TinyBioMoE.from_pretrained(device=device)


def test_row_34_train_mode_is_left_as_it_was(model, pulses):
    mixed = TinyBioMoE.from_pretrained().train()
    mixed.waterfall_encoder.eval()
    running = mixed.spectral_encoder.stem.convs[1].running_mean.clone()
    assert mixed.embed(pulses[0], FS, "bvp").tobytes() == model.embed(pulses[0], FS, "bvp").tobytes()
    assert mixed.training
    assert mixed.spectral_encoder.training
    assert not mixed.waterfall_encoder.training
    assert torch.equal(running, mixed.spectral_encoder.stem.convs[1].running_mean)


def test_a_subclass_keeps_its_own_layers_and_tied_weights():
    class Classifier(TinyBioMoE):
        def __init__(self, *args):
            super().__init__(*args)
            self.head, self.tied = torch.nn.Linear(192, 5), torch.nn.Linear(96, 96)
            self.tied.weight = self.gate.weight

    model = Classifier.from_pretrained()
    assert 0.03 < model.head.weight.std() < 0.06
    assert model.tied.weight is model.gate.weight
    assert torch.equal(model.gate.weight, TinyBioMoE.from_pretrained().gate.weight)


def test_globals_are_left_as_they_were(pulses):
    def globals_now():
        draws = np.random.get_state()[1].sum(), torch.get_rng_state().sum().item()
        return torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), *draws

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = globals_now()
        TinyBioMoE.from_pretrained().embed(pulses[0], FS, "bvp", list(REPRESENTATIONS))
        assert globals_now() == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 5}, "stride= and short= need window="),
        ({"short": "drop"}, "stride= and short= need window="),
        ({"scale": "recording"}, "needs windows cut from a recording"),
        ({"fusion": "mean"}, "unknown fusion 'mean'"),
        ({"representation": ["psd", "spectrogram-psd"]}, "twice"),
        ({"representation": []}, "expected a name or a list"),
        ({"max_gap": -1}, "max_gap=-1"),
    ],
)
def test_arguments_are_checked(model, pulses, arguments, message):
    with pytest.raises(ConfigError, match=message):
        model.embed(pulses[0], FS, "bvp", **arguments)


def test_several_signals_have_no_windows(model, pulses):
    with pytest.raises(SignalError, match="cut from one recording"):
        model.embed(pulses, FS, "bvp", window=5)


def test_an_error_names_the_signal_of_a_batch(model, pulses):
    with pytest.raises(SignalError, match=r"signal\[2\] has 1 infinite"):
        model.embed([pulses[0], pulses[1], np.r_[pulses[2], np.inf]], FS, "bvp")


def test_row_11_a_transposed_array_is_warned_of_and_a_list_is_not(model):
    recording = np.cumsum(np.random.default_rng(0).standard_normal((80, 16)), axis=0)
    stub = TinyBioMoE()
    stub.forward = lambda pixels: pixels.mean((2, 3)).repeat(1, 64)
    with pytest.warns(
        SignalWarning, match=r"shape \(80, 16\) .* for 16 channels of 80 samples pass its transpose"
    ) as said:
        vectors = stub.embed(recording, 1.0, "eda")
    assert vectors.shape == (80, 192)  # the axis is never guessed
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stub.embed(list(recording), 1.0, "eda")


def test_saved_and_loaded_is_the_same_model(model, pulses, tmp_path: Path):
    model.save_pretrained(tmp_path / "saved")
    again = TinyBioMoE.from_pretrained(tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert again.embed(pulses[0], FS, "bvp").tobytes() == model.embed(pulses[0], FS, "bvp").tobytes()
    assert again.config == model.config


@pytest.fixture
def stub() -> TinyBioMoE:
    """A model that notes how many pictures it is given at once, and looks at none."""
    quick = TinyBioMoE()
    quick.seen = []
    quick.forward = lambda pixels: (quick.seen.append(pixels.shape[0]), pixels.mean((2, 3)).repeat(1, 64))[1]
    return quick


def test_row_16_a_long_recording_streams_its_windows(stub):
    rng = np.random.default_rng(0)
    found = stub.embed_windows(rng.standard_normal(200_000), 100.0, "eda", "waveform", window=10)
    assert found.embeddings.shape == (200, 192)
    assert stub.seen == [1] * 200


def test_row_16_a_long_recording_is_held_twice_beside_the_callers_array(stub):
    signal = np.random.default_rng(0).standard_normal(10**7).astype(np.float32)
    tracemalloc.start()
    found = stub.embed_windows(signal, 1000.0, "eda", "waveform", window=10, stride=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.embeddings) == 10
    assert peak < 2.4 * 8 * signal.size  # as float64: checked, filtered, and a byte or two a sample to compare them


@pytest.mark.parametrize(
    ("modality", "fs", "window", "least"), [("resp", 100, 1, "4 s"), ("eda", 4, 2, "4 s"), ("eda", 100, 0.1, "0.4 s")]
)
def test_a_window_too_short_for_its_band_is_refused_however_long_the_recording(model, rng, modality, fs, window, least):
    recording = rng.standard_normal(60 * fs).cumsum()
    with pytest.raises(SignalError, match=f"a window of {window} s .* is too short .* at least {least} are needed"):
        model.embed_windows(recording, fs=fs, modality=modality, window=window)


def test_a_signal_beyond_its_scale_is_warned_of(model, rng):
    signal = 5 + rng.standard_normal(400).cumsum() / 20
    for beyond in (signal + 1000, signal - 1000):
        with pytest.warns(SignalWarning, match=r"100% of the filtered samples lie outside scale=\(0.0, 20.0\)"):
            model.embed(beyond, fs=10, modality="eda", representation="waveform", scale=(0, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed(signal, fs=10, modality="eda", representation="waveform", scale=(0, 20))
