"""One thread, two threads, twice: the same bits."""

import pytest
import torch

from tests.calls import backward, train
from tests.cases import DTYPES, FORMS, make_case

SHAPES = [
    (3000, 10),
    (256, 1024),
    (1, 3, 224, 224),
    (1, 1, 300, 301),
    (8, 16, 32, 32),
    (32, 64, 14, 14),
    (32, 130, 7, 7),
    (8, 24, 400),
    (2, 8, 8, 33, 32),
]


def everything(k, case):
    out = train(k, case)
    grads = backward(k, case, out.mean, out.invstd, out.output)
    return [*vars(out).values(), *vars(grads).values()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_and_two_threads_give_the_same_bits(native, shape, layout, form):
    dtype = DTYPES[len(form) % len(DTYPES)] if form != "plain" else torch.float32
    case = make_case(shape, dtype, layout, form)
    one = everything(native, case)
    torch.set_num_threads(2)
    two, again = everything(native, case), everything(native, case)
    for a, b, c in zip(one, two, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)
