"""The in-place operators write what the others return, into the input's memory."""

import pytest
import torch

from tests.activations import ACTS
from tests.calls import evaluate, train
from tests.cases import FORMS, GRID, make_case

SHAPES = [(33, 24), (9, 24, 7, 7), (3, 10, 14, 14), (1, 3, 60, 60), (2, 7, 5, 4, 3)]
EVERY_OTHER = [(torch.float32, "every_other", form) for form in FORMS]


@pytest.mark.parametrize(("dtype", "layout", "form"), [*GRID, *EVERY_OTHER])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_train_in_place_equals_out_of_place(kernels, shape, dtype, layout, form):
    case = make_case(shape, dtype, layout, form)
    want = train(kernels, case)
    x, w, b, r, m = case.input, case.weight, case.bias, case.residual, case.mask
    stats = kernels.batch_norm_train_(x, w, b, r, m, case.eps, *case.code)
    assert torch.equal(x, want.output)
    for got, expected in zip(stats, (want.mean, want.var, want.invstd, want.count), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(("dtype", "layout", "form"), [*GRID, *EVERY_OTHER])
def test_eval_in_place_equals_out_of_place(kernels, dtype, layout, form):
    case = make_case((9, 24, 7, 7), dtype, layout, form)
    want = evaluate(kernels, case)
    x, w, b, r, m = case.input, case.weight, case.bias, case.residual, case.mask
    running = case.running_mean, case.running_var
    kernels.batch_norm_eval_(x, *running, w, b, r, m, case.eps, *case.code)
    assert torch.equal(x, want)


@pytest.mark.parametrize("act", ACTS)
def test_every_activation_in_place(kernels, act):
    case = make_case((9, 24, 7, 7), form="residual_act", act=act)
    want = train(kernels, case)
    rest = (case.weight, case.bias, case.residual, None, case.eps, *case.code)
    kernels.batch_norm_train_(case.input, *rest)
    assert torch.equal(case.input, want.output)


def test_in_place_leaves_the_rest_of_the_storage_alone(kernels):
    base = torch.full((4, 6, 5, 5), float("nan"))
    base[:, 1:5] = torch.randn(4, 4, 5, 5)
    kernels.batch_norm_train_(base[:, 1:5], None, None, None, None, 1e-5, 0, 0.0)
    assert base[:, 0].isnan().all()
    assert base[:, 5].isnan().all()
    assert base[:, 1:5].isfinite().all()
