"""Every operator in the registry: the names of the specification, ``opcheck`` over each."""

import pytest
import torch
from torch.library import opcheck

from tests.cases import Case, make_case
from tests.kernels import schemas

NAMES = {
    "batch_norm_train",
    "batch_norm_train_",
    "batch_norm_train_backward",
    "batch_norm_eval",
    "batch_norm_eval_",
    "batch_norm_eval_backward",
    "batch_norm_stats",
    "batch_norm_apply",
    "batch_norm_backward_reduce",
    "batch_norm_backward_apply",
    "batch_norm_groups_train",
    "batch_norm_groups_merge",
    "batch_norm_groups_apply",
    "batch_norm_groups_backward",
    "batch_norm_commit_",
    "batch_renorm_once",
}
#: Operators without tensor arguments: nothing for opcheck to look at.
PLAIN = {"cpu_capability"}


def names() -> list[str]:
    return [s.name.removeprefix("batchnorm::") for s in schemas()]


def sample(op: str, form: str, layout: str, grad: bool) -> tuple:
    """Arguments of an operator by the names in its schema."""
    case = make_case((3, 4, 5, 2), torch.float32, layout, form)
    x = case.input
    values = {
        "input": x,
        "grad_output": case.grad,
        "weight": case.weight,
        "bias": case.bias,
        "residual": case.residual,
        "mask": case.mask,
        "running_mean": case.running_mean,
        "running_var": case.running_var,
        "num_batches_tracked": torch.tensor(3),
        "num_nonfinite": torch.zeros(4, dtype=torch.int64),
        "mean": case.running_mean.clone(),
        "var": case.running_var.clone(),
        "r": torch.rand(4),
        "d": torch.rand(4),
        "invstd": case.running_var.rsqrt(),
        "sum_dy": torch.randn(4),
        "sum_dy_xhat": torch.randn(4),
        "count": torch.tensor(30),
        "output": None,
        "eps": 1e-5,
        "momentum": 0.1,
        "activation": case.act.code,
        "slope": case.act.slope,
        "need_grad_residual": case.residual is not None and case.act.name != "identity",
    }
    if "groups" in op:
        values |= group_values(case)
    schema = next(s for s in schemas() if s.name == f"batchnorm::{op}")
    if grad and "backward" not in op and not op.endswith("_"):
        for name in ("input", "weight", "bias", "residual"):
            if values[name] is not None:
                values[name] = values[name].detach().requires_grad_()
    return tuple(values[a.name] for a in schema.arguments)


def group_values(case: Case) -> dict[str, object]:
    """Three samples in two of three groups, with weights of their own in two rows."""
    return {
        "index": torch.tensor([2, 0, 2]),
        "groups": 3,
        "rows": torch.tensor([1, 0, 0]),
        "weight": torch.randn(2, 4),
        "bias": torch.randn(2, 4),
        "mean": torch.randn(3, 4),
        "var": torch.rand(3, 4),
        "invstd": torch.rand(3, 4) + 0.5,
        "count": torch.tensor([10, 0, 20]),
        "training": case.mask is None,
    }


def test_registry_holds_the_operators_of_the_specification():
    assert set(names()) - PLAIN >= NAMES


@pytest.mark.parametrize("form", ["plain", "residual_act", "masked"])
@pytest.mark.parametrize("op", sorted(NAMES))
def test_opcheck(op, form):
    overload = getattr(torch.ops.batchnorm, op).default
    opcheck(overload, sample(op, form, "contiguous", grad=form != "masked"))


@pytest.mark.parametrize("op", sorted(NAMES))
def test_opcheck_channels_last(op):
    overload = getattr(torch.ops.batchnorm, op).default
    opcheck(overload, sample(op, "residual_act", "channels_last", grad=True))


def test_every_registered_operator_is_checked():
    # An operator added later must be added here, or named as one without tensors.
    assert set(names()) == NAMES | (PLAIN & set(names()))


@pytest.mark.parametrize("op", sorted(NAMES))
def test_mutation_is_marked_exactly_where_the_name_says_so(op):
    schema = next(s for s in schemas() if s.name == f"batchnorm::{op}")
    assert schema.is_mutable == op.endswith("_")
