"""Forward of every phase: measure, then normalise, scale, shift, add, activate."""

from torch import Tensor

from ._activations import activate
from ._shapes import accumulation_dtype, channel_count, channel_sum, per_channel, select_real

__all__ = [
    "batch_norm_apply",
    "batch_norm_eval",
    "batch_norm_stats",
    "batch_norm_train",
    "pre_activation",
]


def batch_norm_stats(input: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean and biased variance of each channel.

    .. math:: \mu_c = \frac1m \sum_i x_{ic} \qquad \sigma_c^2 = \frac1m \sum_i (x_{ic} - \mu_c)^2

    Args:
        input: ``(N, C, *)``, any float dtype, any strides.
        mask: bool ``(N, *)``, True = real; None: everything is real.

    Returns:
        ``mean (C,)`` and ``var (C,)`` in float32 (float64 when input is), ``count`` int64 ``()``.
        All zero when nothing is real.

    Numerics: two passes; the mean refined once by the mean of the differences, the variance freed
        from the mean's rounding (Chan, Golub & LeVeque 1983, corrected two-pass); var ≥ 0.

    Source: Ioffe & Szegedy 2015, Alg. 1 (arXiv:1502.03167).

    Example:
        >>> batch_norm_stats(torch.tensor([[1.0], [3.0]]))
        (tensor([2.]), tensor([1.]), tensor(2))
    """
    x = select_real(input.to(accumulation_dtype(input.dtype)), mask)
    count = channel_count(input, mask)
    divisor = count.clamp(min=1).to(x.dtype)

    rough = channel_sum(x) / divisor
    mean = rough + channel_sum(select_real(x - per_channel(rough, x), mask)) / divisor
    centred = select_real(x - per_channel(mean, x), mask)
    # The mean's rounding to its dtype moves every difference by the same small amount.
    shift = channel_sum(centred) / divisor
    var = (channel_sum(centred * centred) / divisor - shift * shift).clamp(min=0)

    return mean, var, count


def pre_activation(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """``(x - mean) * invstd * weight + bias + residual`` in the accumulation dtype."""
    dtype = accumulation_dtype(input.dtype)
    x = select_real(input.to(dtype), mask)

    pre = (x - per_channel(mean, x)) * per_channel(invstd, x)
    if weight is not None:
        pre = pre * per_channel(weight.to(dtype), x)
    if bias is not None:
        pre = pre + per_channel(bias.to(dtype), x)
    if residual is not None:
        pre = pre + select_real(residual.to(dtype), mask)

    return pre


def batch_norm_apply(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    activation: int,
    slope: float,
) -> Tensor:
    r"""``y = act((x - mean) * invstd * weight + bias + residual)``, 0 where padded.

    Args:
        input: ``(N, C, *)``.
        mean: ``(C,)``, accumulation dtype.
        invstd: ``(C,)``, accumulation dtype.
        weight: ``(C,)``, any float dtype; None: 1.
        bias: ``(C,)``, any float dtype; None: 0.
        residual: as input; None: 0.
        mask: bool ``(N, *)``; None: everything is real.
        activation: code of ``Activation``.
        slope: of leaky_relu, or alpha of elu.

    Returns:
        Shape and dtype of input.
    """
    pre = pre_activation(input, mean, invstd, weight, bias, residual, mask)

    return select_real(activate(pre, activation, slope), mask).to(input.dtype)


def batch_norm_train(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Measure and apply in one: normalise by the batch's own statistics.

    Returns:
        ``output`` as input; ``mean``, ``var`` (biased) and ``invstd`` ``(C,)``; ``count`` ``()``.

    Source: Ioffe & Szegedy 2015, Alg. 1 (arXiv:1502.03167).
    """
    mean, var, count = batch_norm_stats(input, mask)
    invstd = (var + eps).rsqrt()
    output = batch_norm_apply(input, mean, invstd, weight, bias, residual, mask, activation, slope)

    return output, mean, var, invstd, count


def batch_norm_eval(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    eps: float,
    activation: int,
    slope: float,
) -> Tensor:
    """Normalise by given statistics: those of memory, or another batch's.

    Source: Ioffe & Szegedy 2015, Alg. 2 (arXiv:1502.03167).
    """
    dtype = accumulation_dtype(input.dtype)
    mean = running_mean.to(dtype)
    invstd = (running_var.to(dtype) + eps).rsqrt()

    return batch_norm_apply(input, mean, invstd, weight, bias, residual, mask, activation, slope)
