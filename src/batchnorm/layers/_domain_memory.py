"""What a layer knows of its domains: statistics, weights and names of each."""

from typing import Any

import torch
from torch import Tensor, nn

from .._errors import ShapeError, explain
from .._types import ActivationName
from ..ops import Lane, check_label_values, check_labels, commit_groups
from ._batchnorm import _BatchNorm
from ._memory import Proposal
from ._policy import OnSingle
from ._unseen import Unseen, check_unseen

__all__: list[str] = []

_COMMITTED = ("running_mean", "running_var", "num_batches_tracked")
_BUFFERS = (*_COMMITTED, "num_nonfinite")


class _DomainMemory(_BatchNorm):
    """Parameters and buffers by domain."""

    # Set by the context manager domain().
    _domain: int | str | Tensor | None = None

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
        num_domains: int,
        shared_affine: bool = True,
        unseen: Unseen = "error",
        bias: bool = True,
        activation: ActivationName = "identity",
        slope: float | None = None,
        on_single: OnSingle = "error",
    ) -> None:
        who = type(self).__name__
        _check_domains(who, num_domains)
        check_unseen(who, unseen)
        super().__init__(
            *(num_features, eps, momentum, affine, track_running_stats, device, dtype),
            bias=bias,
            activation=activation,
            slope=slope,
            on_single=on_single,
        )
        self.num_domains = num_domains
        self.shared_affine = shared_affine
        self.unseen = unseen
        for name in _BUFFERS:
            buffer = self._buffers[name]
            if buffer is not None:
                self._buffers[name] = buffer.expand(num_domains, *buffer.shape).clone()
        for name in ("weight", "bias"):
            parameter = self._parameters[name]
            if parameter is not None and not shared_affine:
                rows = parameter.detach().expand(num_domains, -1).clone()
                self._parameters[name] = nn.Parameter(rows)

    def add_domain(self, like: int | None = None) -> int:
        """One more domain, which can be trained; its label is returned.

        Args:
            like: begin with the statistics, weight and bias of this domain; None: as a new layer.
                Such a domain counts as seen if that one does.

        With ``shared_affine=False`` weight and bias become new parameters: give them to the
        optimizer.

        Raises:
            ValueError: there is no domain ``like``.
            RuntimeError: inside ``accumulate``, whose batches know nothing of it.
        """
        who = f"{type(self).__name__}.add_domain"
        if like is not None and not 0 <= like < self.num_domains:
            rule = f"like must be in [0, {self.num_domains})"
            raise ValueError(explain(who, rule, f"like={like}", "Use a domain that there is"))
        if self._pending is not None:
            raise RuntimeError(
                explain(
                    who, "not inside accumulate", "a commit under way", "Add it before or after"
                )
            )

        fresh = {"running_var": 1, "weight": 1}
        for name in _BUFFERS:
            buffer = self._buffers[name]
            if buffer is not None:
                self._buffers[name] = _grown(buffer, like, fresh.get(name, 0))
        if self._lost_parts is not None:
            self._lost_parts = _grown(self._lost_parts, None, 0)
        for name in ("weight", "bias"):
            old = self._parameters[name]
            if old is not None and not self.shared_affine:
                rows = _grown(old.detach(), like, fresh.get(name, 0))
                self._parameters[name] = nn.Parameter(rows, requires_grad=old.requires_grad)
        self.num_domains += 1

        return self.num_domains - 1

    def _labels(self, lane: Lane, domain: int | str | Tensor | None, input: Tensor) -> int | Tensor:
        """The domain of the batch, or of each sample, if there is such a domain."""
        who = type(self).__name__
        if domain is None or isinstance(domain, str):
            domain = self._named(domain)
        first = 0 if self.training or self.running_mean is None else -1
        if isinstance(domain, Tensor):
            check_labels(who, "domain", domain, input)
            if lane is Lane.EAGER:
                check_label_values(who, "domain", domain, self.num_domains, first)
            return domain

        if isinstance(domain, bool) or not isinstance(domain, int):
            raise TypeError(
                explain(
                    who,
                    "domain must be an integer or an int64 tensor (N,)",
                    f"{type(domain).__name__}",
                    "Pass one domain for the batch, or one for each sample",
                )
            )
        if not first <= domain < self.num_domains:
            raise ShapeError(
                explain(
                    who,
                    f"domain must be in [{first}, {self.num_domains})",
                    f"domain={domain}",
                    "Use another, or add_domain()",
                )
            )

        return domain

    def _named(self, name: str | None) -> int:
        """The domain of that name, or the one that needs no name; here there are none."""
        who = type(self).__name__
        if name is None:
            raise RuntimeError(
                explain(
                    who,
                    "a domain is needed",
                    "none",
                    "Call the layer with domain=, or the model inside batchnorm.domain(model, ...)",
                )
            )
        raise ValueError(
            explain(who, "domains have no names here", f"domain={name!r}", "Pass a number")
        )

    def _affine_of(self, domain: int) -> tuple[Tensor | None, Tensor | None]:
        weight, bias = self.weight, self.bias
        if self.shared_affine:
            return weight, bias

        return None if weight is None else weight[domain], None if bias is None else bias[domain]

    def _rows(self, labels: Tensor) -> Tensor | None:
        """The row of weight and bias of each sample, unless all share one."""
        return None if self.shared_affine or not self.affine else labels

    def _statistics_of(self, domain: int | slice) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None

        return self.running_mean[domain], self.running_var[domain]

    def _lacks_batch(self) -> Tensor:
        """Bool ``(D,)``: domains without a batch, while others had some."""
        assert self.num_batches_tracked is not None
        seen = self.num_batches_tracked > 0

        return ~seen & seen.any()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """As torch's; what has no domains, like a plain layer's state, goes to every domain."""
        for name in (*_COMMITTED, "weight", "bias"):
            own, given = getattr(self, name), state_dict.get(prefix + name)
            if own is not None and given is not None and given.shape == own.shape[1:]:
                state_dict[prefix + name] = given.expand_as(own)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _commit(self, lane: Lane, proposal: Proposal) -> None:
        tensors: Any = self._buffers
        lost, parts = tensors["num_nonfinite"], tensors["_lost_parts"]
        missed = lost if parts is None else lost - parts

        mean, var, tracked = (tensors[name] for name in _COMMITTED)
        commit_groups(lane, (mean, var, tracked, missed), proposal, self.momentum)
        if parts is not None:
            lost.copy_(missed + parts)

    def extra_repr(self) -> str:
        """The text of batch norm, and the domains."""
        parts = [super().extra_repr(), f"num_domains={self.num_domains}"]
        if not self.shared_affine:
            parts.append("shared_affine=False")
        if self.unseen != "error":
            parts.append(f"unseen={self.unseen!r}")

        return ", ".join(parts)


def _check_domains(who: str, num_domains: Any) -> None:
    """``num_domains`` is a positive integer.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not positive.
    """
    got = f"num_domains={num_domains!r}"
    if isinstance(num_domains, bool) or not isinstance(num_domains, int):
        raise TypeError(explain(who, "num_domains must be an integer", got, "Pass their number"))
    if num_domains < 1:
        raise ValueError(explain(who, "num_domains must be positive", got, "Use 1 or more"))


def _grown(table: Tensor, like: int | None, fresh: int) -> Tensor:
    """One more row: a copy of another, or a constant."""
    row = torch.full_like(table[:1], fresh) if like is None else table[like : like + 1]

    return torch.cat([table, row])
