"""The operators' own tests on tiny tensors, in Triton's interpreter."""

import pytest
import torch

from tests.activations import ACTS
from tests.calls import backward, evaluate, train
from tests.cases import DTYPES, GRID, lay_out, make_case
from tests.ops import test_activation_points as points
from tests.ops import test_commit as commits
from tests.ops import test_masks as masks
from tests.ops import test_phases as phases
from tests.ops.test_eval import check_eval
from tests.ops.test_train import check_train

LAYOUTS = ["contiguous", "channels_last"]
#: Every dtype with some forms and both layouts; the rest of the grid is slow here.
QUICK = GRID[::3]
#: Planes of an odd and of an even size, rows, volumes, one channel, more channels than a tile.
SHAPES = [(5, 2, 7, 7), (9, 5), (2, 3, 4, 3, 2), (3, 1, 20), (2, 18, 2)]


@pytest.mark.parametrize(("dtype", "layout", "form"), QUICK)
def test_train_matches_oracle(kernels, dtype, layout, form):
    check_train(kernels, make_case((3, 2, 5, 5), dtype, layout, form))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "layout", "form"), GRID)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_everything_matches_oracle_for_the_whole_grid(kernels, shape, dtype, layout, form):
    check_train(kernels, make_case(shape, dtype, layout, form))
    check_eval(kernels, make_case(shape, dtype, layout, form))
    phases.test_chain_of_phases_matches_oracle(kernels, shape, dtype, layout, form)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_train_matches_oracle_for_every_shape(kernels, shape, layout):
    check_train(kernels, make_case(shape, torch.float32, layout, "residual_act"))
    check_train(kernels, make_case(shape, torch.float32, layout, "masked"))


@pytest.mark.parametrize(("dtype", "layout", "form"), QUICK)
def test_eval_matches_oracle(kernels, dtype, layout, form):
    check_eval(kernels, make_case((3, 2, 5, 5), dtype, layout, form))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_every_activation(whole, act, dtype):
    for form in ("act", "residual_act", "masked"):
        check_train(whole, make_case((4, 2, 3, 3), dtype, "contiguous", form, act))
        check_eval(whole, make_case((4, 2, 3, 3), dtype, "contiguous", form, act))


@pytest.mark.parametrize("affine", ["none", "weight", "bias"])
def test_without_parameters(whole, affine):
    for form in ("plain", "residual_act", "masked"):
        check_train(whole, make_case((4, 3, 3, 3), form=form, affine=affine))
        check_eval(whole, make_case((4, 3, 3, 3), form=form, affine=affine))


@pytest.mark.parametrize(("dtype", "layout", "form"), QUICK)
def test_chain_of_phases(kernels, dtype, layout, form):
    phases.test_chain_of_phases_matches_oracle(kernels, (3, 3, 4, 5), dtype, layout, form)


def test_two_halves_with_agreed_statistics(whole):
    phases.test_two_halves_with_agreed_statistics_equal_the_whole(whole)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ACTS.values(), ids=str)
def test_activation_at_points(whole, act, dtype):
    points.test_value_at_points(whole, act, dtype, "contiguous")
    points.test_derivative_at_points_is_torchs_also_at_kinks(whole, act, dtype, "rows")
    points.test_infinities_give_the_limit_or_nan_and_nan_stays(whole, act, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_padding_does_not_leak(kernels, layout, value):
    masks.test_padding_does_not_leak_whatever_it_holds(
        kernels, (3, 2, 5, 5), layout, value, "sigmoid"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks(kernels, layout):
    masks.test_padding_of_eval_comes_out_zero(kernels, layout)
    masks.test_mask_of_all_true_is_no_mask(kernels, (3, 2, 5, 5), layout)
    for dtype in DTYPES:
        masks.test_fully_masked_batch_has_count_zero_and_gives_zeros(
            kernels, (4, 3, 5), layout, dtype
        )
    masks.test_one_real_position_gives_its_own_value_as_mean(kernels)


@pytest.mark.parametrize("layout", [*LAYOUTS, "sliced"])
@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
def test_in_place_equals_out_of_place(kernels, layout, form):
    for run in (train, evaluate):
        case = make_case((3, 2, 5, 5), layout=layout, form=form)
        want = run(kernels, case)
        want = want if run is evaluate else want.output
        x, w, b, r, m = case.input, case.weight, case.bias, case.residual, case.mask
        if run is train:
            kernels.batch_norm_train_(x, w, b, r, m, case.eps, *case.code)
        else:
            stats = case.running_mean, case.running_var
            kernels.batch_norm_eval_(x, *stats, w, b, r, m, case.eps, *case.code)
        assert torch.equal(x, want)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("offset", "std"), [(1e4, 1.0), (0.0, 1e-4), (1.0, 1e-4)])
def test_accurate_far_from_zero_and_near_constant(kernels, layout, offset, std):
    check_train(kernels, make_case((5, 2, 5, 5), torch.float32, layout, offset=offset, std=std))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_constant_channel_has_variance_zero(kernels, layout):
    case = make_case((4, 3, 5, 5), layout=layout)
    case.input[:, 1] = 12345.678
    out = train(kernels, case)
    assert out.var[1] == 0
    assert torch.equal(out.output[:, 1], case.bias[1].expand(4, 5, 5))
    assert backward(kernels, case, out.mean, out.invstd).grad_weight[1] == 0


def test_one_position_gives_the_bias(whole):
    case = make_case((1, 5), torch.float32)
    out = train(whole, case)
    assert torch.equal(out.mean, case.input[0])
    assert torch.equal(out.var, torch.zeros(5))
    assert torch.equal(out.output[0], case.bias)


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3, 3), (2, 4, 0), (4, 0), (4, 0, 3, 3)], ids=str)
def test_nothing_in_nothing_out(whole, shape):
    case = make_case(shape)
    out = train(whole, case)
    channels = torch.zeros(shape[1])
    assert evaluate(whole, case).shape == out.output.shape == shape
    assert out.count.item() == 0
    for training in (True, False):
        grads = backward(whole, case, out.mean, out.invstd, training=training)
        assert grads.grad_input.shape == shape
        for sums in (out.mean, out.var, grads.grad_weight, grads.grad_bias):
            assert torch.equal(sums, channels)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_non_finite_value_stays_in_its_channel(kernels, layout, bad):
    case = make_case((4, 5, 4, 4), layout=layout, form="act")
    clean = train(kernels, case)
    case.input[0, 2] = bad
    out = train(kernels, case)
    others = [0, 1, 3, 4]
    assert not torch.isfinite(out.mean[2]) or not torch.isfinite(out.var[2])
    for name in ("mean", "var"):
        assert torch.equal(getattr(out, name)[others], getattr(clean, name)[others])
    assert torch.equal(out.output[:, others], clean.output[:, others])


@pytest.mark.parametrize("of_grad", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("layout", [*LAYOUTS, "transposed"])
def test_tensors_of_different_layouts_meet(kernels, layout, of_grad):
    case = make_case((4, 3, 5, 5), layout=layout, form="residual_act", act="silu")
    object.__setattr__(case, "grad", lay_out(case.grad, of_grad))
    object.__setattr__(case, "residual", lay_out(case.residual, of_grad))
    check_train(kernels, case)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_commit(whole, momentum):
    commits.test_commit_of_count_zero_changes_nothing(whole, momentum)
    commits.test_commit_of_one_value_per_channel_leaves_the_statistics(whole)
    commits.test_commit_takes_a_count_per_channel(whole)
    for bad in (float("nan"), float("inf")):
        for where in ("mean", "var"):
            commits.test_commit_skips_and_counts_a_non_finite_channel(whole, where, bad, momentum)
    for dtype in (torch.float32, torch.float64):
        commits.test_commit_takes_statistics_wider_or_narrower_than_the_buffers(whole, dtype)
        commits.test_commit_is_the_exponential_average_in_closed_form(whole, 10, 0.1, dtype)
    commits.test_commit_without_momentum_is_the_plain_average(whole, 10)
    commits.test_cumulative_average_leaves_out_the_skipped_batches_of_a_channel(whole)


@pytest.mark.parametrize("channels", [1, 7, 1500])
def test_commit_reaches_every_channel(whole, channels):
    commits.test_commit_reaches_every_channel(whole, channels)
