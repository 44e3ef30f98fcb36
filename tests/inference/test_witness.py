"""Where weights lie in memory, and whether a change of them is seen."""

import pickle
from copy import deepcopy
from itertools import pairwise

import torch

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.inference.witness import Witness, lay_together


def test_a_witness_sees_every_byte_and_its_place():
    tensors = [torch.arange(6.0).reshape(2, 3), torch.tensor(3), torch.zeros(4, dtype=torch.bfloat16), torch.empty(0)]
    witness = Witness(tensors)
    assert witness.unchanged(tensors)
    assert not witness.unchanged([tensor.clone() for tensor in tensors])  # their bytes, but elsewhere
    tensors[0].data[0, 1], tensors[0].data[1, 2] = 5.0, 1.0  # the same numbers, two of them swapped
    assert not witness.unchanged(tensors)


def test_tensors_laid_together_keep_their_values_and_are_read_in_one_piece():
    dtypes = {5: torch.float32, 1: torch.int64, 7: torch.bfloat16, 16: torch.float32}
    tensors = [torch.arange(n).to(dtype).requires_grad_(n == 5) for n, dtype in dtypes.items()]
    expected = [tensor.detach().clone() for tensor in tensors]
    lay_together(tensors)
    assert all(torch.equal(tensor, value) for tensor, value in zip(tensors, expected, strict=True))
    assert [tensor.requires_grad for tensor in tensors] == [True, False, False, False]
    assert [tensor.untyped_storage().nbytes() for tensor in tensors] == [20, 8, 14, 64]
    starts = sorted((tensor.data_ptr(), tensor.nbytes) for tensor in tensors)
    assert starts[0][0] % 64 == 0
    assert [a + size for a, size in starts[:-1]] == [b for b, _ in starts[1:]]
    witness = Witness(tensors)
    for tensor in tensors:
        tensor.detach()[-1] += 1
        assert not witness.unchanged(tensors)
        tensor.detach()[-1] -= 1
        assert witness.unchanged(tensors)


def test_loaded_weights_lie_together_and_are_saved_as_ever(tmp_path):
    model = TinyBioMoE.from_pretrained()
    spans = sorted((t.data_ptr(), t.nbytes) for t in [*model.parameters(), *model.buffers()])
    assert all(a + size == b for (a, size), (b, _) in pairwise(spans))
    model.save_pretrained(tmp_path)
    again = TinyBioMoE.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    copied = pickle.loads(pickle.dumps(deepcopy(model)))
    assert all(torch.equal(tensor, copied.state_dict()[name]) for name, tensor in model.state_dict().items())
