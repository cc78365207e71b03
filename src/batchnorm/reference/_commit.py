"""What a batch leaves in memory."""

import torch
from torch import Tensor

__all__ = ["batch_norm_commit"]


def batch_norm_commit(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    num_nonfinite: Tensor,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    momentum: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Running statistics and counters after a batch.

    .. math:: r \leftarrow (1 - m)\,r + m\,\mathrm{new}

    with the unbiased variance, :math:`\sigma^2 \tfrac{n}{n-1}`, as in torch.

    Args:
        running_mean: ``(C,)``, float.
        running_var: ``(C,)``, float.
        num_batches_tracked: int64 ``()``.
        num_nonfinite: int64 ``(C,)``, batches that a channel refused.
        mean: ``(C,)``.
        var: ``(C,)``, biased.
        count: int64, ``()`` or ``(C,)``.
        momentum: torch's weight of the new; None: the average of all batches that entered.

    Returns:
        The four buffers, new. A channel keeps its statistics when the batch has fewer than two
        values for it, or a mean or variance that is not finite (then ``num_nonfinite`` grows).
        ``num_batches_tracked`` grows when any channel has a value.
    """
    seen = count > 0
    finite = mean.isfinite() & var.isfinite()
    new_tracked = num_batches_tracked + seen.any()
    new_nonfinite = num_nonfinite + (seen & ~finite)

    dtype = running_mean.dtype
    share: float | Tensor
    if momentum is None:
        share = 1.0 / (new_tracked - new_nonfinite).clamp(min=1).to(dtype)
    else:
        share = momentum
    size = count.to(var.dtype)
    var_unbiased = var * (size / (size - 1).clamp(min=1))

    enters = finite & (count > 1)
    new_mean = (1 - share) * running_mean + share * mean.to(dtype)
    new_var = (1 - share) * running_var + share * var_unbiased.to(dtype)

    return (
        torch.where(enters, new_mean, running_mean),
        torch.where(enters, new_var, running_var),
        new_tracked,
        new_nonfinite,
    )
