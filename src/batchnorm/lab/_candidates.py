"""What can be done to a model of the user's: other norms, in other places, smaller batches."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from .._errors import explain
from ..surgery import convert, insert

__all__ = ["GIVEN", "Candidates", "NormName", "PlacementName", "candidates", "made"]

GIVEN = "given"
NormName = Literal["batch", "group", "layer", "instance", "renorm", "none"]
PlacementName = Literal["given", "before", "after"]
FAMILIES: Mapping[str, tuple[str, str]] = {
    "batch": ("BatchNorm", "batch norm"),
    "group": ("GroupNorm", "group norm"),
    "layer": ("LayerNorm", "layer norm"),
    "instance": ("InstanceNorm", "instance norm"),
    "renorm": ("BatchRenorm", "batch renorm"),
    "none": ("Identity", "no norm"),
}
WHERE: Mapping[str, Literal["before_activation", "after_activation"]] = {
    "before": "before_activation",
    "after": "after_activation",
}


@dataclass(frozen=True)
class Candidates:
    """What there is to compare.

    Args:
        arms: label by name; the first is the model as it is.
        left_out: why the rest is not there, by label.
        impossible: arms and batch sizes that do not go together.
    """

    arms: dict[str, str]
    left_out: dict[str, str]
    impossible: frozenset[tuple[str, int]]


def candidates(
    model: Callable[[], nn.Module],
    sample: Tensor,
    norms: Sequence[NormName] | None,
    placements: Sequence[PlacementName] | None,
    sizes: Sequence[int],
) -> Candidates:
    """Try everything on a batch of each size and keep what works.

    Args:
        model: makes it.
        sample: a batch of inputs.
        norms: which; by default those that the model does not have.
        placements: of the norms; by default where the model has them, or before activations.
        sizes: examples of a batch.
    """
    arms: dict[str, str] = {}
    left_out: dict[str, str] = {}
    impossible: set[tuple[str, int]] = set()
    normed = _is_normed(model())
    if not normed and GIVEN in (placements or ()):
        left_out["norms where they are"] = "the model has no batch norm"
    for arm, label in _wanted(normed, norms, placements).items():
        fails = {size: _failure(model, arm, sample, size) for size in sizes}
        reasons = {size: reason for size, reason in fails.items() if reason}
        if len(reasons) == len(sizes):
            left_out[label] = next(iter(reasons.values()))
            continue
        arms[arm] = label
        for size, reason in reasons.items():
            left_out[f"{label}, batches of {size}"] = reason
            impossible.add((arm, size))

    return Candidates(arms, left_out, frozenset(impossible))


def _wanted(
    normed: bool, norms: Sequence[NormName] | None, placements: Sequence[PlacementName] | None
) -> dict[str, str]:
    """Labels of the arms, the model as it is first."""
    _check("norms", norms, get_args(NormName))
    _check("placements", placements, get_args(PlacementName))
    usual: Sequence[NormName] = ("group", "layer", "instance", "none") if normed else ("batch",)
    arms = {GIVEN: "as it is"}
    for placement in placements or ("given" if normed else "before",):
        for norm in norms or usual:
            label = FAMILIES[norm][1]
            if norm != "none" and placement != GIVEN:
                arms[f"{norm}-{placement}"] = f"{label} {placement} activations"
            elif normed and norm != "batch":
                arms[norm] = label

    return arms


def _check(name: str, chosen: Sequence[str] | None, known: tuple[str, ...]) -> None:
    unknown = [each for each in chosen or () if each not in known]
    if unknown:
        rule = f"{name} must be among {', '.join(known)}"
        raise ValueError(explain("compare", rule, ", ".join(unknown), "Use these names"))


def _failure(model: Callable[[], nn.Module], arm: str, sample: Tensor, size: int) -> str | None:
    """Why the arm cannot be trained on batches of this size, if so."""
    try:
        made(model, arm, sample).train()(sample[:size] if size < len(sample) else sample)
    except (ValueError, RuntimeError, TypeError) as error:
        return str(error).splitlines()[0]

    return None


def made(model: Callable[[], nn.Module], arm: str, sample: Tensor) -> nn.Module:
    """The model with the norms of an arm: ``"given"``, ``"group"``, ``"group-after"``.

    Without a placement the model's batch norms are exchanged where they are. With one they are
    taken out, and others put before or after the activations. Where a norm is taken out, layers
    without a bias get one: the norm's bias did its work.

    Raises:
        ValueError: it cannot be done; the text is the reason.
    """
    net = model()
    if arm == GIVEN:
        return net
    norm, _, placement = arm.partition("-")
    if placement or norm == "none":
        _take_out(net, sample)
    if placement:
        _put_in(net, placement, sample)
    if norm not in ("batch", "none"):
        _exchange(net, FAMILIES[norm][0], sample)

    return net


def _take_out(net: nn.Module, sample: Tensor) -> None:
    if not _is_normed(net):
        return
    _exchange(net, "Identity", sample)
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, _ConvNd)) and layer.bias is None:
            width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            layer.bias = nn.Parameter(layer.weight.new_zeros(width))


def _exchange(net: nn.Module, family: str, sample: Tensor) -> None:
    report = convert(net, family, sample=sample)
    stayed = next(iter(report.skipped), None)
    if stayed is not None:
        got = f"{stayed.path} left: {stayed.reason}"
        cure = "Leave this norm out, or exchange it in the model"
        raise ValueError(explain("compare", "every batch norm must be exchanged", got, cure))


def _put_in(net: nn.Module, placement: str, sample: Tensor) -> None:
    """A norm for every layer that can have one somewhere, or an error."""
    usual = copy.deepcopy(net)
    wanted = {change.path for change in insert(usual, WHERE["before"], sample=sample).done}
    changes = insert(net, WHERE[placement], sample=sample).changes
    missing = [c for c in changes if c.action == "skipped" and (c.path in wanted or not wanted)]
    if missing:
        got = f"{missing[0].path} without: {missing[0].reason}"
        cure = "Leave this placement out, or put norms in the model"
        raise ValueError(explain("compare", "every layer must get its norm", got, cure))


def _is_normed(net: nn.Module) -> bool:
    """Whether there is a batch norm in it."""
    return any(isinstance(module, _BatchNorm) for module in net.modules())
