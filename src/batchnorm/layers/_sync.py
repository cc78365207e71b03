"""``torch.nn.SyncBatchNorm`` on every device: one population over the ranks of a group."""

from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from .._errors import explain
from .._types import ActivationName
from ..ops import Lane, measure, normalise_by_agreed
from ..ops._sync import OnNonfinite, SumOverRanks, merge_over_ranks
from ._batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm
from ._group_member import _GroupMember
from ._memory import Proposal
from ._policy import OnSingle

__all__ = ["SyncBatchNorm"]

_OURS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
_TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class SyncBatchNorm(_GroupMember):
    r"""Batch normalization over the batches of all ranks of a process group as one.

    .. math:: \mu = \frac{\sum_r m_r \mu_r}{\sum_r m_r} \qquad
        \sigma^2 = \frac{\sum_r m_r (\sigma_r^2 + (\mu_r - \mu)^2)}{\sum_r m_r}

    A drop-in for torch's layer, on any device and backend of ``torch.distributed``, gloo on the CPU
    too. Batches may have different sizes, masks or no sample at all. Without an initialised group,
    with one rank, and in eval mode it is plain batch norm.

    Args:
        num_features: C, the size of dimension 1; the input has 2 to 5 dimensions.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            all batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        process_group: the ranks that share statistics; None: all.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training with one value per channel on all ranks together; as in
            ``BatchNorm2d``. Known where values can be read: in eager mode on the CPU.
        on_nonfinite: a rank's statistics are not finite: ``"warn"`` (on the CPU; elsewhere reading
            would wait for the device, so nothing is said), ``"error"`` (on every rank, on every
            device) or ``"ignore"``. Whatever it is, no rank commits these channels.
        name: of the layer in messages; ``name_layers`` gives every layer its path.

    Raises:
        RuntimeError: in training, a rank is missing for longer than the group's timeout, or calls
            another layer. The message names the layer and the rank that noticed.

    Costs: one all-gather of 8·C + 16 bytes a rank forward, one all-reduce of 8·C + 12 bytes
        backward (twice that in float64), and once per layer one message of 132 bytes.

    Differs from torch: works on the CPU; the mask, the residual and the activation; a variance
        freed of cancellation; activation checkpointing counts a batch once.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167); merging by Chan, Golub & LeVeque 1979.

    Example:
        >>> layer = SyncBatchNorm(64, activation="relu")
        >>> layer(torch.randn(8, 64, 4, 4)).shape
        torch.Size([8, 64, 4, 4])
    """

    _ranks = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
        on_nonfinite: OnNonfinite = "warn",
        name: str | None = None,
    ) -> None:
        if on_nonfinite not in (known := get_args(OnNonfinite)):
            rule = f"on_nonfinite must be one of {known}"
            raise ValueError(
                explain(type(self).__name__, rule, f"on_nonfinite={on_nonfinite!r}", "Use one")
            )
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.process_group = process_group
        self.on_nonfinite: OnNonfinite = on_nonfinite
        self.name = name
        self._leave()

    @classmethod
    def from_torch(
        cls, layer: nn.Module, process_group: Any = None, name: str | None = None
    ) -> Self:
        """A synchronised layer with the parameters and buffers of another: the same tensors.

        Args:
            layer: ``torch.nn.BatchNorm1d/2d/3d``, ``torch.nn.SyncBatchNorm``, or ours.
            process_group: the ranks that share statistics; None: those of ``layer``, or all.
            name: of the layer in messages.

        Raises:
            TypeError: another class, whose behaviour would be lost.

        Example:
            >>> SyncBatchNorm.from_torch(torch.nn.BatchNorm2d(8)).num_features
            8
        """
        if type(layer) not in (*_OURS, *_TORCHS, cls):
            raise TypeError(
                explain(
                    cls.__name__,
                    "only torch's batch norms and ours can be taken over, not their subclasses",
                    type(layer).__name__,
                    "Build the layer yourself and load the state_dict",
                )
            )

        old: Any = layer
        more = ("activation", "on_single", "on_nonfinite") if isinstance(old, _BatchNorm) else ()
        options = {key: getattr(old, key) for key in more if hasattr(old, key)}
        new = cls(
            *(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats),
            process_group if process_group is not None else getattr(old, "process_group", None),
            "meta",
            bias=old.bias is not None,
            name=name if name is not None else getattr(old, "name", None),
            **options,
        )
        new.slope = getattr(old, "slope", new.slope)
        new.weight, new.bias = old.weight, old.bias
        new._take_memory(old)

        return new.train(old.training)

    @staticmethod
    def name_layers(model: nn.Module) -> None:
        """Give every synchronised layer its dotted path as the name in messages.

        Example:
            >>> model = torch.nn.Sequential(SyncBatchNorm(8))
            >>> SyncBatchNorm.name_layers(model)
            >>> model[0].name
            '0'
        """
        for path, module in model.named_modules():
            if isinstance(module, SyncBatchNorm):
                module.name = path

    def _normalise(self, lane: Lane, *args: Any) -> tuple[Tensor, Proposal]:
        if not self._synchronises():
            return super()._normalise(lane, *args)

        input, weight, bias, residual, mask, eps, activation, slope, _ = args
        if lane is Lane.EXPORTED:
            self._refuse_export()
        seat = self._take_seat(lane, input)
        own = measure(lane, input, mask)
        mean, var, count = merge_over_ranks(lane, seat, self._header, own, self.on_nonfinite)
        if lane is Lane.EAGER and count.device.type == "cpu" and int(count) == 1:
            return self._by_single(lane, *args), (mean, var, count - 1)

        output = normalise_by_agreed(
            *(lane, mean, (var + eps).rsqrt(), count),
            *(input, weight, bias, residual, mask, activation, slope),
            SumOverRanks(seat),
        )

        return output, (mean.detach(), var.detach(), count)

    def _is_single(self, lane: Lane, input: Tensor, mask: Tensor | None) -> bool:
        """Known before the ranks have met only where there are no others."""
        return not self._synchronises() and super()._is_single(lane, input, mask)

    def _propose(self, lane: Lane, proposal: Proposal, empty: bool) -> None:
        """As always; but a rank without data commits what the others have."""
        super()._propose(lane, proposal, empty and not self._synchronises())

    def _refuse_export(self) -> None:
        raise RuntimeError(
            explain(
                self._who,
                "an exported program has no other ranks to agree with",
                "an export in training mode inside a process group",
                "Export in .eval(), or before torch.distributed is initialised",
            )
        )

    def _take_memory(self, old: Any) -> None:
        """The buffers of another layer."""
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            self._buffers[key] = old._buffers[key]
        if isinstance(old, _BatchNorm):
            for key in ("num_nonfinite", "_lost_parts"):
                self._buffers[key] = old._buffers[key]
            self._updates = old._updates
        elif old.running_mean is not None:
            self.num_nonfinite = torch.zeros_like(old.running_mean, dtype=torch.int64)
        self._restore_dtypes({})

    def extra_repr(self) -> str:
        """The text of the plain layer, and what differs."""
        parts = [super().extra_repr()]
        if self.process_group is not None:
            parts.append(f"process_group of {self.process_group.size()}")
        if self.on_nonfinite != "warn":
            parts.append(f"on_nonfinite={self.on_nonfinite!r}")

        return ", ".join(parts)
