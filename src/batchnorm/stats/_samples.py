"""Statistics of each example of a batch: the draws that are independent."""

import torch
from torch import Tensor

from .._errors import explain
from .._types import BatchStats
from ..ops import broadcast_mask
from ._population import Population

__all__ = ["by_sample"]


def by_sample(input: Tensor, mask: Tensor | None) -> Population:
    """The population of a batch ``(N, C, *)`` with its examples as the independent draws.

    Raises:
        ValueError: fewer than two examples.
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

    x = input.detach().double().flatten(2) if input.ndim > 2 else input.detach().double()[..., None]
    real = torch.ones_like(x[:, :1], dtype=torch.bool)
    if mask is not None:
        real = broadcast_mask("train_eval_gap", mask, input).reshape(len(x), 1, -1)
    x = torch.where(real, x, 0.0)
    count = real.sum(-1)
    size = count.clamp(min=1)
    mean = x.sum(-1) / size
    var = torch.where(real, x - mean[..., None], 0.0).square().sum(-1) / size

    return Population.of_draws(BatchStats(count.expand_as(mean), mean, var))
