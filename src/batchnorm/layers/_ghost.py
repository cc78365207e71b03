"""Batch norm by parts of the batch: each ghost batch is normalised by statistics of its own."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import explain
from .._types import ActivationName
from ..ops import Lane, affine_rows, merge_groups, normalise_by_batch, normalise_groups
from ._batchnorm import _BatchNorm
from ._memory import Proposal
from ._policy import OnSingle

__all__ = ["GhostBatchNorm1d", "GhostBatchNorm2d", "GhostBatchNorm3d"]


class _GhostBatchNorm(_BatchNorm):
    r"""Batch normalization of ghost batches: runs of ``ghost_batch_size`` samples.

    In training samples 0 to B - 1 are normalised together, B to 2B - 1 together, and so on. The
    last ghost batch may be smaller. Eval mode is that of batch norm.

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        ghost_batch_size: B, in samples. A batch of at most B samples is normalised as a whole.
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training, when a ghost batch has one value per channel: ``"error"``,
            ``"running"`` (normalise the whole batch by the running statistics) or ``"skip"``
            (that ghost batch gives the bias). None of them commits anything.

    The running statistics are those of batch norm: the ghost batches are merged by their counts and
    the whole batch enters once, with its unbiased variance.

    Costs: one operator call each way, whatever the number of ghost batches.

    Source: Hoffer, Hubara & Soudry 2017 (arXiv:1705.08741), whose running statistics are decayed
        per ghost batch.

    Example:
        >>> layer = GhostBatchNorm1d(3, ghost_batch_size=16, affine=False)
        >>> y = layer(torch.randn(40, 3))  # 16, 16 and 8 samples
        >>> torch.allclose(y[:16].mean(0), torch.zeros(3), atol=1e-6)
        True
    """

    _takes_affine = True

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
        ghost_batch_size: int,
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
    ) -> None:
        _check_size(type(self).__name__, ghost_batch_size)
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.ghost_batch_size = ghost_batch_size

    def _normalise(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        input, weight, bias, residual, mask, eps, activation, slope, _ = args
        if input.shape[0] <= self.ghost_batch_size:
            return normalise_by_batch(lane, *args)

        weight, bias, rows = affine_rows(input, weight, bias)
        output, statistics = normalise_groups(
            *(lane, input, weight, bias, residual, mask),
            *(self._index_of(lane, input), self._groups(input), rows),
            *(eps, activation, slope),
        )

        return output, merge_groups(lane, statistics)

    def _index_of(self, lane: Lane, input: Tensor) -> Tensor:
        size = self.ghost_batch_size
        if lane is Lane.EAGER:  # making it anew costs as much as a small kernel
            return _remembered_index(input.shape[0], size, input.device)

        return self._index(torch.arange(input.shape[0], device=input.device))

    def _index(self, samples: Tensor) -> Tensor:
        """The ghost batch of each sample."""
        return samples.div(self.ghost_batch_size, rounding_mode="floor")

    def _groups(self, input: Tensor) -> int:
        return -(-input.shape[0] // self.ghost_batch_size)

    def _is_single(self, lane: Lane, input: Tensor, mask: Tensor | None) -> bool:
        if input.shape[0] <= self.ghost_batch_size:
            return super()._is_single(lane, input, mask)
        if mask is None or lane is not Lane.EAGER:
            smallest = min(self.ghost_batch_size, 1 + (input.shape[0] - 1) % self.ghost_batch_size)
            return smallest * math.prod(input.shape[2:]) == 1

        real = mask.flatten(1).sum(1) if mask.dim() > 1 else mask.long()
        index = self._index(torch.arange(len(real), device=real.device))
        counts = real.new_zeros(self._groups(input)).index_add(0, index, real)

        return bool((counts == 1).any())

    def _by_single(self, lane: Lane, input: Tensor, *args: Any) -> Tensor:
        if input.shape[0] <= self.ghost_batch_size:
            return super()._by_single(lane, input, *args)
        if self.on_single == "skip":
            return self._normalise(lane, input, *args)[0]
        mean, var = self.running_mean, self.running_var
        if self.on_single == "running" and mean is not None and var is not None:
            return self._normalise_by(lane, mean, var, input, *args)

        raise ValueError(
            explain(
                type(self).__name__,
                "Expected more than 1 value per channel when training, in every ghost batch",
                f"input size {tuple(input.shape)}, ghost_batch_size={self.ghost_batch_size}",
                "Use a ghost_batch_size that leaves no single sample over (drop_last=True in the "
                "loader), on_single='running' to normalise by the running statistics, "
                "on_single='skip' to leave them alone, or .eval()",
            )
        )

    def extra_repr(self) -> str:
        """The text of batch norm, and the size of the ghost batches."""
        return f"{super().extra_repr()}, ghost_batch_size={self.ghost_batch_size}"


@lru_cache(maxsize=64)
def _remembered_index(samples: int, size: int, device: torch.device) -> Tensor:
    """The ghost batch of each sample; nobody writes to it."""
    with torch.inference_mode(False):  # else it could not be saved for a backward
        return torch.arange(samples, device=device).div(size, rounding_mode="floor")


def _check_size(who: str, size: Any) -> None:
    """``size`` is a positive integer.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not positive.
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(
            explain(
                who,
                "ghost_batch_size must be an integer",
                f"ghost_batch_size={size!r}",
                "Pass a number of samples",
            )
        )
    if size < 1:
        raise ValueError(
            explain(
                who,
                "ghost_batch_size must be positive",
                f"ghost_batch_size={size}",
                "Use 1 or more",
            )
        )


class GhostBatchNorm1d(_GhostBatchNorm, nn.BatchNorm1d):
    """Ghost batch normalization of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)


class GhostBatchNorm2d(_GhostBatchNorm, nn.BatchNorm2d):
    """Ghost batch normalization of ``(N, C, H, W)``."""

    _ranks = (4,)


class GhostBatchNorm3d(_GhostBatchNorm, nn.BatchNorm3d):
    """Ghost batch normalization of ``(N, C, D, H, W)``."""

    _ranks = (5,)


for _layer in (GhostBatchNorm1d, GhostBatchNorm2d, GhostBatchNorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_GhostBatchNorm.__doc__}"
