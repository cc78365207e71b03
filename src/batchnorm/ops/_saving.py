"""What each form keeps for its backward, beside C-sized tensors and the mask.

Training, and evaluation when the weight wants a gradient:

| form                                                  | kept               |
|-------------------------------------------------------|--------------------|
| no activation, with or without residual               | input              |
| any activation without residual                       | input              |
| relu, relu6, leaky_relu (slope > 0) with residual     | input and output   |
| any other activation with residual                    | input and residual |
| in place                                              | output             |

Evaluation when the weight wants none:

| form                                                  | kept               |
|-------------------------------------------------------|--------------------|
| no activation, with or without residual               | nothing            |
| relu, relu6, leaky_relu (slope > 0)                   | output             |
| any other activation without residual                 | input              |
| any other activation with residual                    | input and residual |
| in place                                              | output             |

The next layer keeps the output of an activation anyway, so saving it costs nothing then.
"""

from torch import Tensor

from .._types import Activation

__all__ = ["output_tells_gate", "saved_in_eval", "saved_in_train"]

_IDENTITY, _RELU, _RELU6, _LEAKY = (
    int(activation)
    for activation in (
        Activation.IDENTITY,
        Activation.RELU,
        Activation.RELU6,
        Activation.LEAKY_RELU,
    )
)


def output_tells_gate(activation: int, slope: float) -> bool:
    """Whether the activation's derivative can be read off its result."""
    return activation in (_RELU, _RELU6) or (activation == _LEAKY and slope > 0)


def saved_in_train(
    residual: Tensor | None, output: Tensor, activation: int, slope: float
) -> tuple[Tensor | None, Tensor | None]:
    """Which of ``(residual, output)`` to keep beside the input; None for the others."""
    if residual is None or activation == _IDENTITY:
        return None, None
    if output_tells_gate(activation, slope):
        return None, output

    return residual, None


def saved_in_eval(
    input: Tensor,
    residual: Tensor | None,
    output: Tensor,
    activation: int,
    slope: float,
    needs_grad_weight: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Which of ``(input, residual, output)``: only the weight's gradient and some gates need x̂."""
    if needs_grad_weight:
        return input, *saved_in_train(residual, output, activation, slope)
    if activation == _IDENTITY:
        return None, None, None
    if output_tells_gate(activation, slope):
        return None, None, output

    return input, residual, None
