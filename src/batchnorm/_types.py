"""What travels between the floors: activations and the statistics of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree

from ._errors import explain

__all__ = ["Activation", "ActivationName", "BatchStats"]

ActivationName = Literal[
    "identity",
    "relu",
    "relu6",
    "leaky_relu",
    "silu",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "elu",
    "sigmoid",
    "tanh",
]


class Activation(IntEnum):
    """The activations that can be fused; the number is the code that the kernels know."""

    IDENTITY = 0
    RELU = 1
    RELU6 = 2
    LEAKY_RELU = 3
    SILU = 4
    GELU = 5
    GELU_TANH = 6
    HARDSWISH = 7
    ELU = 8
    SIGMOID = 9
    TANH = 10

    @classmethod
    def parse(cls, name: str | Activation, who: str = "Activation") -> Activation:
        """The activation called ``name``.

        Raises:
            ValueError: there is no such activation.
        """
        if isinstance(name, Activation):
            return name

        try:
            return cls[name.upper()]
        except (KeyError, AttributeError):
            known = ", ".join(activation.label for activation in cls)
            raise ValueError(
                explain(who, "unknown activation", f"activation={name!r}", f"Use one of {known}")
            ) from None

    @property
    def label(self) -> str:
        """The public name: ``"leaky_relu"``."""
        return self.name.lower()

    @property
    def default_slope(self) -> float:
        """0.01, the slope of leaky_relu; 1.0, the alpha of elu; 0.0 where there is none."""
        return {Activation.LEAKY_RELU: 0.01, Activation.ELU: 1.0}.get(self, 0.0)

    @property
    def takes_slope(self) -> bool:
        """Whether the activation has a ``slope``."""
        return self in (Activation.LEAKY_RELU, Activation.ELU)


@dataclass(frozen=True)
class BatchStats:
    r"""Count, mean and biased variance of each channel: what a batch proposes.

    Args:
        count: int64, ``()`` or ``(C,)``: the values per channel.
        mean: ``(C,)``, in units of x.
        var: ``(C,)``, in units of x², biased (divided by ``count``).

    Merging is associative up to rounding, and a channel with count 0 is neutral, so the same
    function serves micro-batches, ghost groups, ranks and whole data sets.

    Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm".

    Example:
        >>> one = BatchStats(torch.tensor(1), torch.tensor([1.0]), torch.tensor([0.0]))
        >>> two = BatchStats(torch.tensor(1), torch.tensor([3.0]), torch.tensor([0.0]))
        >>> one.merge(two).var
        tensor([1.])
    """

    count: Tensor
    mean: Tensor
    var: Tensor

    def merge(self, other: BatchStats) -> BatchStats:
        r"""Statistics of both batches together.

        .. math:: \mu = \mu_a + \delta \tfrac{n_b}{n} \qquad
            \sigma^2 = \tfrac{n_a \sigma_a^2 + n_b \sigma_b^2}{n} + \delta^2 \tfrac{n_a n_b}{n^2}
        """
        count = self.count + other.count
        dtype = self.mean.dtype
        share = other.count.to(dtype) / count.clamp(min=1).to(dtype)
        delta = other.mean - self.mean
        mean = self.mean + delta * share
        var = self.var + (other.var - self.var) * share + delta * delta * (share * (1 - share))

        # Select, so that a channel with nothing in it is neutral whatever its values are.
        left, right = other.count == 0, self.count == 0
        mean = torch.where(left, self.mean, torch.where(right, other.mean, mean))
        var = torch.where(left, self.var, torch.where(right, other.var, var.clamp(min=0)))

        return BatchStats(count, mean, var)

    @staticmethod
    def merge_all(stats: Sequence[BatchStats]) -> BatchStats:
        """Statistics of all batches together.

        Raises:
            ValueError: the list is empty.
        """
        if not stats:
            raise ValueError(
                explain("BatchStats.merge_all", "at least one is needed", "none", "Pass some")
            )

        return reduce(BatchStats.merge, stats)

    def invstd(self, eps: float) -> Tensor:
        """``1 / sqrt(var + eps)``, ``(C,)``."""
        return (self.var + eps).rsqrt()

    @property
    def var_unbiased(self) -> Tensor:
        """``var * count / (count - 1)``, ``(C,)``; NaN where count is 1, as in torch."""
        count = self.count.to(self.var.dtype)

        return self.var * (count / (count - 1))

    @property
    def is_finite(self) -> Tensor:
        """Bool ``(C,)``: mean and variance are both finite."""
        return self.mean.isfinite() & self.var.isfinite()

    def finite(self) -> BatchStats:
        """The same with count 0 (and mean and variance 0) in every channel that is not finite."""
        ok = self.is_finite
        zero = self.mean.new_zeros(())

        return BatchStats(
            torch.where(ok, self.count, 0),
            torch.where(ok, self.mean, zero),
            torch.where(ok, self.var, zero),
        )

    def detach(self) -> BatchStats:
        """The same, outside every autograd graph."""
        return BatchStats(self.count.detach(), self.mean.detach(), self.var.detach())


def _flatten(stats: BatchStats) -> tuple[list[Tensor], None]:
    return [stats.count, stats.mean, stats.var], None


def _flatten_with_keys(stats: BatchStats) -> tuple[list[tuple[Any, Tensor]], None]:
    names = ("count", "mean", "var")
    return [(_pytree.GetAttrKey(name), getattr(stats, name)) for name in names], None


def _unflatten(values: Any, context: None) -> BatchStats:
    return BatchStats(*values)


# vmap, torch.func and torch.export look into a BatchStats as they look into a tuple.
_pytree.register_pytree_node(
    BatchStats,
    _flatten,
    _unflatten,
    serialized_type_name="batchnorm.BatchStats",
    flatten_with_keys_fn=_flatten_with_keys,
)
