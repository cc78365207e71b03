"""Batch norm with statistics of each time step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..._errors import ShapeError, explain
from ..._types import ActivationName
from ...ops import (
    broadcast_mask,
    check_device,
    check_input,
    check_residual,
    choose_lane,
)
from .._batchnorm import _BatchNorm
from .._policy import OnSingle
from .._sequence import Lengths, mask_of_lengths, packed_rows, repacked
from ._memory import _StepMemory, check_max_length
from ._pass import Pass

__all__ = ["RecurrentBatchNorm"]


class RecurrentBatchNorm(_StepMemory, _BatchNorm):
    r"""Batch normalization inside a recurrent network: each time step has its own statistics.

    .. math:: y_t = \mathrm{act}\Bigl(\frac{x_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}}\,\gamma
        + \beta + r_t\Bigr)

    γ and β are shared by all steps. Memory holds the first ``max_length`` steps; in evaluation the
    last step that was ever trained serves all later ones. In training a later step is normalised
    by its own batch and leaves no trace.

    Args:
        num_features: C.
        max_length: T, the steps that are remembered: the longest training sequence, or fewer, since
            the statistics settle after some steps.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics (Keras's and Flax's
            weigh the old); None: the average of all batches, of each step by itself.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        batch_first: whether padded sequences are ``(N, L, C)``, not ``(L, N, C)``.
        bias: whether there is β, if ``affine``.
        weight_init: what γ starts with; small, so that gates do not saturate.
        activation: one of ``ActivationName``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel at a step (often the end of the longest
            sequence): ``"running"``, ``"error"`` or ``"skip"``. None: ``"running"``, or
            ``"error"`` without running statistics.

    Attributes:
        running_mean: ``(T, C)``, in units of x.
        running_var: ``(T, C)``, in units of x², unbiased as torch's.
        num_batches_tracked: int64 ``(T,)``: batches with two or more values at that step.
        num_nonfinite: int64 ``(T, C)``: batches kept out because mean or variance was not finite.

    Source: Cooijmans et al. 2017, Recurrent Batch Normalization (arXiv:1603.09025).

    Example:
        >>> layer = RecurrentBatchNorm(8, max_length=20)
        >>> layer(torch.randn(4, 8), step=3).shape
        torch.Size([4, 8])
        >>> layer(torch.randn(4, 30, 8), lengths=[30, 7, 12, 2]).shape
        torch.Size([4, 30, 8])
    """

    weight_init: float = 0.1
    batch_first: bool = True

    _ranks = (2, 3)

    def __init__(
        self,
        num_features: int,
        max_length: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        batch_first: bool = True,
        bias: bool = True,
        weight_init: float = 0.1,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle | None = None,
    ) -> None:
        check_max_length(type(self).__name__, max_length)
        if on_single is None:
            on_single = "running" if track_running_stats else "error"
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.batch_first = batch_first
        self.weight_init = float(weight_init)
        self.reset_parameters()
        self._remember_steps(max_length)

    def reset_parameters(self) -> None:
        """Forget all batches; γ = ``weight_init``, β = 0."""
        super().reset_parameters()
        if self.affine:
            nn.init.constant_(self.weight, self.weight_init)

    def forward(  # type: ignore[override]  # weight and bias belong to all steps
        self,
        input: Any,
        residual: Any = None,
        mask: Tensor | None = None,
        *,
        step: int | None = None,
        lengths: Lengths | None = None,
    ) -> Any:
        """Normalise one step, or each step of whole sequences; padding comes out as 0.

        Args:
            input: ``(N, C)``, with ``step``; ``(N, L, C)``, or ``(L, N, C)`` if not
                ``batch_first``; or a ``PackedSequence``.
            residual: as ``input``.
            mask: bool, True = real; ``input``'s shape without channels, or ``(N,)``.
            step: of ``(N, C)``, or of the first of several; the first of all is 0.
            lengths: integers ``(N,)``: the real positions of each sequence, in place of a mask.

        Returns:
            Shape, dtype and kind of ``input``.

        Raises:
            ValueError: a wrong shape, no step, a mask beside lengths.
            TypeError: a wrong dtype.
            RuntimeError: a wrong device.
        """
        who = type(self).__name__
        first = self._first_step(input, step)
        if isinstance(input, PackedSequence):
            rows = packed_rows(who, input, residual, mask, lengths)
            self._check_rows(input.data, rows)
            sizes = input.batch_sizes.tolist()
            return repacked(input, torch.cat(self._walk(first, input.data, sizes, rows)))

        self._check_rows(input, residual)
        if input.dim() == 2:
            if lengths is not None:
                rule, got = "lengths are for whole sequences", f"shape {tuple(input.shape)}"
                raise ValueError(explain(who, rule, got, "Pass a mask (N,) for one step"))
            real = None if mask is None else broadcast_mask(who, mask, input)
            return self._walk(first, input, [len(input)], residual, real)[0]

        real = self._real_rows(input, mask, lengths)
        flat = [
            None if t is None else (t.transpose(0, 1) if self.batch_first else t).flatten(0, 1)
            for t in (input, residual)
        ]
        time, batch = (1, 0) if self.batch_first else (0, 1)
        sizes = [input.shape[batch]] * input.shape[time]
        if not sizes:
            return torch.empty_like(input)
        return torch.stack(self._walk(first, flat[0], sizes, flat[1], real), time)

    def _walk(
        self, first: int, rows: Any, sizes: list[int], *extras: Tensor | None
    ) -> list[Tensor]:
        """Normalise step after step."""
        steps = Pass(self, choose_lane(rows), first, len(sizes))
        outputs = steps.over(rows, sizes, *extras)
        steps.finish()

        return outputs

    def _first_step(self, input: Any, step: int | None) -> int:
        if step is None and isinstance(input, Tensor) and input.dim() == 2:
            rule, got = "one time step needs its number", f"shape {tuple(input.shape)}, step=None"
            raise ValueError(explain(type(self).__name__, rule, got, "Pass step=t, from 0 on"))
        if step is not None and step < 0:
            rule = "step must not be negative"
            raise ValueError(explain(type(self).__name__, rule, f"step={step}", "Count from 0"))

        return 0 if step is None else step

    def _check_rows(self, input: Tensor, residual: Tensor | None) -> None:
        """Channels last, on our device; steps are checked against one another by their shapes."""
        who = type(self).__name__
        check_input(who, input)
        if input.dim() not in self._ranks or input.shape[-1] != self.num_features:
            raise ShapeError(
                explain(
                    who,
                    f"expected (N, {self.num_features}) or a batch of sequences of such rows",
                    f"input of shape {tuple(input.shape)}",
                    "Move the channels to the last dimension",
                )
            )
        anchor = self.weight if self.running_mean is None else self.running_mean
        if anchor is not None:
            check_device(who, "the layer", anchor, input)
        if residual is not None:
            check_residual(who, residual, input)

    def _real_rows(
        self, input: Tensor, mask: Tensor | None, lengths: Lengths | None
    ) -> Tensor | None:
        """Bool ``(L·N,)``: which rows are real, step after step."""
        who = type(self).__name__
        if mask is None and lengths is None:
            return None
        if mask is not None and lengths is not None:
            raise ShapeError(explain(who, "a mask or lengths, not both", "both", "Pass one"))

        batch, steps = input.shape[:2] if self.batch_first else input.shape[1::-1]
        if lengths is not None:
            real = mask_of_lengths(who, lengths, batch, steps, input.device)
        else:
            assert mask is not None
            channels_second = input.transpose(1, 2) if self.batch_first else input.permute(1, 2, 0)
            turned = mask.t() if mask.dim() == 2 and not self.batch_first else mask
            real = broadcast_mask(who, turned, channels_second)

        return real.t().flatten()

    def extra_repr(self) -> str:
        """The text of the plain layer, and the steps that are remembered."""
        return f"{super().extra_repr()}, max_length={self.max_length}"
