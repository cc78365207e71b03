"""When a call may write its output over its input."""

import torch
from torch import Tensor

from .._errors import explain
from .._types import Activation

__all__ = ["check_inplace"]

# x̂ is recovered from y as (y - bias) / weight. Rounding y to its dtype moves that by about
# eps * (|x̂| + |bias / weight|); the limit keeps the second part below 1 %.
_SMALLEST_WEIGHT = 1e-3
_LARGEST_SHIFT_ERROR = 1e-2


def check_inplace(
    who: str,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: int,
    slope: float,
    needs_grad: bool,
) -> None:
    """Refuse, before the input is touched, what could not be undone in the backward.

    Raises:
        ValueError: the activation cannot be inverted, there is a residual, or a weight is so small
            that x̂ cannot be recovered from the output.
        RuntimeError: the input is a leaf that requires grad, or overlaps itself.
    """
    if torch._debug_has_internal_overlap(input) == 1:
        raise RuntimeError(
            explain(
                who,
                "in place, every element must have memory of its own",
                f"an expanded input with strides {input.stride()}",
                "Use inplace=False, or input.contiguous()",
            )
        )
    if not needs_grad:
        return

    if input.is_leaf and input.requires_grad:
        raise RuntimeError(
            explain(
                who,
                "a leaf that requires grad cannot be overwritten",
                "inplace=True",
                "Use inplace=False",
            )
        )
    invertible = activation == Activation.IDENTITY or (
        activation == Activation.LEAKY_RELU and slope > 0
    )
    if not invertible or residual is not None:
        got = f"activation={Activation(activation).label!r}, slope={slope}"
        raise ValueError(
            explain(
                who,
                "in place with gradients, only plain and leaky_relu (slope > 0) forms without "
                "residual can be inverted",
                got if residual is None else f"{got}, a residual",
                "Use inplace=False, or torch.no_grad()",
            )
        )
    if weight is not None:
        _check_weight(who, input.dtype, weight, bias)


def _check_weight(who: str, dtype: torch.dtype, weight: Tensor, bias: Tensor | None) -> None:
    weight = weight.detach()
    size = weight.abs()
    shift = torch.zeros_like(size) if bias is None else bias.detach().abs()
    needed = (shift * (torch.finfo(dtype).eps / _LARGEST_SHIFT_ERROR)).clamp(min=_SMALLEST_WEIGHT)
    bad = ~(size >= needed)
    if bad.any():
        channel = int(bad.nonzero()[0, 0])
        raise ValueError(
            explain(
                who,
                "in place with gradients, |weight| must be at least 1e-3 and at least "
                f"{torch.finfo(dtype).eps / _LARGEST_SHIFT_ERROR:.1e} * |bias|",
                f"weight={float(weight[channel]):.3g}, bias of size {float(shift[channel]):.3g} "
                f"in channel {channel}",
                "Use inplace=False",
            )
        )
