"""Statistics of each example of a batch: the draws that are independent."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import explain
from .._types import BatchStats
from ..ops import broadcast_mask
from ._population import Population

__all__ = ["Moments", "by_sample", "check_examples", "moments_by_sample"]


class Moments(NamedTuple):
    """Of d channels together; float64.

    Args:
        mean: ``(d,)``.
        covariance: ``(d, d)``, biased.
        unbiased: ``(d, d)``.
        mean_error: ``(d,)``, standard error by the examples.
        covariance_error: ``(d, d)``.
    """

    mean: Tensor
    covariance: Tensor
    unbiased: Tensor
    mean_error: Tensor
    covariance_error: Tensor


def by_sample(input: Tensor, mask: Tensor | None) -> Population:
    """The population of a batch ``(N, C, *)`` with its examples as the independent draws.

    Raises:
        ValueError: fewer than two examples.
    """
    check_examples(input)
    x, real = _columns(input, mask)
    count = real.sum(-1)
    size = count.clamp(min=1)
    mean = x.sum(-1) / size
    var = torch.where(real, x - mean[..., None], 0.0).square().sum(-1) / size

    return Population.of_draws(BatchStats(count.expand_as(mean), mean, var))


def moments_by_sample(calls: list[tuple[Tensor, Tensor | None]]) -> Moments:
    r"""Mean and covariance of a few channels, with the examples as the independent draws.

    .. math:: \mathrm{se}_\Sigma^2 = \tfrac{B}{B-1} \sum_b \tfrac{n_b^2}{n^2}
        (q_b - \Sigma)^2, \qquad q_b = \tfrac{1}{n_b} \sum_{x \in b} (x - \mu)(x - \mu)^T

    Examples that are not finite are left out.

    Args:
        calls: input ``(N, d, *)`` and mask of each call of the layer.
    """
    columns = [_clean(*_columns(input, mask)) for input, mask in calls]
    counts = torch.cat([real.sum(-1).double() for _, real in columns])
    total = counts.sum().clamp(min=1)
    share, examples = counts / total, (counts > 0).sum()
    each = torch.cat([x.sum(-1) for x, _ in columns]) / counts.clamp(min=1)
    mean = (share * each).sum(0)
    squares = []
    for x, real in columns:
        centred = torch.where(real, x - mean[:, None], 0.0)
        squares.append(centred @ centred.mT / real.sum(-1).clamp(min=1)[..., None])
    second, weight = torch.cat(squares), share[..., None]
    covariance = (weight * second).sum(0)

    scale = examples / (examples - 1)
    mean_error = (scale * (share * (each - mean)).square().sum(0)).sqrt()
    error = (scale * (weight * (second - covariance)).square().sum(0)).sqrt()

    return Moments(mean, covariance, covariance * total / (total - 1), mean_error, error)


def check_examples(input: Tensor) -> None:
    """There are two examples.

    Raises:
        ValueError: there are fewer.
    """
    if len(input) < 2:
        raise ValueError(
            explain(
                "train_eval_gap",
                "a batch needs two examples for its errors to be known",
                f"input {tuple(input.shape)}",
                "Pass a larger batch",
            )
        )


def _columns(input: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """``(N, C, positions)`` with 0 where nothing is real, and ``(N, 1, positions)``: what is."""
    x = input.detach().double().flatten(2) if input.ndim > 2 else input.detach().double()[..., None]
    real = torch.ones_like(x[:, :1], dtype=torch.bool)
    if mask is not None:
        real = broadcast_mask("train_eval_gap", mask, input).reshape(len(x), 1, -1)

    return torch.where(real, x, 0.0), real


def _clean(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Without examples that are not finite."""
    real = real & x.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)

    return torch.where(real, x, 0.0), real
