"""Batch norm of sequences: one statistic per channel over all real positions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .._errors import DtypeError, ShapeError, explain
from .._types import ActivationName
from ._batchnorm import _BatchNorm
from ._policy import OnSingle

__all__ = ["SequenceBatchNorm", "mask_of_lengths", "packed_rows", "repacked"]

Lengths = Tensor | Sequence[int]


def mask_of_lengths(who: str, lengths: Lengths, batch: int, steps: int, device: Any) -> Tensor:
    """Bool ``(N, L)``: True before each sequence's end.

    Raises:
        ValueError: not one length per sequence, or one outside 0..L.
        TypeError: lengths are not integers.
    """
    values = torch.as_tensor(lengths)
    if values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
        raise DtypeError(
            explain(who, "lengths must be integers", f"dtype {values.dtype}", "Use lengths.long()")
        )
    if values.shape != (batch,):
        raise ShapeError(
            explain(
                who,
                f"lengths must have one value per sequence, shape ({batch},)",
                f"shape {tuple(values.shape)}",
                "Pass the number of real positions of each sequence",
            )
        )
    # On other devices a look would wait for the device; while tracing there is nothing to see.
    seen = values.device.type == "cpu" and not torch.compiler.is_compiling()
    if seen and bool(((values < 0) | (values > steps)).any()):
        raise ShapeError(
            explain(
                who,
                f"lengths must lie between 0 and the padded length {steps}",
                f"lengths {values.tolist()}",
                "Pass lengths before padding, and channel_axis as the input has it",
            )
        )

    return torch.arange(steps, device=device) < values.to(device).unsqueeze(1)


def repacked(like: PackedSequence, data: Tensor) -> PackedSequence:
    """A packed sequence of other values at the same positions."""
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)


def packed_rows(who: str, input: PackedSequence, residual: Any, *padding: Any) -> Tensor | None:
    """Rows of the residual, at the same positions as the input's.

    Raises:
        ValueError: a mask or lengths beside it, or another packing.
        TypeError: the residual is not packed.
    """
    if any(extra is not None for extra in padding):
        raise ValueError(
            explain(who, "packed sequences have no padding", "a mask or lengths", "Leave them out")
        )
    if residual is None:
        return None
    if not isinstance(residual, PackedSequence):
        raise TypeError(
            explain(
                who,
                "the residual of a PackedSequence must be one too",
                type(residual).__name__,
                "Pack it with the same lengths",
            )
        )
    if not _lie_alike(residual, input):
        raise ShapeError(
            explain(
                who,
                "the residual must be packed as the input is",
                "other batch_sizes or another order",
                "Pack both with the same lengths and the same enforce_sorted",
            )
        )

    return residual.data


def _lie_alike(a: PackedSequence, b: PackedSequence) -> bool:
    """Whether rows of both belong to the same positions."""
    if not torch.equal(a.batch_sizes, b.batch_sizes):
        return False
    if a.sorted_indices is None or b.sorted_indices is None:
        return a.sorted_indices is b.sorted_indices

    return torch.equal(a.sorted_indices, b.sorted_indices)


class SequenceBatchNorm(_BatchNorm):
    r"""Batch normalization of sequences, over all real positions of the batch together.

    .. math:: y_{nt} = \mathrm{act}\Bigl(\frac{x_{nt} - \mu}{\sqrt{\sigma^2 + \epsilon}}\,\gamma
        + \beta + r_{nt}\Bigr), \quad t < \mathrm{length}_n

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics (Keras's and Flax's
            weigh the old); None: the average of all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        channel_axis: where the channels are: ``-1`` (or 2) for ``(N, L, C)``, 1 for
            ``(N, C, L)``. It has no default: nothing else can tell the two apart when L = C.
        bias: whether there is β, if ``affine``.
        activation: one of ``ActivationName``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel: ``"error"``, ``"running"`` or ``"skip"``.

    Differs from torch: ``nn.BatchNorm1d`` takes the second axis for the channels, whatever the
        data mean, and counts padding. Names and shapes of the ``state_dict`` are the same.

    Costs: ``(N, L, C)`` goes to the kernels as it lies in memory, without a copy.

    Source: Laurent et al. 2016 (arXiv:1510.01378), sequence-wise statistics; Amodei et al. 2016
        (arXiv:1512.02595).

    Example:
        >>> layer = SequenceBatchNorm(8, channel_axis=-1)
        >>> layer(torch.randn(3, 5, 8), lengths=[5, 2, 4]).shape
        torch.Size([3, 5, 8])
    """

    _ranks = (2, 3)
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
        channel_axis: int,
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
    ) -> None:
        if channel_axis not in (-1, 1, 2) or isinstance(channel_axis, bool):
            raise ValueError(
                explain(
                    type(self).__name__,
                    "channel_axis must be -1 or 2 for (N, L, C), 1 for (N, C, L)",
                    f"channel_axis={channel_axis!r}",
                    "Use the axis that has num_features values",
                )
            )
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.channel_axis = channel_axis

    def forward(
        self,
        input: Any,
        residual: Any = None,
        mask: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        lengths: Lengths | None = None,
    ) -> Any:
        """Normalise, scale, shift, add the residual, activate; padding comes out as 0.

        Args:
            input: ``(N, L, C)`` or ``(N, C, L)`` as ``channel_axis`` says; ``(S, C)``, one real
                position per row; or a ``PackedSequence`` of such rows.
            residual: as ``input``.
            mask: bool, True = real; ``(N, L)``, or ``(N,)`` for whole sequences.
            weight: γ of this call, ``(C,)``, or one row for each sequence ``(N, C)`` (for each
                position of rows and packed sequences); for a layer with ``affine=False``.
            bias: β, likewise.
            lengths: integers ``(N,)``: the real positions of each sequence, in place of a mask.

        Returns:
            Shape, dtype and kind of ``input``.

        Raises:
            ValueError: a wrong shape, a mask beside lengths, or one value per channel in training.
            TypeError: a wrong dtype, or a residual of another kind than the input.
            RuntimeError: a wrong device.
        """
        if isinstance(input, PackedSequence):
            rows = packed_rows(type(self).__name__, input, residual, mask, lengths)
            return repacked(input, super().forward(input.data, rows, weight=weight, bias=bias))

        last = self.channel_axis != 1 and input.dim() == 3
        if last:
            input = input.transpose(1, 2)
            residual = None if residual is None else residual.transpose(1, 2)
        if lengths is not None:
            mask = self._mask_of(lengths, mask, input)
        output = super().forward(input, residual, mask, weight=weight, bias=bias)

        return output.transpose(1, 2) if last else output

    def _mask_of(self, lengths: Lengths, mask: Tensor | None, input: Tensor) -> Tensor:
        who = type(self).__name__
        if mask is not None or input.dim() != 3:
            other = "a mask" if mask is not None else f"input of shape {tuple(input.shape)}"
            raise ShapeError(
                explain(who, "lengths are for padded input", f"lengths and {other}", "Pass one")
            )

        return mask_of_lengths(who, lengths, input.shape[0], input.shape[2], input.device)

    def _refuse(self, input: Tensor) -> Any:
        """Say what is wrong with the input, in the words of its own layout."""
        if input.dim() == 3 and input.shape[1] != self.num_features:
            last = self.channel_axis != 1
            shape = tuple(input.transpose(1, 2).shape) if last else tuple(input.shape)
            raise ShapeError(
                explain(
                    type(self).__name__,
                    f"expected {self.num_features} channels in dimension {self.channel_axis}",
                    f"input of shape {shape}",
                    f"Use num_features={input.shape[1]}, or the other channel_axis",
                )
            )

        super()._refuse(input)

    def extra_repr(self) -> str:
        """The text of the plain layer, and where the channels are."""
        return f"{super().extra_repr()}, channel_axis={self.channel_axis}"
