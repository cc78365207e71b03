"""What frameworks mean by momentum, epsilon and running variance: the one table, and its use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .._errors import explain

__all__ = ["CONVENTIONS", "Convention", "Framework", "convert_options", "convert_state"]

Framework = Literal["torch", "keras", "flax", "onnx"]


@dataclass(frozen=True)
class Convention:
    """How a framework speaks of batch norm.

    Args:
        momentum: default, in the framework's own meaning.
        eps: default.
        momentum_weighs: ``"new"``: running = (1 - m)·running + m·batch; ``"old"``:
            running = m·running + (1 - m)·batch.
        running_var: ``"unbiased"``: of batch variances with n - 1; ``"biased"``: with n.
        options: torch's name of an option to its own.
        tensors: torch's name of a tensor to its own; a dot enters a nested dict.
    """

    momentum: float
    eps: float
    momentum_weighs: Literal["new", "old"]
    running_var: Literal["unbiased", "biased"]
    options: dict[str, str]
    tensors: dict[str, str]


CONVENTIONS: dict[Framework, Convention] = {
    "torch": Convention(
        momentum=0.1,
        eps=1e-5,
        momentum_weighs="new",
        running_var="unbiased",
        options={"momentum": "momentum", "eps": "eps"},
        tensors={
            "weight": "weight",
            "bias": "bias",
            "running_mean": "running_mean",
            "running_var": "running_var",
        },
    ),
    "keras": Convention(
        momentum=0.99,
        eps=1e-3,
        momentum_weighs="old",
        running_var="biased",
        options={"momentum": "momentum", "eps": "epsilon", "weight": "scale", "bias": "center"},
        tensors={
            "weight": "gamma",
            "bias": "beta",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        },
    ),
    "flax": Convention(
        momentum=0.99,
        eps=1e-5,
        momentum_weighs="old",
        running_var="biased",
        options={
            "momentum": "momentum",
            "eps": "epsilon",
            "weight": "use_scale",
            "bias": "use_bias",
        },
        tensors={
            "weight": "params.scale",
            "bias": "params.bias",
            "running_mean": "batch_stats.mean",
            "running_var": "batch_stats.var",
        },
    ),
    "onnx": Convention(
        momentum=0.9,
        eps=1e-5,
        momentum_weighs="old",
        running_var="biased",
        options={"momentum": "momentum", "eps": "epsilon"},
        tensors={
            "weight": "scale",
            "bias": "B",
            "running_mean": "input_mean",
            "running_var": "input_var",
        },
    ),
}


def convert_options(
    options: Mapping[str, Any], source: Framework, target: Framework
) -> dict[str, Any]:
    """Momentum and epsilon from one convention into another; missing ones are source's defaults.

    Raises:
        ValueError: a momentum that the target cannot express, or an unknown framework.

    Example:
        >>> convert_options({"momentum": 0.25, "eps": 0.001}, "torch", "keras")
        {'momentum': 0.75, 'epsilon': 0.001}
        >>> convert_options({}, "flax", "torch")["eps"]
        1e-05
    """
    ours, theirs = _known(source), _known(target)
    momentum = options.get(ours.options["momentum"], ours.momentum)
    if momentum is None and target != "torch":
        raise ValueError(
            explain(
                "convert_options",
                f"{target} has no cumulative average",
                "momentum=None",
                "Set a number first",
            )
        )
    if momentum is not None and ours.momentum_weighs != theirs.momentum_weighs:
        momentum = _complement(momentum)
    eps = options.get(ours.options["eps"], ours.eps)

    return {theirs.options["momentum"]: momentum, theirs.options["eps"]: eps}


def _complement(momentum: float) -> float:
    """``1 - momentum``, without the digits that binary fractions leave behind (1 - 0.9)."""
    return round(1.0 - momentum, 15)


def convert_state(
    state: Mapping[str, Any], source: Framework, target: Framework, count: int | None = None
) -> dict[str, Any]:
    """Tensors of one layer from one convention into another.

    Args:
        state: of one layer; what is not there (no bias) is not there afterwards. Anything that
            ``torch.as_tensor`` takes; for flax nested dicts.
        source: convention of ``state``.
        target: convention of the result.
        count: values per channel of a training batch (N·H·W). With it, the running variance is
            turned into what the target would have stored: times (n - 1)/n or n/(n - 1). Without
            it the number stays, and with it the function at inference.

    Raises:
        ValueError: count < 2, an unknown framework, or none of the tensors is there.

    Example:
        >>> state = {"weight": [2.0], "bias": [1.0], "running_mean": [0.5], "running_var": [4.0]}
        >>> convert_state(state, "torch", "keras", count=4)["moving_variance"]
        tensor([3.])
    """
    ours, theirs = _known(source), _known(target)
    if count is not None and count < 2:
        rule, cure = "count must be at least 2", "Pass N·H·W of a training batch"
        raise ValueError(explain("convert_state", rule, f"count={count}", cure))

    result: dict[str, Any] = {}
    for name, own in ours.tensors.items():
        value = _get(state, own)
        if value is None:
            continue
        tensor = torch.as_tensor(value)
        if name == "running_var" and count is not None:
            tensor = _rescaled(tensor, ours.running_var, theirs.running_var, count)
        _set(result, theirs.tensors[name], tensor)
    if not result:
        rule, wanted = f"tensors of {source} are expected", ", ".join(ours.tensors.values())
        got = ", ".join(state) or "nothing"
        raise ValueError(explain("convert_state", rule, got, f"Use {wanted}"))

    return result


def _rescaled(var: Tensor, source: str, target: str, count: int) -> Tensor:
    if source == target:
        return var

    return var * ((count - 1) / count) if target == "biased" else var * (count / (count - 1))


def _known(framework: Framework) -> Convention:
    if framework not in CONVENTIONS:
        cure = f"Use one of {', '.join(CONVENTIONS)}"
        raise ValueError(explain("conventions", "unknown framework", repr(framework), cure))

    return CONVENTIONS[framework]


def _get(state: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        if not isinstance(state, Mapping) or name not in state:
            return None
        state = state[name]

    return state


def _set(state: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        state = state.setdefault(parent, {})
    state[name] = value
