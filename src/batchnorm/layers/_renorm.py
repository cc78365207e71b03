"""Batch renormalization: batch norm that is corrected towards the running statistics."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import explain
from .._types import ActivationName
from ..ops import Lane, computed_once, measure, normalise_by_agreed
from ..reference import accumulation_dtype
from ._batchnorm import _BatchNorm
from ._memory import Proposal, _is_recomputation
from ._policy import OnSingle
from ._ramp import Limit, Ramp, check_limit, limit_at

__all__ = ["BatchRenorm1d", "BatchRenorm2d", "BatchRenorm3d"]

# r and d of a batch; None: it was normalised without them.
Correction = tuple[Tensor, Tensor] | None

_PAPER_R = Ramp(1.0, 3.0, begin=5_000, end=40_000)
_PAPER_D = Ramp(0.0, 5.0, begin=5_000, end=25_000)
_REMEMBERED = 32


class _BatchRenorm(_BatchNorm):
    r"""Batch renormalization: a training step sees nearly what inference will compute.

    .. math:: y = \mathrm{act}\Bigl(\Bigl(\frac{x - \mu_B}{\sigma_B}\,r + d\Bigr)\gamma + \beta
        + \mathrm{res}\Bigr) \qquad
        r = \mathrm{clip}_{[1/r_{max},\,r_{max}]}\frac{\sigma_B}{\sigma} \qquad
        d = \mathrm{clip}_{[-d_{max},\,d_{max}]}\frac{\mu_B - \mu}{\sigma}

    μ and σ are the running statistics before this batch; no gradient flows through r and d. In eval
    mode it is batch norm.

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variance; also under the square root of σ = √(running_var + eps).
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: must be True, as r and d come from them.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel: ``"error"``, ``"running"`` or ``"skip"``.
        r_max: bound of r, at least 1; a number or a ``Ramp`` over batches. May be set at any time.
        d_max: bound of d, at least 0; likewise.

    With ``r_max`` 1 and ``d_max`` 0 it is batch norm, bit for bit.

    Attributes:
        renorm_start: int64 ``()``, in the ``state_dict``: ``num_batches_tracked`` when the ramps
            began. A checkpoint without it, of a batch norm, begins them.

    Differs from the paper: memory is of the variance, unbiased, as torch's, not of σ_B.

    Source: Ioffe 2017 (arXiv:1702.03275), Alg. 1 and section 3.

    Example:
        >>> layer = BatchRenorm1d(3, r_max=3.0, d_max=5.0)
        >>> layer(torch.randn(8, 3)).shape, layer.limits()
        (torch.Size([8, 3]), (3.0, 5.0))
    """

    renorm_start: Tensor

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
        r_max: Limit = _PAPER_R,
        d_max: Limit = _PAPER_D,
    ) -> None:
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        who = type(self).__name__
        if not track_running_stats:
            raise ValueError(
                explain(
                    who,
                    "renormalization needs running statistics",
                    "track_running_stats=False",
                    "Use track_running_stats=True, or BatchNorm1d, 2d or 3d",
                )
            )
        check_limit(who, "r_max", r_max, least=1.0)
        check_limit(who, "d_max", d_max, least=0.0)
        self.r_max = r_max
        self.d_max = d_max
        self.register_buffer("renorm_start", torch.zeros((), dtype=torch.int64, device=device))
        self._recent: deque[tuple[Tensor, Correction]] = deque(maxlen=_REMEMBERED)

    def limits(self) -> tuple[float, float]:
        """``r_max`` and ``d_max`` of the next batch.

        Costs: waits for a device other than the CPU.
        """
        batches = float(self._batches()) if self._has_ramps else 0.0

        return limit_at(self.r_max, batches), limit_at(self.d_max, batches)

    @property
    def _has_ramps(self) -> bool:
        return isinstance(self.r_max, Ramp) or isinstance(self.d_max, Ramp)

    def _batches(self) -> Tensor:
        """Batches since the ramps began."""
        tracked = self.num_batches_tracked
        assert tracked is not None

        return tracked - self.renorm_start

    def _normalise(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        if lane is Lane.EAGER and _is_recomputation():
            return self._repeat(lane, *args)

        # Numbers where they cost nothing to read, so that plain batch norm can be told.
        on_cpu = lane is Lane.EAGER and args[0].device.type == "cpu"
        known = on_cpu or not self._has_ramps
        if known:
            limits: tuple[Any, Any] = self.limits()
        else:
            batches = self._batches().to(torch.float32)
            limits = limit_at(self.r_max, batches), limit_at(self.d_max, batches)

        correction: Correction = None
        if known and limits == (1.0, 0.0):
            output, proposal = super()._normalise(lane, *args)
        else:
            proposal = measure(lane, args[0], args[4])
            correction = computed_once(lane, *self._correct(proposal, limits))
            output, proposal = self._normalise_corrected(lane, proposal, correction, *args)
        if lane is Lane.EAGER:
            self._recent.append((proposal[0], correction))

        return output, proposal

    def _correct(self, proposal: Proposal, limits: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        """R and d, constants."""
        mean, var = proposal[0].detach(), proposal[1].detach()
        running_mean, running_var = self.running_mean, self.running_var
        assert running_mean is not None
        assert running_var is not None
        std = (running_var.to(var.dtype) + self.eps).sqrt()
        r_max, d_max = limits

        r = ((var + self.eps).sqrt() / std).clamp(1 / r_max, r_max)
        d = ((mean - running_mean.to(mean.dtype)) / std).clamp(-d_max, d_max)

        return r, d

    def _normalise_corrected(
        self, lane: Lane, proposal: Proposal, correction: tuple[Tensor, Tensor], *args: Any
    ) -> tuple[Tensor, Proposal]:
        """Batch norm whose weight and bias contain r and d."""
        input, weight, bias, residual, mask, eps, activation, slope, _ = args
        mean, var, count = proposal
        r, d = correction
        if weight is not None:
            weight = weight.to(accumulation_dtype(input.dtype))
            r, d = weight * r, weight * d
        if bias is not None:
            d = d + bias.to(d.dtype)

        output = normalise_by_agreed(
            lane,
            mean,
            (var + eps).rsqrt(),
            count,
            *(input, r, d, residual, mask, activation, slope),
        )

        return output, (mean.detach(), var.detach(), count)

    def _repeat(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        """Recomputation by activation checkpointing: memory has moved on, r and d must not.

        Raises:
            RuntimeError: the forward that this repeats is too long ago.
        """
        measured = measure(lane, args[0], args[4])
        for mean, correction in self._recent:
            if correction is not None and torch.equal(mean, measured[0]):
                return self._normalise_corrected(lane, measured, correction, *args)

        output, proposal = super()._normalise(lane, *args)
        for mean, correction in self._recent:
            if correction is None and torch.equal(mean, proposal[0]):
                return output, proposal

        raise RuntimeError(
            explain(
                type(self).__name__,
                f"a forward inside a backward must repeat one of the last {_REMEMBERED} batches",
                f"another batch, input of shape {tuple(args[0].shape)}",
                "Call the layer outside the backward, or run backward after fewer forwards",
            )
        )

    def reset_running_stats(self) -> None:
        """Forget all batches; the ramps begin again."""
        super().reset_running_stats()
        start = self._buffers.get("renorm_start")
        if start is not None:
            start.zero_()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """As torch's; with a batch norm's checkpoint the ramps begin."""
        name = f"{prefix}renorm_start"
        if name not in state_dict:
            own = self.num_batches_tracked
            state_dict[name] = state_dict.get(f"{prefix}num_batches_tracked", own)

        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without the recent corrections: a copy has no backward to come."""
        return {**self.__dict__, "_recent": deque(maxlen=_REMEMBERED)}

    def extra_repr(self) -> str:
        """The plain layer's text, and the limits."""
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


class BatchRenorm1d(_BatchRenorm, nn.BatchNorm1d):
    """Batch renormalization of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)


class BatchRenorm2d(_BatchRenorm, nn.BatchNorm2d):
    """Batch renormalization of ``(N, C, H, W)``."""

    _ranks = (4,)


class BatchRenorm3d(_BatchRenorm, nn.BatchNorm3d):
    """Batch renormalization of ``(N, C, D, H, W)``."""

    _ranks = (5,)


for _layer in (BatchRenorm1d, BatchRenorm2d, BatchRenorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_BatchRenorm.__doc__}"
