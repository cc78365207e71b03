"""``torch.nn.BatchNorm1d/2d/3d`` on our operators, with an activation, a residual and a mask."""

from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor, nn

from .._errors import ShapeError, explain
from .._types import Activation, ActivationName
from ..ops import (
    FLOAT_DTYPES,
    Lane,
    broadcast_mask,
    check_affine,
    check_channels,
    check_device,
    check_inplace,
    check_input,
    check_number,
    check_residual,
    check_slope,
    choose_lane,
    normalise_by,
    normalise_by_batch,
    wants_grad,
)
from ._memory import Proposal, _Memory
from ._policy import OnSingle, check_on_single, refuse_single

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]

_CODES: dict[str, int] = {activation.label: int(activation) for activation in Activation}


class _BatchNorm(_Memory):
    r"""Batch normalization, with the activation, the residual and the mask fused in.

    .. math:: y = \mathrm{act}\Bigl(\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma + \beta
        + r\Bigr)

    A drop-in for torch's layer: the same arguments, defaults, buffers and ``state_dict``.

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics (Keras's and Flax's
            weigh the old); None: the average of all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        bias: whether there is β, if ``affine``.
        activation: ``"relu"``, ``"relu6"``, ``"leaky_relu"``, ``"silu"``, ``"gelu"``,
            ``"gelu_tanh"``, ``"hardswish"``, ``"elu"``, ``"sigmoid"``, ``"tanh"`` or
            ``"identity"``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel: ``"error"``, ``"running"`` (normalise by
            the running statistics) or ``"skip"`` (normalise by the batch, which gives the bias).
            None of them commits anything.
        inplace: permit to overwrite the input, which must not be used any more. In training only
            for ``"identity"`` and ``"leaky_relu"`` with slope > 0, without residual.

    Attributes:
        num_nonfinite: int64 ``(C,)``: batches that were kept out of a channel's running statistics
            because its mean or variance was not finite. Not part of the ``state_dict``.

    Differs from torch: running statistics stay float32 in ``.half()`` and ``.bfloat16()``; a batch
        that is not finite does not enter them; a recomputation by activation checkpointing does
        not count as a batch.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167).

    Example:
        >>> layer = BatchNorm2d(64, activation="relu")
        >>> layer(torch.randn(8, 64, 4, 4), residual=torch.randn(8, 64, 4, 4)).shape
        torch.Size([8, 64, 4, 4])
    """

    activation: ActivationName = "identity"
    slope: float = 0.0
    on_single: OnSingle = "error"
    inplace: bool = False
    # What freeze() holds: "stats", "weight", "bias".
    frozen: tuple[str, ...] = ()

    _ranks: ClassVar[tuple[int, ...]] = ()
    # Whether a call may bring a weight and bias.
    _takes_affine: ClassVar[bool] = False

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
        inplace: bool = False,
    ) -> None:
        who = type(self).__name__
        # 0 is torch's to refuse, in training: an evaluated network may do without.
        if eps != 0:
            check_number(who, "eps", eps, zero=False)
        if momentum is not None:
            check_number(who, "momentum", momentum, zero=True)
        check_on_single(who, on_single, track_running_stats)
        slope = check_slope(who, Activation.parse(activation, who), slope)

        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.activation = activation
        self.slope = slope
        self.on_single = on_single
        self.inplace = inplace
        self._init_memory(device)

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Normalise, scale, shift, add the residual, activate.

        Args:
            input: ``(N, C, *)``, float16, bfloat16, float32 or float64, any strides.
            residual: shape and dtype of ``input``.
            mask: bool, True = real; ``(N,)`` or ``(N, *)``. Padded positions enter no statistic,
                come out as 0 and receive no gradient.
            weight: γ of this call, ``(C,)`` or one row per sample ``(N, C)``, any float dtype; for
                a layer without one of its own (``affine=False``).
            bias: β, likewise.

        Returns:
            Shape, dtype and memory layout of ``input``.

        Raises:
            ValueError: a wrong shape, or one value per channel in training (see ``on_single``).
            TypeError: a wrong dtype.
            RuntimeError: a wrong device.
        """
        shape = input.shape
        if (
            len(shape) not in self._ranks
            or shape[1] != self.num_features
            or input.dtype not in FLOAT_DTYPES
        ):
            self._refuse(input)
        own_weight, own_bias, mean, var = self._tensors()
        if weight is None and bias is None:
            weight, bias = own_weight, own_bias
        else:
            self._check_given(input, weight, bias)
        anchor = weight if mean is None else mean
        if anchor is not None and anchor.device != input.device:
            check_device(type(self).__name__, "the layer", anchor, input)
        lane = choose_lane(input)
        if residual is not None or mask is not None or self.inplace:
            mask = self._check_extras(lane, input, weight, bias, residual, mask)

        args = (
            *(input, weight, bias, residual, mask),
            *(self.eps, _CODES[self.activation], self.slope, self.inplace),
        )
        if not self.training and mean is not None and var is not None:
            return self._normalise_by(lane, mean, var, *args)

        if self._is_single(lane, input, mask):
            return self._by_single(lane, *args)

        if not self.eps > 0:
            check_number(type(self).__name__, "eps", self.eps, zero=False)
        output, proposal = self._normalise(lane, *args)
        if self.training and self.track_running_stats and mean is not None:
            self._propose(lane, proposal, empty=input.numel() == 0 != shape[1])

        return output

    def _normalise(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        """Normalise in training and say what the batch proposes; a variant changes this."""
        return normalise_by_batch(lane, *args)

    def _normalise_by(self, lane: Lane, mean: Tensor, var: Tensor, *args: Any) -> Tensor:
        """Normalise by memory; a variant that remembers something else changes this."""
        return normalise_by(lane, mean, var, *args)

    def _is_single(self, lane: Lane, input: Tensor, mask: Tensor | None) -> bool:
        """Whether a channel has one value; a mask is not asked where values cannot be read."""
        if input.numel() == input.shape[1] != 0:
            return True

        # On a GPU the answer would wait for the device.
        if mask is None or mask.is_cuda:
            return False

        return lane is Lane.EAGER and int(mask.sum()) == 1

    def _tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Weight, bias and running statistics."""
        # By nn.Module.__getattr__ each would cost as much as a small kernel.
        try:
            parameters, buffers = self._parameters, self._buffers
            return (
                parameters["weight"],
                parameters["bias"],
                buffers["running_mean"],
                buffers["running_var"],
            )
        except KeyError:  # pruning and parametrizations move them
            return self.weight, self.bias, self.running_mean, self.running_var

    def _by_single(self, lane: Lane, input: Tensor, *args: Any) -> Tensor:
        """Follow ``on_single``; nothing is committed."""
        mean, var = self.running_mean, self.running_var
        if self.on_single == "skip":
            return normalise_by_batch(lane, input, *args)[0]
        if self.on_single == "running" and mean is not None and var is not None:
            return self._normalise_by(lane, mean, var, input, *args)

        who = type(self).__name__
        return refuse_single(who, input, masked=input.numel() != self.num_features)

    def _refuse(self, input: Tensor) -> NoReturn:
        """Say what is wrong with the input."""
        who = type(self).__name__
        self._check_input_dim(input)
        check_input(who, input)
        check_channels(who, input, self.num_features)
        raise AssertionError("nothing is wrong with the input")

    def _check_given(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
        """Weight and bias of a call fit the input, and there are no others."""
        who = type(self).__name__
        if self.affine or not self._takes_affine:
            raise ValueError(
                explain(
                    who,
                    "weight and bias of a call are for layers that can do without their own",
                    f"affine={self.affine}",
                    "Use BatchNorm1d, 2d or 3d with affine=False",
                )
            )
        check_affine(who, "weight", weight, input)
        check_affine(who, "bias", bias, input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ShapeError(
                explain(
                    type(self).__name__,
                    f"expected {expected} input (got {input.dim()}D input)",
                    f"shape {tuple(input.shape)}",
                    "Use the layer of that rank, or .unsqueeze() and .flatten()",
                )
            )

    def _check_extras(
        self,
        lane: Lane,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor | None:
        """Check residual, mask and permission to overwrite; return the mask as the kernels want."""
        who = type(self).__name__
        if residual is not None:
            check_residual(who, residual, input)
        if self.inplace and lane is Lane.EAGER:
            needs_grad = wants_grad(input, weight, bias, residual)
            code = _CODES[self.activation]
            check_inplace(who, input, weight, bias, residual, code, self.slope, needs_grad)

        return None if mask is None else broadcast_mask(who, mask, input)

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode; with frozen statistics eval mode whatever is asked."""
        return super().train(mode and "stats" not in self.frozen)

    def extra_repr(self) -> str:
        """The text of torch's layer, and what differs from it."""
        parts: list[str] = [super().extra_repr()]  # type: ignore[no-untyped-call]
        if self.activation != "identity":
            parts.append(f"activation={self.activation!r}")
        if Activation.parse(self.activation).takes_slope:
            parts.append(f"slope={self.slope}")
        if self.on_single != "error":
            parts.append(f"on_single={self.on_single!r}")
        if self.inplace:
            parts.append("inplace=True")
        if not self._updates:
            parts.append("updates=False")
        if self.frozen:
            parts.append(f"frozen={'+'.join(self.frozen)}")
        lost = self.num_nonfinite
        if lost is not None and not lost.is_meta and bool(lost.any()):
            channels = int(lost.count_nonzero())
            parts.append(f"num_nonfinite={int(lost.max())} in {channels} channels")

        return ", ".join(parts)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch normalization of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)
    _takes_affine = True


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalization of ``(N, C, H, W)``."""

    _ranks = (4,)
    _takes_affine = True


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """Batch normalization of ``(N, C, D, H, W)``."""

    _ranks = (5,)
    _takes_affine = True


for _layer in (BatchNorm1d, BatchNorm2d, BatchNorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_BatchNorm.__doc__}"
