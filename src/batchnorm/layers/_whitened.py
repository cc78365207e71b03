"""Batch norm that also decorrelates the channels of a group: whitening."""

from typing import Any

import torch
from torch import Tensor, nn

from .._types import ActivationName
from ..ops import (
    Lane,
    Whitening,
    WhiteningMethod,
    commit_covariance,
    normalise_by_whitened_batch,
    normalise_by_whitening,
)
from ._batchnorm import _BatchNorm
from ._covariance import CovarianceStats
from ._memory import Proposal
from ._policy import OnSingle
from ._whitening_options import check_group_size, check_method

__all__ = ["WhitenedBatchNorm1d", "WhitenedBatchNorm2d", "WhitenedBatchNorm3d"]


class _WhitenedBatchNorm(_BatchNorm):
    r"""Batch normalization by the whole covariance of a group of channels.

    .. math:: y = \mathrm{act}\bigl((\Sigma + \epsilon I)^{-1/2} (x - \mu)\,\gamma + \beta
        + r\bigr)

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variances.
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel: ``"error"``, ``"running"`` or ``"skip"``.
        method: ``"zca"``, exact, by eigenvectors; ``"newton"``, iterated products, which amplify
            directions of small variance less.
        iterations: of Newton.
        group_size: d, channels that are whitened together; a divisor of C. 1 is batch norm. None:
            C up to 64, above that the largest divisor of C up to 64.

    Attributes:
        running_covariance: ``(C/d, d, d)``, committed, merged and skipped as ``running_var``, its
            diagonal.
        running_whitening: ``(C/d, d, d)``, the inverse root of ``running_covariance``, which eval
            mode multiplies by.

    A group in which anything is not finite comes out as NaN and keeps its statistics.

    Costs: ``O(d)`` operations per number, besides an eigendecomposition or products of ``d × d``
        matrices, twice per step. Keeps for backward the centred input, with an activation also the
        whitened one.

    Source: Huang et al. 2018 (arXiv:1804.08450); Huang et al. 2019 (arXiv:1904.03441).

    Example:
        >>> layer = WhitenedBatchNorm1d(4, affine=False)
        >>> y = layer(torch.randn(100, 2) @ torch.randn(2, 4) + 0.1 * torch.randn(100, 4))
        >>> torch.allclose(y.T @ y / 100, torch.eye(4), atol=0.01)
        True
    """

    running_covariance: Tensor | None
    running_whitening: Tensor | None

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
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
        method: WhiteningMethod = "zca",
        iterations: int = 5,
        group_size: int | None = None,
    ) -> None:
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        who = type(self).__name__
        check_method(who, method, iterations)
        self.method = method
        self.iterations = iterations
        self.group_size = check_group_size(who, num_features, group_size)

        self.register_buffer("running_covariance", None)
        self.register_buffer("running_whitening", None)
        if self.running_mean is not None:
            shape = num_features // self.group_size, self.group_size, self.group_size
            self.running_covariance = self.running_mean.new_empty(shape)
            self.running_whitening = self.running_mean.new_empty(shape)
            self._forget_covariance()

    @property
    def _how(self) -> Whitening:
        return Whitening(self.method, self.group_size, self.eps, self.iterations)

    def _normalise(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        input, weight, bias, residual, mask, _, activation, slope, _ = args

        return normalise_by_whitened_batch(
            lane, self._how, input, weight, bias, residual, mask, activation, slope
        )

    def _normalise_by(self, lane: Lane, mean: Tensor, var: Tensor, *args: Any) -> Tensor:
        input, weight, bias, residual, mask, _, activation, slope, _ = args
        whitening = self.running_whitening
        assert whitening is not None

        return normalise_by_whitening(
            lane, mean, whitening, input, weight, bias, residual, mask, activation, slope
        )

    def _statistics(self, mean: Tensor, var: Tensor, count: Tensor) -> CovarianceStats:
        return CovarianceStats(count, mean, var)

    def _commit(self, lane: Lane, proposal: Proposal) -> None:
        mean, covariance, count = proposal
        # A group enters as a whole, or not at all.
        ok = CovarianceStats(count, mean, covariance).is_finite
        var = torch.where(ok, covariance.diagonal(dim1=1, dim2=2).reshape(-1), torch.nan)
        groups = ok.view(-1, self.group_size, 1)[:, :1]
        covariance = torch.where(groups, covariance, torch.nan)

        tensors: Any = self._buffers
        tracked, lost, parts = (
            tensors["num_batches_tracked"],
            tensors["num_nonfinite"],
            tensors["_lost_parts"],
        )
        before = (
            torch.zeros_like(count.amax()) if tracked is None else tracked.clone(),
            lost.clone() if parts is None else lost - parts,
        )
        super()._commit(lane, (mean, var, count))
        commit_covariance(
            lane,
            self._how,
            (tensors["running_covariance"], tensors["running_whitening"], *before),
            (covariance, count),
            self.momentum,
        )

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        super().reset_running_stats()
        if self._buffers.get("running_covariance") is not None:
            self._forget_covariance()

    def _forget_covariance(self) -> None:
        covariance, whitening = self.running_covariance, self.running_whitening
        assert covariance is not None
        assert whitening is not None
        identity = torch.eye(self.group_size, dtype=covariance.dtype, device=covariance.device)
        covariance.copy_(identity.expand_as(covariance))
        whitening.copy_(self._how.root(covariance))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """As torch's; a batch norm's checkpoint has variances alone, which are a covariance too."""
        var = state_dict.get(f"{prefix}running_var")
        own = self._buffers.get("running_covariance")
        if var is not None and own is not None and var.numel() == self.num_features:
            name = f"{prefix}running_covariance"
            if name not in state_dict:
                state_dict[name] = var.reshape(own.shape[:2]).diag_embed()
            covariance = state_dict[name].to(own.dtype)
            name = f"{prefix}running_whitening"
            if name not in state_dict and covariance.shape == own.shape:
                state_dict[name] = self._how.root(covariance)

        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """The plain layer's text, and how it whitens."""
        parts = [super().extra_repr(), f"method={self.method!r}", f"group_size={self.group_size}"]
        if self.method == "newton":
            parts.append(f"iterations={self.iterations}")

        return ", ".join(parts)


class WhitenedBatchNorm1d(_WhitenedBatchNorm, nn.BatchNorm1d):
    """Whitening of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)


class WhitenedBatchNorm2d(_WhitenedBatchNorm, nn.BatchNorm2d):
    """Whitening of ``(N, C, H, W)``."""

    _ranks = (4,)


class WhitenedBatchNorm3d(_WhitenedBatchNorm, nn.BatchNorm3d):
    """Whitening of ``(N, C, D, H, W)``."""

    _ranks = (5,)


for _layer in (WhitenedBatchNorm1d, WhitenedBatchNorm2d, WhitenedBatchNorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_WhitenedBatchNorm.__doc__}"
