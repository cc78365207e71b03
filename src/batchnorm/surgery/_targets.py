"""Layers to convert to, by name: what is built from the facts of a batch norm layer."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm

from .. import layers
from .._errors import explain
from .._types import Activation
from ._activations import module_of
from ._sources import Source
from ._swap import carry_over

__all__ = ["DOMAINS", "OTHER_FUNCTIONS", "SAME_IN_TRAINING", "build", "is_ours", "parse_target"]

_TORCH: dict[str, tuple[type[nn.Module] | None, ...]] = {
    "torch.BatchNorm": (None, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "torch.SyncBatchNorm": (nn.SyncBatchNorm,) * 4,
    "InstanceNorm": (None, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
}
# They are called step by step, which a model must be written for.
_CELLS = ("RecurrentBatchNorm",)
#: They compute something else, at inference too.
OTHER_FUNCTIONS = ("GroupNorm", "LayerNorm", "InstanceNorm", "Identity", "WhitenedBatchNorm")
#: They hold one set of statistics per domain, and must be told the domain.
DOMAINS = ("DomainBatchNorm", "SplitBatchNorm")
#: As far as one process goes: they normalise by the whole batch.
SAME_IN_TRAINING = ("BatchNorm", "SyncBatchNorm", "torch.BatchNorm", "torch.SyncBatchNorm")


def parse_target(to: str | type[nn.Module], who: str) -> str:
    """The family's name: ``GhostBatchNorm2d`` (a class or its name) is ``"GhostBatchNorm"``.

    Raises:
        ValueError: there is no such family.
    """
    name = to if isinstance(to, str) else to.__name__
    is_torchs = not isinstance(to, str) and to.__module__.startswith("torch.")
    stem = name
    for rank in (1, 2, 3):
        stem = stem.removesuffix(f"{rank}d")
    if is_torchs and stem in ("BatchNorm", "SyncBatchNorm"):
        stem = f"torch.{stem}"

    if stem not in _families():
        known = ", ".join(sorted(_families()))
        raise ValueError(explain(who, "unknown target", f"to={name!r}", f"Use one of {known}"))

    return stem


def _families() -> set[str]:
    ours = {
        name[:-2] if name[-2:] in ("1d", "2d", "3d") else name
        for name, layer in vars(layers).items()
        if isinstance(layer, type) and issubclass(layer, _TorchBatchNorm) and name not in _CELLS
    }

    return ours | set(_TORCH) | {"GroupNorm", "LayerNorm", "Identity"}


def is_ours(family: str) -> bool:
    """Whether its layers are of this package: they take activations and residuals."""
    return family not in (*_TORCH, "GroupNorm", "LayerNorm", "Identity")


def build(source: Source, family: str, rank: int | None, options: dict[str, Any]) -> nn.Module:
    """A layer of the family in place of the source.

    It holds the very parameters and buffers of the source where name, shape and dtype agree.

    Raises:
        ValueError: there can be none; the text is the reason.
    """
    new = _construct(source, family, rank, options)
    if not isinstance(new, nn.Identity):
        _transplant(source, new)
    carry_over(source.layer, new)

    return new


def _construct(source: Source, family: str, rank: int | None, options: dict[str, Any]) -> nn.Module:
    old = source.layer
    if family == "Identity":
        _check_options(family, options, set())
        return module_of(source.activation, source.slope)

    anchor = source.anchor
    place: dict[str, Any] = {}
    if anchor is not None:
        place["device"] = anchor.device
    wide = next((t for t in (old.weight, old.bias, old.running_mean) if t is not None), None)
    if wide is not None:
        place["dtype"] = wide.dtype
    if source.activation != "identity" and not is_ours(family):
        raise ValueError(f"its activation {source.activation!r} would be lost")
    if getattr(old, "frozen", ()) and not is_ours(family):
        raise ValueError("it is frozen, which only layers of ours can be: thaw it first")
    if family in ("GroupNorm", "LayerNorm"):
        _check_options(family, options, {"num_groups"} if family == "GroupNorm" else set())
        groups = 1 if family == "LayerNorm" else _groups(old.num_features, options)
        return nn.GroupNorm(groups, old.num_features, old.eps, old.affine, **place)

    make = _class_of(family, rank)
    taken = inspect.signature(make).parameters
    _check_options(family, options, set(taken) - {"num_features", "device", "dtype"})
    if family == "InstanceNorm":
        return make(old.num_features, old.eps, 0.1, old.affine, False, **place)

    given: dict[str, Any] = {
        **({"process_group": getattr(old, "process_group", None)} if "Sync" in family else {}),
        "bias": not (old.affine and old.bias is None),
    }
    if is_ours(family):
        given |= {"activation": source.activation, **source.options}
        if Activation.parse(source.activation).takes_slope:
            given["slope"] = source.slope
    elif getattr(old, "_updates", True) is False:
        raise ValueError("its updates are switched off, which torch's layer cannot do")
    given = {name: value for name, value in given.items() if name in taken}

    return make(
        *(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats),
        **place,
        **{**given, **options},
    )


def _check_options(family: str, options: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(options) - known)
    if unknown:
        cure = f"Use {', '.join(sorted(known))}" if known else "Leave it out"
        raise TypeError(
            explain("convert", f"{family} has no such option", ", ".join(unknown), cure)
        )


def _class_of(family: str, rank: int | None) -> Callable[..., nn.Module]:
    if family in _TORCH:
        made = _TORCH[family][rank or 0]
    else:
        made = getattr(layers, family, None) or getattr(layers, f"{family}{rank}d", None)
    if made is None:
        raise ValueError("it takes inputs of any rank: pass sample, to see which rank comes")

    return made


def _groups(channels: int, options: dict[str, Any]) -> int:
    """The given number of groups, or the largest divisor of C and 32."""
    groups = options.get("num_groups", math.gcd(32, channels))
    if channels % groups:
        raise ValueError(f"{channels} channels do not make {groups} equal groups")

    return int(groups)


def _transplant(source: Source, new: nn.Module) -> None:
    """Give the new layer the source's tensors, and its Nones where it is a batch norm too."""
    is_alike = isinstance(new, _TorchBatchNorm)
    for tensors in (new._parameters, new._buffers):
        for name, own in list(tensors.items()):
            given = getattr(source.layer, name, None)
            if own is None or given is None:
                if is_alike and hasattr(source.layer, name):
                    tensors[name] = given
            elif own.shape == given.shape and own.dtype == given.dtype:
                tensors[name] = given
            else:
                with torch.no_grad():
                    own.copy_(given.expand_as(own))
                own.requires_grad_(given.requires_grad)
    if getattr(source.layer, "_updates", True) is False and hasattr(new, "_updates"):
        new.__dict__["_updates"] = False
