"""Batch norm layers that are understood, by exact type: what each is, as plain facts."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm
from torch.nn.modules.batchnorm import _LazyNormBase
from torch.nn.utils import parametrize

from .._types import ActivationName
from ._activations import activation_of
from ._places import kind

__all__ = ["Source", "is_candidate", "is_whole_batch", "read"]

# Family and rank by exact type. SyncBatchNorm takes inputs of any rank.
_TORCH = {
    "torch.nn.modules.batchnorm.BatchNorm1d": ("torch.BatchNorm", 1),
    "torch.nn.modules.batchnorm.BatchNorm2d": ("torch.BatchNorm", 2),
    "torch.nn.modules.batchnorm.BatchNorm3d": ("torch.BatchNorm", 3),
    "torch.nn.modules.batchnorm.SyncBatchNorm": ("torch.SyncBatchNorm", None),
}
_TIMM = {
    "timm.layers.norm_act.BatchNormAct2d": ("timm.BatchNormAct", 2),
    "timm.layers.norm_act.SyncBatchNormAct": ("timm.SyncBatchNormAct", 2),
}
_OURS = ("BatchNorm", "SyncBatchNorm", "GhostBatchNorm", "BatchRenorm")
_OWN_STATE = {
    "DomainBatchNorm": "it holds the statistics of several domains",
    "SplitBatchNorm": "it holds the statistics of several parts",
    "WhitenedBatchNorm": "it holds a whitening matrix",
    "SequenceBatchNorm": "its channels are not in dimension 1",
    "RecurrentBatchNorm": "it holds the statistics of every time step",
}
_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@dataclass(frozen=True)
class Source:
    """What a batch norm layer is, whoever wrote it.

    Args:
        layer: the layer itself.
        family: ``"BatchNorm"``, ``"torch.SyncBatchNorm"``, ...
        rank: 1, 2 or 3; None if it takes any.
        activation: that is part of the layer.
        slope: of the activation.
        options: what ours has beyond torch's arguments.
    """

    layer: _TorchBatchNorm
    family: str
    rank: int | None
    activation: ActivationName = "identity"
    slope: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor | None]:
        """Parameters and buffers by name."""
        return {**self.layer._parameters, **self.layer._buffers}

    @property
    def anchor(self) -> Tensor | None:
        """A tensor whose device is the layer's; None if it has no tensor."""
        return next((t for t in self.tensors.values() if t is not None), None)


def is_candidate(module: nn.Module) -> bool:
    """Whether a module is, or by its name claims to be, batch norm."""
    return isinstance(module, _TorchBatchNorm) or "BatchNorm" in type(module).__name__


def is_whole_batch(module: nn.Module) -> bool:
    """Whether a layer, in one process, normalises a batch in training by all of it."""
    return not type(module).__name__.startswith(("Ghost", "BatchRenorm"))


def read(module: nn.Module) -> Source | str:
    """The facts, or the reason why the layer cannot be converted."""
    reason = _refusal(module)
    if reason is not None:
        return reason
    assert isinstance(module, _TorchBatchNorm)
    family, rank = _family(module) or ("", None)

    if family.startswith("timm."):
        return _read_timm(module, family, rank)
    if not family.startswith("torch."):
        options = {"on_single": module.on_single} if hasattr(module, "on_single") else {}
        activation: Any = getattr(module, "activation", "identity")
        return Source(module, family, rank, activation, getattr(module, "slope", 0.0), options)

    return Source(module, family, rank)


def _family(module: nn.Module) -> tuple[str, int | None] | None:
    cls = type(module)
    if cls.__module__.split(".")[0] == "batchnorm":
        stem = cls.__name__
        for rank in (1, 2, 3):
            stem = stem.removesuffix(f"{rank}d")
        rank_of = None if stem == cls.__name__ else int(cls.__name__[-2])
        return (stem, rank_of) if stem in _OURS else None

    return (_TORCH | _TIMM).get(f"{cls.__module__}.{cls.__qualname__}")


def _refusal(module: nn.Module) -> str | None:
    if parametrize.is_parametrized(module):
        return "it has parametrizations: remove them first"
    if isinstance(module, _LazyNormBase):
        return "it does not know its size yet: run a batch through the model first"
    if _family(module) is None:
        stem = type(module).__name__.rstrip("d").rstrip("123")
        known = _OWN_STATE.get(stem) if type(module).__module__.startswith("batchnorm.") else None
        return known or f"{kind(module)} is not known: it may do more than batch norm"
    if "forward" in module.__dict__:
        return "its forward was replaced on the instance"
    if getattr(module, "_pending", None) is not None:
        return "accumulate() is running: convert before or after it"

    own = set(module._parameters) - _TENSORS
    if own:
        return f"it has parameters of its own: {', '.join(sorted(own))}"

    return None


def _read_timm(module: Any, family: str, rank: int | None) -> Source | str:
    act, drop = module._modules.get("act"), module._modules.get("drop")
    if drop is not None and type(drop) is not nn.Identity:
        return f"it contains a {kind(drop)}"
    found = ("identity", 0.0) if act is None else activation_of(act)
    if found is None:
        return f"its activation {kind(act)} cannot be fused"
    name: Any = found[0]

    return Source(module, family, rank, name, found[1])
