"""The program that comes with the package: for every kind of processor, never a stale one, and none where none fits."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import zipfile
from textwrap import dedent

import numpy as np
import pytest
from conftest import ROOT, needs_compiler
from toy import TINY
from toy_networks import plain, randomised

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.inference import build as compiler
from tiny_biomoe.inference import native, program
from tiny_biomoe.inference.build import LEVELS
from tiny_biomoe.inference.engine import Engine, engine_facts
from tiny_biomoe.inference.runtime import embed_levels

pytestmark = [
    needs_compiler,  # the package was installed with the one that is here
    pytest.mark.skipif(not compiler.has_levels(), reason="programs come for Linux on x86-64"),
]
HERE = program.abilities()


@pytest.fixture(autouse=True)
def anew():
    """Which program fits is asked again, before and after."""
    program.shipped_program.cache_clear()
    yield
    program.shipped_program.cache_clear()


def limited(monkeypatch, level: str) -> None:
    """This processor as one that can do no more than a level asks for."""
    if not LEVELS[level].abilities <= HERE:
        pytest.skip(f"this processor cannot run {level}")
    monkeypatch.setattr(program, "abilities", lambda: LEVELS[level].abilities)


def knows(level: str) -> bool:
    """Whether the compiler that is here knows a level's options."""
    command = [*compiler.command(), *LEVELS[level].options, "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_program_came_for_every_level_that_the_compiler_knows():
    expected = {compiler.program_path(name).name for name in LEVELS if knows(name)}
    assert {path.name for path in compiler.PROGRAMS.iterdir()} == expected
    assert len(expected) >= 2  # any compiler of the last ten years


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_plain_to_rounding(level, pictures, monkeypatch):
    limited(monkeypatch, level)
    model = randomised()
    expected = plain(model, pictures)
    library = program.opened(compiler.program_path(level))
    exact, rounded = (native.NativeNetwork(model, precision, library) for precision in ("float32", "bfloat16"))
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
        from tiny_biomoe import TinyBioMoE
        from tiny_biomoe.inference import build as compiler
        from tiny_biomoe.inference import native, program
        model, picture = TinyBioMoE.from_pretrained(), np.random.RandomState(0).randint(0, 256, (224, 224), np.uint8)
        for level in sys.argv[1:]:
            network = native.NativeNetwork(model, "bfloat16", program.opened(compiler.program_path(level)))
            print(level, hashlib.sha256(network(picture, 2).tobytes()).hexdigest())
    """

    def told(*levels):
        command = [sys.executable, "-c", dedent(script), *levels]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(line.split() for line in done.stdout.splitlines())

    able = [name for name in LEVELS if LEVELS[name].abilities <= HERE and compiler.program_path(name).exists()]
    alone = {level: told(level)[level] for level in able}
    assert told(*able) == told(*reversed(able)) == alone
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
    assert (facts["compile"], facts["program"].split()[-1]) == (True, digest)
    assert facts["program"].startswith(f"native for {expected}, {'tiles' if expected == 'amx' else 'vectors'}, ")


@pytest.mark.parametrize("why", ["it can do less", "another system", "other sources", "it did not come"])
def test_where_no_program_fits_pytorch_computes(why, pictures, monkeypatch, tmp_path):
    if why == "it can do less":
        monkeypatch.setattr(program, "abilities", lambda: LEVELS["avx2"].abilities - {"fma"})
    elif why == "another system":
        monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-riscv64")
    elif why == "other sources":
        shutil.copytree(compiler.SOURCE, tmp_path / "cpp")
        with (tmp_path / "cpp" / "network.cpp").open("a") as source:
            source.write("\n")
        monkeypatch.setattr(compiler, "SOURCE", tmp_path / "cpp")
    else:
        monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    model = TinyBioMoE.from_pretrained()
    assert model.provenance(64, "bvp")["program"] is None
    assert program.shipped_program("float32") is program.shipped_program("bfloat16") is None
    found = embed_levels(model, pictures, 32)
    model.engine = Engine(compile=False)
    assert embed_levels(model, pictures, 32).tobytes() == found.tobytes()


@pytest.mark.parametrize("how", ["cut off", "changed", "no program"])
def test_a_damaged_program_is_told_and_not_run(how, pictures, monkeypatch, tmp_path):
    for name in LEVELS:
        data = bytearray(compiler.program_path(name).read_bytes())
        if how == "cut off":
            del data[len(data) // 2 :]
        elif how == "changed":
            data[len(data) // 2] ^= 1
        else:
            data = compiler.sealed(b"not a program")
        (tmp_path / compiler.program_path(name).name).write_bytes(data)
    monkeypatch.setattr(compiler, "PROGRAMS", tmp_path)
    model = TinyBioMoE.from_pretrained()
    with pytest.warns(UserWarning, match="cannot be run .*install tiny-biomoe again"):
        found = embed_levels(model, pictures, 32)
    assert model.provenance(64, "bvp")["program"] is None
    model.engine = Engine(compile=False)
    assert embed_levels(model, pictures, 32).tobytes() == found.tobytes()


def test_a_network_that_does_not_fit_is_computed_by_pytorch(pictures):
    assert engine_facts(TinyBioMoE())["program"] is not None
    small = TinyBioMoE(TINY).eval()
    assert engine_facts(small)["program"] is None
    np.testing.assert_allclose(embed_levels(small, pictures[:2], 32), plain(small, pictures[:2]), rtol=0, atol=1e-5)


def test_a_hooked_network_names_no_program(pictures):
    model = TinyBioMoE.from_pretrained()
    handle = model.gate.register_forward_hook(lambda module, given, gave: gave)
    assert model.provenance(64, "bvp")["program"] is None
    np.testing.assert_array_equal(embed_levels(model, pictures[:1], 32), plain(model, pictures[:1]))
    handle.remove()
    assert model.provenance(64, "bvp")["program"] is not None


def test_who_insists_gets_the_program_that_came_and_needs_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "nothing-of-this-name")
    monkeypatch.setattr(program, "_load", lambda: pytest.fail("compiled"))
    facts = [TinyBioMoE.from_pretrained(compile=compile).provenance(64, "bvp") for compile in (None, True)]
    assert facts[0] == facts[1]
    assert facts[0]["program"] is not None


@pytest.fixture
def tree(tmp_path):
    """The package's files as `pip` finds them, without what was built; and a compiler that writes its own words."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("programs", "__pycache__", "weights")
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
    assert all(compiler.is_sealed(data) for data in made.values())
    programs = {name: data[: -compiler.SEAL].decode() for name, data in made.items()}
    able = {level for level in LEVELS if level != "amx"}
    assert programs.keys() == {compiler.program_path(level).name for level in able}
    for level in able:  # behind what CXX says, so that a file is what its name tells
        words = programs[compiler.program_path(level).name].split()
        assert words[words.index("-march=native") + 1 :][: len(LEVELS[level].options)] == LEVELS[level].options


@pytest.mark.parametrize("cxx", ["nothing-of-this-name", "false"])
def test_a_wheel_made_without_a_compiler_is_for_any_machine(tree, monkeypatch, cxx):
    stale = (
        tree / "build" / f"lib.linux-x86_64-{sys.implementation.cache_tag}" / "tiny_biomoe" / "programs" / "old-1.so"
    )
    stale.parent.mkdir(parents=True)
    stale.touch()
    name, files = wheel(tree, monkeypatch, cxx)
    assert name.endswith("-py3-none-any.whl")
    assert not [path for path in files.namelist() if path.endswith(".so")]
    assert "tiny_biomoe/cpp/network.cpp" in files.namelist()
