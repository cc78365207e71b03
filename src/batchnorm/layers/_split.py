"""Batch norm with auxiliary statistics, for samples that the main ones must not see."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .._errors import explain
from .._types import ActivationName
from ._domain import _DomainBatchNorm
from ._policy import OnSingle

__all__ = ["SplitBatchNorm1d", "SplitBatchNorm2d", "SplitBatchNorm3d"]


class _SplitBatchNorm(_DomainBatchNorm):
    r"""Batch normalization with a main and auxiliary statistics, chosen by a context.

    A ``DomainBatchNorm`` whose domains have names. Without a context everything is of the first
    one, so the model behaves as with batch norm. Adversarial training (AdvProp) sends its
    adversarial samples through ``"auxiliary"``.

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            a split's batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        names: of the splits, the main one first.
        shared_affine: one γ and β for all splits; False: one each, as in AdvProp.
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: as in ``DomainBatchNorm2d``.

    Source: Xie et al. 2020, "Adversarial examples improve image recognition" (arXiv:1911.09665).

    Example:
        >>> model = torch.nn.Sequential(SplitBatchNorm1d(3))
        >>> y = model(torch.randn(4, 3))
        >>> with batchnorm.domain(model, "auxiliary"):
        ...     y = model(torch.randn(4, 3) + 1)
        >>> model[0].num_batches_tracked
        tensor([1, 1])
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        names: Sequence[str] = ("main", "auxiliary"),
        shared_affine: bool = False,
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
    ) -> None:
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise ValueError(
                explain(
                    type(self).__name__,
                    "names must be different strings",
                    f"names={names!r}",
                    "Use ('main', 'auxiliary')",
                )
            )
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            num_domains=len(names),
            shared_affine=shared_affine,
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.names = tuple(names)

    def add_domain(self, like: int | None = None) -> int:
        """Not here: splits have names.

        Raises:
            RuntimeError: always.
        """
        who = f"{type(self).__name__}.add_domain"
        cure = "Build the layer with names=, or use DomainBatchNorm1d, 2d or 3d"
        raise RuntimeError(explain(who, "splits are fixed", f"names={self.names}", cure))

    def _named(self, name: str | None) -> int:
        if name is None:
            return 0
        if name not in self.names:
            who, rule = type(self).__name__, f"a split must be one of {self.names}"
            raise ValueError(explain(who, rule, f"{name!r}", "Use one of them"))

        return self.names.index(name)

    def extra_repr(self) -> str:
        """The text of batch norm by domain, and the names."""
        return f"{super().extra_repr()}, names={self.names}"


class SplitBatchNorm1d(_SplitBatchNorm, nn.BatchNorm1d):
    """Split batch normalization of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)


class SplitBatchNorm2d(_SplitBatchNorm, nn.BatchNorm2d):
    """Split batch normalization of ``(N, C, H, W)``."""

    _ranks = (4,)


class SplitBatchNorm3d(_SplitBatchNorm, nn.BatchNorm3d):
    """Split batch normalization of ``(N, C, D, H, W)``."""

    _ranks = (5,)


for _layer in (SplitBatchNorm1d, SplitBatchNorm2d, SplitBatchNorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_SplitBatchNorm.__doc__}"
