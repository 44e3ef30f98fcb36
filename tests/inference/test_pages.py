"""Memory that tells whether it was written: every write is seen, and a kernel that does not tell is not believed."""

import ctypes
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs_compiler

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.inference import pages
from tiny_biomoe.inference.witness import Witness, lay_together


def told() -> bool:
    """Whether this system has what `pages` asks for; else all is memory like any other."""
    try:
        os.close(os.memfd_create("asked"))
        return os.access("/proc/self/pagemap", os.R_OK)
    except (AttributeError, OSError):
        return False


needs_linux = pytest.mark.skipif(not told(), reason="needs Linux's memfd_create and /proc")


def made(size=3 * 4096 + 5):
    parts = [np.arange(size // 2, dtype=np.uint8), np.full(size - size // 2, 7, np.uint8)]
    return pages.copied(parts), np.concatenate(parts)


def span(memory):
    return memory.ctypes.data, memory.ctypes.data + memory.nbytes


def write_by_pointer(memory, place):
    ctypes.memset(memory.ctypes.data + place, 1, 1)


def write_by_torch(memory, place):
    torch.frombuffer(memory.data, dtype=torch.uint8).data[place].fill_(1)


def write_by_numpy(memory, place):
    memory[place] = memory[place]  # even what is there already


def write_by_system(memory, place):
    with open("/dev/zero", "rb", buffering=0) as zeros:
        assert zeros.readinto(memory[place : place + 1].data) == 1


@needs_linux
@pytest.mark.parametrize("place", [0, 4096, 3 * 4096 + 4])
@pytest.mark.parametrize("write", [write_by_pointer, write_by_torch, write_by_numpy, write_by_system])
def test_whoever_writes_a_byte_is_seen(write, place):
    memory, expected = made()
    assert memory.tobytes() == expected.tobytes()
    assert pages.unwritten(memory)
    write(memory, place)
    assert not pages.unwritten(memory)
    assert not pages.unwritten(memory)  # nor is it forgotten
    others = np.arange(len(memory)) != place
    assert np.array_equal(memory[others], expected[others])


@needs_linux
def test_memory_of_each_size_is_whole_and_watched():
    for size in (1, 4095, 4096, 4097, 2**21 + 1):
        memory, expected = made(size)
        assert memory.tobytes() == expected.tobytes()
        assert pages.unwritten(memory)
        memory[-1] += 1
        assert not pages.unwritten(memory)


@needs_linux
def test_a_fork_sees_its_own_writes_and_its_parent_none():
    memory, _ = made()
    child = os.fork()
    if not child:
        before = pages.unwritten(memory)
        memory[0] += 1
        os._exit(0 if before and not pages.unwritten(memory) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pages.unwritten(memory)


@needs_linux
def test_nobody_can_change_the_file_behind_and_it_goes_with_the_memory():
    def files():
        links = {path: os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
        return {path for path, name in links.items() if "memfd:tiny-biomoe" in name}

    gc.collect()
    before = files()
    memory, expected = made()
    (file,) = files() - before
    with open(file, "r+b", buffering=0) as writer, pytest.raises(PermissionError):
        writer.write(b"x")
    with pytest.raises(PermissionError):
        os.truncate(file, 0)
    assert memory.tobytes() == expected.tobytes()
    assert pages.unwritten(memory)
    del memory
    assert files() == before


@needs_linux
@pytest.mark.parametrize("answer", ["nothing", "zeros", "little", "an error", "all a file's"])
def test_a_kernel_that_does_not_tell_is_not_believed(answer, monkeypatch):
    memory, _ = made()

    def pread(file, count, offset):
        if answer == "an error":
            raise PermissionError("no table here")
        entry = np.uint64(0b101 << 61 if answer == "all a file's" else 0)
        return (
            b""
            if answer == "nothing"
            else np.full(count // 8, entry).tobytes()[: count // 2 if answer == "little" else None]
        )

    assert pages.unwritten(memory)
    monkeypatch.setattr(os, "pread", pread)
    assert not pages.unwritten(memory)


@needs_linux
@pytest.mark.parametrize(
    ("states", "expected"),  # there, swapped, a file's: of the pages, the last one written at once
    [
        ([0b101, 0b101, 0b101, 0b101, 0b100], True),
        ([0b101, 0b000, 0b000, 0b101, 0b100], True),  # not looked at, or given back to the file
        ([0b101, 0b011, 0b101, 0b101, 0b010], True),  # under way to another place; proof swapped out
        ([0b101, 0b101, 0b100, 0b101, 0b100], False),
        ([0b101, 0b101, 0b010, 0b101, 0b100], False),  # written and swapped out
        ([0b101, 0b101, 0b101, 0b101, 0b101], False),  # the proof says that nobody tells
        ([0b101, 0b101, 0b101, 0b101, 0b000], False),
    ],
)
def test_what_the_kernel_says_of_a_page(states, expected, monkeypatch):
    memory, _ = made()
    entries = (np.array(states, np.uint64) << np.uint64(61)) + np.uint64(12345)  # the lower bits say other things
    monkeypatch.setattr(os, "pread", lambda file, count, offset: entries.tobytes()[:count])
    assert pages.unwritten(memory) is expected


@pytest.mark.parametrize("refusal", ["absent", "refused"])
def test_without_such_files_it_is_memory_like_any_other(refusal, monkeypatch):
    def refused(name, flags):
        raise PermissionError("not here")

    if refusal == "absent":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    memory, expected = made()
    assert memory.tobytes() == expected.tobytes()
    assert memory.ctypes.data % 64 == 0
    assert pages.holding([span(memory)]) is None
    assert pages.copied([]).shape == (0,)
    tensors = [torch.arange(5.0), torch.ones(700)]
    lay_together(tensors)
    witness = Witness(tensors)
    assert witness.unchanged(tensors)
    tensors[1].data[699] = 2
    assert not witness.unchanged(tensors)


@needs_linux
def test_memory_is_found_by_what_lies_in_it():
    first, second = made()[0], made()[0]
    (begin, end), other = span(second), span(first)
    assert pages.holding([(begin, begin + 1), (end - 1, end)]) is second
    assert pages.holding([(begin, end + 1)]) is None
    assert pages.holding([(begin, end), other]) is None


@needs_linux
def test_weights_that_nobody_wrote_are_not_read(monkeypatch):
    model = TinyBioMoE.from_pretrained()
    tensors = [*model.parameters(), *model.buffers()]
    witness, read = Witness(tensors), []
    checksum = Witness.checksum
    monkeypatch.setattr(Witness, "checksum", lambda self: read.append(self) or checksum(self))
    assert witness.unchanged(tensors)
    assert not read
    model.gate.bias.data[0] += 1
    assert not witness.unchanged(tensors)
    model.gate.bias.data[0] -= 1
    assert witness.unchanged(tensors)
    assert read == [witness, witness]
    assert not witness.unchanged([tensor.T if tensor.ndim == 2 else tensor for tensor in tensors])  # read otherwise


@needs_linux
@pytest.mark.parametrize("compile", [None, False, pytest.param(True, marks=needs_compiler)])
def test_written_pages_that_are_given_back_are_seen(compile):
    ask = {"fs": 100, "modality": "ecg", "representation": "waveform"}
    model, signal = TinyBioMoE.from_pretrained(compile=compile), np.sin(np.arange(1000) / 5)
    before = model.embed(signal, **ask)
    weight = model.gate.weight.data
    weight[3] += 1
    assert not np.array_equal(model.embed(signal, **ask), before)
    start, stop = weight.data_ptr() // 4096, -(-(weight.data_ptr() + weight.nbytes) // 4096)
    libc = ctypes.CDLL(None)
    assert libc.madvise(ctypes.c_void_p(start * 4096), ctypes.c_size_t((stop - start) * 4096), mmap.MADV_DONTNEED) == 0
    assert model.embed(signal, **ask).tobytes() == before.tobytes()


@needs_linux
def test_embedding_writes_to_no_weight():
    model = TinyBioMoE.from_pretrained()
    memory = Witness(model.parameters())._memory
    model.embed(np.sin(np.arange(1000) / 5), fs=100, modality="ecg", representation="scalogram")
    assert pages.unwritten(memory)
