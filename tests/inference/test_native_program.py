"""The native programs that are built at installation: one for each kind of processor, never a stale or damaged one."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from textwrap import dedent

import numpy as np
import pytest
from conftest import ROOT, needs_compiler
from toy_networks import plain, randomised
from toy_training import TINY

from tiny_biomoe import Config, ConfigError, TinyBioMoE
from tiny_biomoe.inference import backends, native_backend, native_program
from tiny_biomoe.inference import native_build as compiler
from tiny_biomoe.model import embed_levels
from tiny_biomoe.weights.loading import arrays

pytestmark = [
    needs_compiler,  # the package was installed with the one that is here
    pytest.mark.skipif("avx2" not in compiler.levels(), reason="the levels that are tried are those of x86-64"),
]
LEVELS = compiler.levels()
HERE = native_program.abilities()


@pytest.fixture(autouse=True)
def anew():
    """Which program fits is asked again, before and after."""
    native_program.native_program.cache_clear()
    yield
    native_program.native_program.cache_clear()


def limited(monkeypatch, level: str) -> None:
    """This processor as one that can do no more than a level asks for."""
    if not LEVELS[level].abilities <= HERE:
        pytest.skip(f"this processor cannot run {level}")
    monkeypatch.setattr(native_program, "abilities", lambda: LEVELS[level].abilities)


def knows(level: str) -> bool:
    """Whether the compiler that is here knows a level's options."""
    command = [*compiler.command(), *LEVELS[level].options, "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_there_is_a_program_for_every_level_that_the_compiler_knows():
    expected = {compiler.program_path(name).name for name in LEVELS if knows(name)}
    assert {path.name for path in compiler.PROGRAMS.iterdir()} == expected
    assert len(expected) >= 2  # any compiler of the last ten years


@pytest.mark.parametrize(
    ("platform", "levels"),
    [
        ("linux-x86_64", {"amx", "avx512_bf16", "avx512", "avx2"}),
        ("linux-aarch64", {"neon"}),
        ("macosx-11.0-arm64", {"neon"}),
        ("macosx-11.0-x86_64", set()),
        ("linux-armv7l", set()),
        ("win-arm64", set()),
        ("win-amd64", set()),
    ],
)
def test_a_platform_has_the_levels_of_its_processors(platform, levels, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_platform", lambda: platform)
    assert compiler.levels().keys() == levels


def test_abilities_are_read_as_each_system_names_them(monkeypatch):
    text = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm\n"
    monkeypatch.setattr("builtins.open", lambda path: io.StringIO(text))
    assert native_program.abilities() == {"fp", "asimd", "evtstrm"}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert compiler.LEVELS["neon"].abilities <= native_program.abilities()
    assert not {*compiler.LINUX} & {*compiler.flags()}


def test_a_program_of_macos_is_known_whole_or_cut_off():
    piece = struct.pack("<II16sQQQQ", native_program.SEGMENT, 72, b"__TEXT", 0, 4096, 0, 4096) + bytes(16)
    whole = (b"\xcf\xfa\xed\xfe" + struct.pack("<IIIIIII", 0x100000C, 0, 6, 1, 72, 0, 0) + piece).ljust(4096, b"\0")
    native_program.require_whole(whole)
    for damaged in (whole[:4095], whole[:50], whole[:20]):
        with pytest.raises(ValueError, match="cut off"):
            native_program.require_whole(damaged)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_plain_to_rounding(level, pictures, monkeypatch):
    limited(monkeypatch, level)
    model = randomised()
    expected = plain(model, pictures)
    found = native_program.Program(native_program.opened(compiler.program_path(level)), "", level)
    exact, rounded = (
        native_backend.NativeNetwork(arrays(model.state_dict()), model.architecture, precision, found)
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose([exact(picture, 2) for picture in pictures], expected, rtol=0, atol=1e-5)
    found = np.stack([rounded(picture, 2) for picture in pictures])
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(found - expected).max() > 1e-4


def test_no_program_takes_the_code_of_another_one():
    """Each level's bytes are the same whichever was loaded, and has computed, before it."""
    script = """
        import hashlib, sys
        import numpy as np
        from tiny_biomoe import Architecture
        from tiny_biomoe.inference import native_build as compiler
        from tiny_biomoe.inference import native_backend, native_program
        from tiny_biomoe.weights import load
        picture = np.random.RandomState(0).randint(0, 256, (224, 224), np.uint8)
        for level in sys.argv[1:]:
            opened = native_program.Program(native_program.opened(compiler.program_path(level)), "", level)
            network = native_backend.NativeNetwork(load().tensors, Architecture(), "bfloat16", opened)
            print(level, hashlib.sha256(network(picture, 2).tobytes()).hexdigest())
    """

    def digests(*levels):
        command = [sys.executable, "-c", dedent(script), *levels]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(line.split() for line in done.stdout.splitlines())

    able = [name for name in LEVELS if LEVELS[name].abilities <= HERE and compiler.program_path(name).exists()]
    alone = {level: digests(level)[level] for level in able}
    assert digests(*able) == digests(*reversed(able)) == alone
    assert len(set(alone.values())) == len(able)


@pytest.mark.parametrize(
    ("level", "precision", "expected"),
    [
        ("amx", "bfloat16", "amx"),
        ("amx", "float32", "avx512"),
        ("avx512_bf16", "bfloat16", "avx512_bf16"),
        ("avx512_bf16", "float32", "avx512"),
        ("avx512", "bfloat16", "avx512"),
        ("avx2", "float32", "avx2"),
    ],
)
def test_a_processor_gets_the_best_that_it_can_run(level, precision, expected, monkeypatch):
    limited(monkeypatch, level)
    digest = hashlib.sha256(compiler.program_path(expected).read_bytes()).hexdigest()
    model = TinyBioMoE.from_pretrained(precision=precision)
    facts = model.provenance(64, "bvp")
    assert (facts["backend"], facts["program"].split()[-1]) == ("native", digest)
    assert facts["program"].startswith(f"native for {expected}, {'tiles' if expected == 'amx' else 'vectors'}, ")


@pytest.fixture
def without_onnx(monkeypatch):
    """As where ONNX Runtime is not installed."""
    monkeypatch.setattr(backends, "ONNX_PACKAGES", ("no_such_package",))


@pytest.mark.parametrize("why", ["it can do less", "another system", "other sources", "it was not built"])
def test_where_no_program_fits_another_backend_computes(why, monkeypatch, tmp_path, without_onnx):
    if why == "it can do less":
        monkeypatch.setattr(native_program, "abilities", lambda: LEVELS["avx2"].abilities - {"fma"})
    elif why == "another system":
        monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-riscv64")
    elif why == "other sources":
        shutil.copytree(compiler.SOURCE, tmp_path / "cpp")
        with (tmp_path / "cpp" / "network.cpp").open("a") as source:
            source.write("\n")
        monkeypatch.setattr(compiler, "SOURCE", tmp_path / "cpp")
    else:
        monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert native_program.native_program("float32") is native_program.native_program("bfloat16") is None
    told = ["was built from another source than lies in this installation" in str(each.message) for each in caught]
    assert told == ([True] * 2 if why == "other sources" else [])
    facts = TinyBioMoE.from_pretrained().provenance(64, "bvp")
    assert (facts["backend"], facts["program"]) == ("torch", None)
    with pytest.raises(ConfigError, match="no native program for this processor"):
        TinyBioMoE.from_pretrained(backend="native").embed(np.sin(np.arange(500)), 100, "ecg")


def test_onnx_runtime_comes_before_pytorch(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    assert backends.default_backend(Config(), "float32") == "onnx"
    assert backends.default_backend(Config(), "bfloat16") == "torch"
    assert backends.default_backend(Config(), "float32", changes=True) == "torch"


def test_a_network_that_is_being_trained_is_not_exported():
    small = TinyBioMoE(TINY).eval()
    assert small.frozen().backend.name == "torch"


@pytest.mark.parametrize("how", ["cut off", "no program"])
def test_a_damaged_program_is_reported_and_not_loaded(how, monkeypatch, tmp_path, without_onnx):
    for name in LEVELS:
        data = compiler.program_path(name).read_bytes()
        damaged = data[: len(data) // 2] if how == "cut off" else b"not a program"
        (tmp_path / compiler.program_path(name).name).write_bytes(damaged)
    monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    with pytest.warns(UserWarning, match="cannot be loaded .*install tiny-biomoe again"):
        assert TinyBioMoE.from_pretrained().frozen().backend.name == "torch"


def test_a_stripped_or_repackaged_program_still_loads(monkeypatch, tmp_path, pictures):
    if (strip := shutil.which("strip")) is None:
        pytest.skip("no strip here")
    expected = embed_levels(TinyBioMoE.from_pretrained(), pictures[:1], 1)
    for name in LEVELS:
        path = tmp_path / compiler.program_path(name).name
        subprocess.run([strip, "-o", str(path), str(compiler.program_path(name))], check=True)
        path.write_bytes(path.read_bytes() + b"something behind it")
    monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    native_program.native_program.cache_clear()
    assert embed_levels(TinyBioMoE.from_pretrained(), pictures[:1], 1).tobytes() == expected.tobytes()


def test_a_network_that_does_not_fit_is_computed_by_another_backend(pictures):
    small = TinyBioMoE(TINY).eval()
    np.testing.assert_allclose(embed_levels(small, pictures[:2], 32), plain(small, pictures[:2]), rtol=0, atol=1e-5)


@pytest.fixture
def tree(tmp_path):
    """The package's files as `pip` finds them, without what was built; and a compiler that writes its own words."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("programs", "__pycache__", "bundled")
    shutil.copytree(ROOT / "tiny_biomoe", tmp_path / "tiny_biomoe", ignore=ignored)
    fake = tmp_path / "fake-c++"
    fake.write_text(
        dedent(
            f"""\
            #!{sys.executable}
            import sys
            if "-mamx-tile" in sys.argv:
                sys.exit("unknown option -mamx-tile")
            open(sys.argv[sys.argv.index("-o") + 1], "w").write(" ".join(sys.argv))
            """
        )
    )
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    return tmp_path


def wheel(tree, monkeypatch, cxx):
    monkeypatch.setenv("CXX", str(cxx))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tree / "out", tree]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tree / "out").glob("*.whl")
    return path.name, zipfile.ZipFile(path)


def test_a_wheel_holds_what_the_compiler_could_make(tree, monkeypatch):
    name, files = wheel(tree, monkeypatch, f"{tree / 'fake-c++'} -march=native")
    assert name.endswith("-py3-none-linux_x86_64.whl")
    made = {path.rpartition("/")[2]: files.read(path) for path in files.namelist() if "/programs/" in path}
    programs = {name: data.decode() for name, data in made.items()}
    able = {level for level in LEVELS if level != "amx"}
    assert programs.keys() == {compiler.program_path(level).name for level in able}
    for level in able:  # behind what CXX says, so that a file is what its name tells
        words = programs[compiler.program_path(level).name].split()
        assert words[words.index("-march=native") + 1 :][: len(LEVELS[level].options)] == LEVELS[level].options


def test_a_wheel_for_another_platform_is_named_after_it_and_holds_its_level(tree, monkeypatch):
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", "linux-aarch64")
    name, files = wheel(tree, monkeypatch, tree / "fake-c++")
    assert name.endswith("-py3-none-linux_aarch64.whl")
    made = [path.rpartition("/")[2] for path in files.namelist() if "/programs/" in path]
    assert made == [compiler.program_path("neon").name]


@pytest.mark.parametrize("cxx", ["nothing-of-this-name", "false"])
def test_a_wheel_made_without_a_compiler_is_for_any_machine(tree, monkeypatch, cxx):
    for folder in ("lib", f"lib.linux-x86_64-{sys.implementation.cache_tag}"):  # as an earlier build leaves them
        for name in ("inference/programs/old-1.so", "inference/cpp/old.h", "old.py"):
            stale = tree / "build" / folder / "tiny_biomoe" / name
            stale.parent.mkdir(parents=True, exist_ok=True)
            stale.touch()
    name, files = wheel(tree, monkeypatch, cxx)
    assert name.endswith("-py3-none-any.whl")
    assert not [path for path in files.namelist() if path.endswith(".so") or "/old" in path]
    assert "tiny_biomoe/inference/cpp/network.cpp" in files.namelist()
