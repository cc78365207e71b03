"""``batch_norm_train`` and its backward against the float64 oracle: every kernel route."""

import math

import pytest
import torch

from tests.activations import ACTS
from tests.calls import backward, oracle_train, same_layout, train, wants_grad_residual
from tests.cases import DTYPES, GRID, Case, make_case
from tests.peer import peer, preactivation
from tests.tolerance import STEPS, assert_within, floors, off_kinks, ulp

# (N, C, *spatial), chosen to hurt: S = 1, 49, 196, not a multiple of 16; C = 1, 3, 7, 10, 24,
# 64, 130; few channels with many positions; many rows with few channels and the reverse.
SHAPES = [
    (33, 24),
    (2, 1),
    (5, 130),
    (64, 1, 5),
    (5, 3, 31),
    (4, 3, 7, 7),
    (9, 64, 7, 7),
    (3, 10, 14, 14),
    (2, 130, 3, 5),
    (16, 24, 1, 1),
    (1, 7, 9, 2),
    (2, 7, 5, 4, 3),
    (1, 1, 4, 4, 4),
]

LARGE = [
    (3000, 10),
    (700, 130),
    (40, 1024),
    (1, 3, 224, 224),
    (2, 1, 150, 130),
    (12, 64, 28, 28),
    (64, 130, 7, 7),
    (8, 128, 400),
    (2, 24, 9, 33, 32),
]


def check_train(kernels, case: Case) -> None:
    """Forward, statistics and backward of one case within the derived tolerance."""
    case = off_kinks(case, preactivation(case))
    floor, torchs, oracle = floors(case), peer(case), oracle_train(case)
    out = train(kernels, case)
    grads = backward(kernels, case, out.mean, out.invstd, out.output)

    assert out.count.item() == case.full_mask.sum()
    assert out.count.shape == ()
    assert out.output.dtype == case.input.dtype
    assert same_layout(out.output, case.input)
    assert same_layout(grads.grad_input, case.input)
    for name in ("mean", "var", "invstd"):
        assert getattr(out, name).dtype == case.acc
    assert (out.var >= 0).all()
    assert_within(out.mean, oracle.forward.mean, torchs.mean, floor.mean, "mean")
    assert_within(out.var, oracle.forward.var, torchs.var, floor.var, "var")
    assert_within(out.output, oracle.forward.output, torchs.output, floor.output, "output")

    want = oracle.backward
    assert grads.grad_weight.dtype == grads.grad_bias.dtype == case.acc
    assert_within(grads.grad_input, want.grad_input, torchs.grad_input, floor.grad_input, "dx")
    assert_within(
        grads.grad_weight, want.grad_weight, torchs.grad_weight, floor.grad_weight, "dweight"
    )
    assert_within(grads.grad_bias, want.grad_bias, torchs.grad_bias, floor.grad_bias, "dbias")
    if wants_grad_residual(case):
        got = grads.grad_residual
        assert got.dtype == case.input.dtype
        assert same_layout(got, case.input)
        assert_within(got, want.grad_residual, torchs.grad_residual, floor.grad_residual, "dr")
    else:
        assert grads.grad_residual.shape == (0,)


@pytest.mark.parametrize(("dtype", "layout", "form"), GRID)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_train_matches_oracle(kernels, shape, dtype, layout, form):
    check_train(kernels, make_case(shape, dtype, layout, form))


@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_train_matches_oracle_on_large_shapes(kernels, shape, dtype, layout, form):
    check_train(kernels, make_case(shape, dtype, layout, form))


@pytest.mark.parametrize("form", ["act", "residual_act", "masked"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_train_matches_oracle_for_every_activation(kernels, act, dtype, layout, form):
    check_train(kernels, make_case((3, 10, 7, 5), dtype, layout, form, act))


@pytest.mark.parametrize("affine", ["none", "weight", "bias"])
@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_train_matches_oracle_without_parameters(kernels, dtype, layout, form, affine):
    check_train(kernels, make_case((4, 7, 6, 6), dtype, layout, form, affine=affine))


@pytest.mark.parametrize("param", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_train_takes_parameters_of_any_floating_dtype(kernels, dtype, param):
    case = make_case((4, 7, 6, 6), dtype, form="act")
    narrow = case.weight.to(param), case.bias.to(param)
    object.__setattr__(case, "weight", narrow[0].to(case.acc))
    object.__setattr__(case, "bias", narrow[1].to(case.acc))
    want = train(kernels, case)
    object.__setattr__(case, "weight", narrow[0])
    object.__setattr__(case, "bias", narrow[1])
    if param == torch.float64 and dtype != torch.float64:
        assert_within(want.output, train(kernels, case).output, None, floors(case).output, "y")
    else:
        assert torch.equal(want.output, train(kernels, case).output)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("shape", [(64, 24), (8, 24, 14, 14), (4, 3, 500)], ids=str)
@pytest.mark.parametrize(("offset", "std"), [(1e4, 1.0), (-1e4, 1.0), (0.0, 1e-4), (1.0, 1e-4)])
def test_train_is_accurate_far_from_zero_and_near_constant(kernels, shape, layout, offset, std):
    # Keras on torch gives NaN at mean 1e4; torch's channels_last variance is off by 1 % there.
    check_train(kernels, make_case(shape, torch.float32, layout, offset=offset, std=std))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(512, 16), (8, 16, 14, 14)], ids=str)
@pytest.mark.parametrize("mean_over_std", [1e4, 1e6])
def test_variance_keeps_its_digits_at_large_mean(kernels, shape, layout, mean_over_std):
    # Exact in float32: the values are whole numbers below 2**24.
    g = torch.Generator().manual_seed(1)
    x = torch.randint(-8, 9, shape, generator=g).float() + mean_over_std * 4
    case = make_case(shape, torch.float32, layout)
    object.__setattr__(case, "input", x if layout == "contiguous" else case.input.copy_(x))
    out = train(kernels, case)
    want = case.input.double().movedim(1, 0).flatten(1).var(1, correction=0)
    terms = STEPS + math.log2(out.count.item())
    assert_within(out.var, want, None, want * terms * ulp(torch.float32), "var")


def test_train_on_one_position_gives_the_bias(kernels):
    case = make_case((1, 5), torch.float32)
    out = train(kernels, case)
    assert torch.equal(out.mean, case.input[0])
    assert torch.equal(out.var, torch.zeros(5))
    assert torch.equal(out.output[0], case.bias)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_constant_channel_has_variance_zero_and_no_gradient(kernels, layout):
    case = make_case((4, 3, 5, 5), layout=layout)
    case.input[:, 1] = 12345.678
    out = train(kernels, case)
    grads = backward(kernels, case, out.mean, out.invstd)
    assert out.var[1] == 0
    assert torch.equal(out.output[:, 1], case.bias[1].expand(4, 5, 5))
    assert grads.grad_weight[1] == 0
    # What is left is the centred cotangent.
    g = case.grad[:, 1].double()
    want = (g - g.mean()) * case.weight[1].double() * case.eps**-0.5
    scale = float(case.weight[1].abs() * case.eps**-0.5 * g.abs().max())
    assert (grads.grad_input[:, 1].double() - want).abs().max() <= 16 * 2**-23 * scale


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3, 3), (2, 4, 0)], ids=str)
def test_empty_batch_gives_empty_outputs_and_zero_sums(kernels, shape):
    case = make_case(shape)
    out = train(kernels, case)
    grads = backward(kernels, case, out.mean, out.invstd)
    assert out.output.shape == shape
    assert out.count.item() == 0
    assert grads.grad_input.shape == shape
    for sums in (out.mean, out.var, grads.grad_weight, grads.grad_bias):
        assert torch.equal(sums, torch.zeros(4))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(8, 5), (4, 5, 7, 7), (2, 5, 40, 40)], ids=str)
def test_non_finite_value_stays_in_its_channel(kernels, shape, layout, bad):
    case = make_case(shape, layout=layout, form="act")
    clean = train(kernels, case)
    case.input[0, 2] = bad
    out = train(kernels, case)
    others = [0, 1, 3, 4]
    assert not torch.isfinite(out.mean[2]) or not torch.isfinite(out.var[2])
    assert torch.equal(out.mean[others], clean.mean[others])
    assert torch.equal(out.var[others], clean.var[others])
    assert torch.equal(out.output[:, others], clean.output[:, others])


def test_relu_propagates_nan_as_torch(kernels):
    case = make_case((6, 3), form="act")
    case.input[0, 1] = float("nan")
    out = train(kernels, case)
    assert out.output[:, 1].isnan().all()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_overflowing_sums_in_half_precision_stay_finite(kernels, layout):
    # 40000 * 1000 terms is far beyond float16's 65504; sums live in float32.
    case = make_case((1000, 3, 4), torch.float16, layout)
    case.input.fill_(40000.0)[::2] = 39968.0
    out = train(kernels, case)
    assert torch.equal(out.mean, torch.full((3,), 39984.0))
    assert torch.equal(out.var, torch.full((3,), 256.0))
    assert out.output.isfinite().all()


@pytest.mark.timeout(60, method="thread")  # a kernel that loops for ever cannot be interrupted
@pytest.mark.parametrize("shape", [(4, 0), (4, 0, 3, 3), (0, 0, 5)], ids=str)
def test_no_channels_at_all(kernels, shape):
    case = make_case(shape)
    out = train(kernels, case)
    grads = backward(kernels, case, out.mean, out.invstd)
    assert out.output.shape == grads.grad_input.shape == shape
    assert out.mean.shape == grads.grad_weight.shape == (0,)
