"""Memory that tells whether it was written: every write is seen, and a kernel that does not tell is not believed."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_biomoe import TinyBioMoE, pages
from tiny_biomoe.witness import Witness, lay_together

needs_linux = pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="needs Linux's /proc")


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
def test_embedding_writes_to_no_weight():
    model = TinyBioMoE.from_pretrained()
    memory = Witness(model.parameters())._memory
    model.embed(np.sin(np.arange(1000) / 5), fs=100, modality="ecg", representation="scalogram")
    assert pages.unwritten(memory)
