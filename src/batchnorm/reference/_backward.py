"""Backward of every phase: through the activation, reduce per channel, then the input's gradient.

With x̂ = (x - mean) * invstd, pre = x̂ * weight + bias + residual and g = dy * act'(pre):

    sum_dy = Σ g = grad_bias          sum_dy_xhat = Σ g x̂ = grad_weight          grad_residual = g
    training:    dx = weight * invstd * (g - sum_dy / m - x̂ * sum_dy_xhat / m)
    evaluation:  dx = weight * invstd * g

Source: Ioffe & Szegedy 2015, section 3 (arXiv:1502.03167), collected by x̂.
"""

from torch import Tensor

from ._activations import activation_grad
from ._forward import pre_activation
from ._shapes import accumulation_dtype, channel_count, channel_sum, per_channel, select_real

__all__ = [
    "activation_backward",
    "batch_norm_backward_apply",
    "batch_norm_backward_reduce",
    "batch_norm_eval_backward",
    "batch_norm_stats_backward",
    "batch_norm_train_backward",
    "normalised",
    "residual_grad",
]


def activation_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    """``g = dy * act'(pre)`` in the accumulation dtype, 0 where padded."""
    dtype = accumulation_dtype(input.dtype)
    grad = select_real(grad_output.to(dtype), mask)
    if activation == 0:
        return grad

    if output is not None:
        pre = output.to(dtype)
    else:
        pre = pre_activation(input, mean, invstd, weight, bias, residual, mask)

    return select_real(grad * activation_grad(pre, activation, slope), mask)


def normalised(input: Tensor, mean: Tensor, invstd: Tensor, mask: Tensor | None) -> Tensor:
    """``x_hat = (x - mean) * invstd`` in the accumulation dtype, 0 where padded."""
    x = select_real(input.to(accumulation_dtype(input.dtype)), mask)

    return select_real((x - per_channel(mean, x)) * per_channel(invstd, x), mask)


def _scale(invstd: Tensor, weight: Tensor | None) -> Tensor:
    return invstd if weight is None else invstd * weight.to(invstd.dtype)


def residual_grad(grad: Tensor, input: Tensor, wanted: bool) -> Tensor:
    return grad.to(input.dtype) if wanted else input.new_empty(0)


def batch_norm_backward_reduce(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """The two sums over a channel that the gradients need.

    Args:
        grad_output: ``(N, C, *)``.
        input: as grad_output.
        weight: ``(C,)``, any float dtype; None: 1.
        bias: ``(C,)``, any float dtype; None: 0.
        mean: ``(C,)``, accumulation dtype.
        invstd: ``(C,)``, accumulation dtype.
        residual: as input; None: 0.
        output: the forward's result, for activations whose pre-activation it stands for.
        mask: bool ``(N, *)``; None: everything is real.
        activation: code of ``Activation``.
        slope: of leaky_relu, or alpha of elu.

    Returns:
        ``sum_dy (C,)`` and ``sum_dy_xhat (C,)``, the gradients of bias and weight, in the
        accumulation dtype.
    """
    grad = activation_backward(
        grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation, slope
    )
    x_hat = normalised(input, mean, invstd, mask)

    return channel_sum(grad), channel_sum(grad * x_hat)


def batch_norm_backward_apply(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    sum_dy: Tensor,
    sum_dy_xhat: Tensor,
    count: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> tuple[Tensor, Tensor]:
    """The input's gradient in training, from sums over everything that was normalised together.

    Args:
        grad_output: and all others as in ``batch_norm_backward_reduce``.
        input: ``(N, C, *)``.
        weight: ``(C,)`` or None.
        bias: ``(C,)`` or None.
        mean: ``(C,)``.
        invstd: ``(C,)``.
        sum_dy: ``(C,)``, summed over ranks or groups if there are several.
        sum_dy_xhat: ``(C,)``, likewise.
        count: int64 ``()`` or ``(C,)``, likewise.
        residual: as input or None.
        output: as input or None.
        mask: bool ``(N, *)`` or None.
        activation: code of ``Activation``.
        slope: of leaky_relu, or alpha of elu.
        need_grad_residual: whether to return the residual's gradient.

    Returns:
        ``grad_input`` as input, 0 where padded; ``grad_residual`` as input, or empty.
    """
    grad = activation_backward(
        grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation, slope
    )
    x_hat = normalised(input, mean, invstd, mask)
    divisor = count.clamp(min=1).to(grad.dtype)

    centred = grad - per_channel(sum_dy / divisor, grad)
    centred = centred - x_hat * per_channel(sum_dy_xhat / divisor, grad)
    grad_input = select_real(centred * per_channel(_scale(invstd, weight), grad), mask)

    return grad_input.to(input.dtype), residual_grad(grad, input, need_grad_residual)


def batch_norm_train_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reduce and apply in one: gradients of the training form.

    Returns:
        ``grad_input`` as input; ``grad_weight`` and ``grad_bias`` ``(C,)`` in the accumulation
        dtype; ``grad_residual`` as input, or empty when not needed.
    """
    sum_dy, sum_dy_xhat = batch_norm_backward_reduce(
        grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation, slope
    )
    grad_input, grad_residual = batch_norm_backward_apply(
        grad_output,
        input,
        weight,
        bias,
        mean,
        invstd,
        sum_dy,
        sum_dy_xhat,
        channel_count(input, mask),
        residual,
        output,
        mask,
        activation,
        slope,
        need_grad_residual,
    )

    return grad_input, sum_dy_xhat, sum_dy, grad_residual


def batch_norm_eval_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    residual: Tensor | None,
    output: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
    need_grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients when the statistics are constants.

    Returns:
        As ``batch_norm_train_backward``.
    """
    grad = activation_backward(
        grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation, slope
    )
    x_hat = normalised(input, mean, invstd, mask)
    grad_input = grad * per_channel(_scale(invstd, weight), grad)

    return (
        grad_input.to(input.dtype),
        channel_sum(grad * x_hat),
        channel_sum(grad),
        residual_grad(grad, input, need_grad_residual),
    )


def batch_norm_stats_backward(
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    input: Tensor,
    mean: Tensor,
    count: Tensor,
    mask: Tensor | None,
) -> Tensor | None:
    r"""Gradient of ``batch_norm_stats`` with respect to its input, 0 where padded.

    .. math:: \frac{\partial L}{\partial x_{ic}} = \frac1m \Bigl(
        \frac{\partial L}{\partial \mu_c} + 2 (x_{ic} - \mu_c)
        \frac{\partial L}{\partial \sigma_c^2} \Bigr)
    """
    x = select_real(input.to(accumulation_dtype(input.dtype)), mask)
    divisor = count.clamp(min=1).to(x.dtype)

    grad = None
    if grad_mean is not None:
        grad = per_channel(grad_mean / divisor, x).expand_as(x)
    if grad_var is not None:
        spread = (x - per_channel(mean, x)) * per_channel(2 * grad_var / divisor, x)
        grad = spread if grad is None else grad + spread
    if grad is None:
        return None

    return select_real(grad, mask).to(input.dtype)
