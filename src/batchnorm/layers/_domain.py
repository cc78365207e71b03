"""Batch norm with statistics of its own for each domain, mixed freely inside a batch."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._errors import explain
from ..ops import (
    FLOAT_DTYPES,
    Lane,
    check_device,
    check_number,
    choose_lane,
    normalise_by,
    normalise_by_batch,
    normalise_groups,
    normalise_groups_by,
)
from ._batchnorm import _CODES
from ._domain_memory import _DomainMemory
from ._memory import Proposal
from ._policy import refuse_single
from ._unseen import nearest, refuse_unseen, with_mean, with_pooled

__all__ = ["DomainBatchNorm1d", "DomainBatchNorm2d", "DomainBatchNorm3d"]


class _Call(NamedTuple):
    """What a forward was given, checked."""

    lane: Lane
    input: Tensor
    residual: Tensor | None
    mask: Tensor | None
    eps: float
    activation: int
    slope: float

    def together(self, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Proposal]:
        """All samples by the statistics of all of them."""
        return normalise_by_batch(self.lane, self.input, weight, bias, *self[2:])

    def together_by(
        self, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        """All samples by given statistics."""
        return normalise_by(self.lane, mean, var, self.input, weight, bias, *self[2:])

    def apart(
        self,
        groups: int,
        weight: Tensor | None,
        bias: Tensor | None,
        index: Tensor,
        rows: Tensor | None,
    ) -> tuple[Tensor, Proposal]:
        """Each sample by the statistics of its group."""
        args = (self.input, weight, bias, self.residual, self.mask, index, groups, rows)
        return normalise_groups(self.lane, *args, self.eps, self.activation, self.slope)

    def apart_by(
        self,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        index: Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        """Each sample by the given statistics of its group."""
        args = (self.input, weight, bias, self.residual, self.mask, index, rows)
        form = (self.eps, self.activation, self.slope)
        return normalise_groups_by(self.lane, mean, var, *args, *form)


class _DomainBatchNorm(_DomainMemory):
    r"""Batch normalization that keeps the domains of a batch apart.

    In training each sample is normalised by the samples of its domain, in eval mode by the running
    statistics of its domain. One pass, however many domains a batch holds.

    Args:
        num_features: C, the size of dimension 1.
        eps: added to the variance.
        momentum: torch's weight of the new batch in the running statistics; None: the average of
            a domain's batches.
        affine: whether there are γ (``weight``) and β (``bias``).
        track_running_stats: whether there are running statistics.
        device: of parameters and buffers.
        dtype: of the parameters. Running statistics are float32, or float64 for float64.
        num_domains: D.
        shared_affine: one γ and β for all domains, ``(C,)``; False: one each, ``(D, C)``.
        unseen: in eval mode, for label -1 and for domains without a batch: ``"error"``,
            ``"nearest"`` (the domain under which these samples are most likely) or ``"pooled"``
            (all trained domains in equal shares, with the variance between them).
        bias: whether there is β, if ``affine``.
        activation: as in ``BatchNorm2d``.
        slope: negative slope of leaky_relu (0.01), or alpha of elu (1.0).
        on_single: in training, for a domain with one value per channel: ``"error"``,
            ``"running"`` (that domain by its running statistics) or ``"skip"`` (it gives the bias).
            It is not committed; the others are.

    Attributes:
        running_mean: ``(D, C)``, as are ``running_var`` and ``num_nonfinite``.
        num_batches_tracked: ``(D,)``, the batches in which a domain had a sample.

    Source: Chang et al. 2019, "Domain-specific batch normalization" (arXiv:1906.03950).

    Example:
        >>> layer = DomainBatchNorm1d(3, num_domains=2)
        >>> y = layer(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 0]))
        >>> layer.num_batches_tracked
        tensor([1, 1])
    """

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        domain: int | Tensor | None = None,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalise by domain, scale, shift, add the residual, activate.

        Args:
            input: ``(N, C, *)``, float16, bfloat16, float32 or float64, any strides.
            domain: int64 ``(N,)`` in ``[0, D)``, or one for all samples; None: the one set by
                ``batchnorm.domain``. In eval mode -1 is a domain that is not known.
            residual: shape and dtype of ``input``.
            mask: bool, True = real; ``(N,)`` or ``(N, *)``.

        Returns:
            Shape, dtype and memory layout of ``input``.

        Raises:
            ValueError: a wrong shape or domain, or one value per channel in training.
            TypeError: a wrong dtype.
            RuntimeError: a wrong device, no domain, or one that is unseen.
        """
        shape = input.shape
        if (
            len(shape) not in self._ranks
            or shape[1] != self.num_features
            or input.dtype not in FLOAT_DTYPES
        ):
            self._refuse(input)
        anchor = self.weight if self.running_mean is None else self.running_mean
        if anchor is not None:
            check_device(type(self).__name__, "the layer", anchor, input)
        lane = choose_lane(input)
        if residual is not None or mask is not None:
            mask = self._check_extras(lane, input, self.weight, self.bias, residual, mask)
        labels = self._labels(lane, self._domain if domain is None else domain, input)

        call = _Call(lane, input, residual, mask, self.eps, _CODES[self.activation], self.slope)
        if not self.training and self.running_mean is not None:
            return self._by_memory(call, labels)

        check_number(type(self).__name__, "eps", self.eps, zero=False)
        output, proposal = self._by_batch(call, labels)
        if proposal is not None and self.training and self.running_mean is not None:
            self._propose(lane, proposal, empty=False)

        return output

    def _by_batch(self, call: _Call, labels: int | Tensor) -> tuple[Tensor, Proposal | None]:
        if isinstance(labels, Tensor):
            return self._by_domains(call, labels)
        if self._is_single(call.lane, call.input, call.mask):
            return self._by_single_value(call, labels), None

        output, (mean, var, count) = call.together(*self._affine_of(labels))
        row = torch.arange(self.num_domains, device=mean.device).unsqueeze(1) == labels
        zero = mean.new_zeros(())

        return output, (
            torch.where(row, mean, zero),
            torch.where(row, var, zero),
            torch.where(row, count, 0),
        )

    def _by_single_value(self, call: _Call, domain: int) -> Tensor:
        """Follow ``on_single`` for a batch of one domain; nothing is committed."""
        affine = self._affine_of(domain)
        if self.on_single == "skip":
            return call.together(*affine)[0]
        if self.on_single == "running":
            return call.together_by(*self._statistics_of(domain), *affine)

        return refuse_single(type(self).__name__, call.input, masked=call.mask is not None)

    def _by_domains(self, call: _Call, labels: Tensor) -> tuple[Tensor, Proposal]:
        """Samples of several domains, each normalised by the samples of its own."""
        single = self._single_domains(call, labels)
        affine = (self.weight, self.bias, labels, self._rows(labels))
        output, (mean, var, count) = call.apart(self.num_domains, *affine)
        if single is not None:
            count = count.masked_fill(single, 0)
            if self.on_single == "running":
                alone = call.apart_by(*self._statistics_of(slice(None)), *affine)
                at = single[labels].view(-1, *(1,) * (output.dim() - 1))
                output = torch.where(at, alone, output)

        return output, (mean, var, count.unsqueeze(1))

    def _single_domains(self, call: _Call, labels: Tensor) -> Tensor | None:
        """Bool ``(D,)``: domains with one value per channel, None if there are none."""
        input, mask = call.input, call.mask
        if call.lane is not Lane.EAGER or (mask is None and math.prod(input.shape[2:]) != 1):
            return None

        real = torch.ones_like(labels) if mask is None else mask.flatten(1).sum(1)
        single = real.new_zeros(self.num_domains).index_add(0, labels, real) == 1
        if not bool(single.any()):
            return None
        if self.on_single == "error":
            raise ValueError(
                explain(
                    type(self).__name__,
                    "Expected more than 1 value per channel when training, in every domain",
                    f"input size {tuple(input.shape)}, one value in domains "
                    f"{single.nonzero().flatten().tolist()}",
                    "Draw two samples of a domain at least, on_single='running' to normalise such "
                    "a domain by its running statistics, or on_single='skip' to leave them alone",
                )
            )

        return single

    def _by_memory(self, call: _Call, labels: int | Tensor) -> Tensor:
        """By the running statistics, or by what ``unseen`` says."""
        # Of one domain nobody asks, where a call is traced, whether it is seen.
        eager = call.lane is Lane.EAGER
        if isinstance(labels, int):
            if labels >= 0 and not (eager and bool(self._lacks_batch()[labels])):
                return call.together_by(*self._statistics_of(labels), *self._affine_of(labels))
            labels = torch.full(call.input.shape[:1], labels, device=call.input.device)

        unseen = (labels < 0) | self._lacks_batch()[labels.clamp(min=0)]
        if not eager or bool(unseen.any()):
            return self._by_policy(call, labels, unseen)

        statistics = self._statistics_of(slice(None))
        return call.apart_by(*statistics, self.weight, self.bias, labels, self._rows(labels))

    def _by_policy(self, call: _Call, labels: Tensor, unseen: Tensor) -> Tensor:
        """Samples of unseen domains by other statistics, the others by their own."""
        (mean, var), seen = self._statistics_of(slice(None)), ~self._lacks_batch()
        weight: Tensor | None
        bias: Tensor | None
        weight, bias = self.weight, self.bias
        if self.unseen == "nearest":
            choice = nearest(call.input, call.mask, labels, mean, var, seen, self.eps)
            index = torch.where(unseen, choice[labels], labels)
        elif self.unseen == "pooled":
            index = torch.where(unseen, self.num_domains, labels)
            mean, var = with_pooled(mean, var, seen)
            if not self.shared_affine:
                weight, bias = with_mean(weight, seen), with_mean(bias, seen)
        else:
            if call.lane is Lane.EAGER:
                refuse_unseen(type(self).__name__, labels[unseen].unique().tolist())
            index = torch.where(unseen, -1, labels)  # which the operator refuses

        return call.apart_by(mean, var, weight, bias, index, self._rows(index))


class DomainBatchNorm1d(_DomainBatchNorm, nn.BatchNorm1d):
    """Batch normalization by domain of ``(N, C)`` or ``(N, C, L)``."""

    _ranks = (2, 3)


class DomainBatchNorm2d(_DomainBatchNorm, nn.BatchNorm2d):
    """Batch normalization by domain of ``(N, C, H, W)``."""

    _ranks = (4,)


class DomainBatchNorm3d(_DomainBatchNorm, nn.BatchNorm3d):
    """Batch normalization by domain of ``(N, C, D, H, W)``."""

    _ranks = (5,)


for _layer in (DomainBatchNorm1d, DomainBatchNorm2d, DomainBatchNorm3d):
    _layer.__doc__ = f"{_layer.__doc__}\n\n    {_DomainBatchNorm.__doc__}"
