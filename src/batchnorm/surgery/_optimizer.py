"""An optimizer's parameter groups and state when parameters are exchanged, dropped or added."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from .._errors import explain

__all__ = ["OptimizerStep"]


class OptimizerStep:
    """Exchange parameters in the groups of an optimizer, and move their state.

    Args:
        optimizer: is changed in place, so that schedulers that hold it stay valid.
        exchanged: old parameter and new one; None if it is gone. State (momentum, second
            moments, step) moves along where the shapes agree, and is dropped where not. A tied
            parameter that the model still holds elsewhere stays, and the new ones join its group.
        added: new parameters, each with one whose group it joins.
        model: gives the model as it is when everything else is done.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        exchanged: list[tuple[nn.Parameter, nn.Parameter | None]],
        added: list[tuple[nn.Parameter, nn.Parameter | None]],
        model: Callable[[], nn.Module],
    ) -> None:
        self.optimizer, self.model = optimizer, model
        self.wanted = exchanged, added
        self.exchanged: dict[nn.Parameter, nn.Parameter | None] = {}
        self.added: list[tuple[nn.Parameter, nn.Parameter | None]] = []
        self.groups: list[dict[str, list[Any]]] = []
        self.dropped: dict[nn.Parameter, Any] = {}

    def check(self, who: str) -> None:
        """The optimizer can be changed.

        Raises:
            RuntimeError: it keeps all its state in one flat vector (LBFGS).
        """
        if type(self.optimizer).__name__ == "LBFGS" and self.optimizer.state:
            raise RuntimeError(
                explain(
                    who,
                    "the optimizer's state must belong to single parameters",
                    "LBFGS after its first step",
                    "Make a new one afterwards, and pass none here",
                )
            )

    def _sort(self) -> None:
        """Exchange what is gone from the model; everything else is an addition."""
        exchanged, added = self.wanted
        alive = set(self.model().parameters())
        self.exchanged, self.added = {}, list(added)
        for old, new in exchanged:
            if old not in alive and self.exchanged.get(old) is None:
                self.exchanged[old] = new
            elif new is not None and new is not self.exchanged.get(old):
                self.added.append((new, old))

    def do(self) -> None:
        self._sort()
        groups = self.optimizer.param_groups
        self.groups = [
            {key: list(group[key]) for key in ("params", "param_names") if key in group}
            for group in groups
        ]
        homes = {p: group for group in groups for p in group["params"]}
        for group in groups:
            self._exchange(group)
        for parameter, beside in self.added:
            self._add(parameter, homes.get(beside) if beside is not None else None)
        self._move_state()

    def _exchange(self, group: dict[str, Any]) -> None:
        names = group.get("param_names", [None] * len(group["params"]))
        pairs = [
            (self.exchanged.get(p, p), name) for p, name in zip(group["params"], names, strict=True)
        ]
        kept = [(p, name) for p, name in pairs if p is not None]
        group["params"][:] = [p for p, _ in kept]
        if "param_names" in group:
            group["param_names"][:] = [name for _, name in kept]

    def _add(self, parameter: nn.Parameter, home: dict[str, Any] | None) -> None:
        group = self.optimizer.param_groups[0] if home is None else home
        group["params"].append(parameter)
        if "param_names" in group:
            group["param_names"].append(f"added.{len(group['params']) - 1}")

    def _move_state(self) -> None:
        state = self.optimizer.state
        for old, new in self.exchanged.items():
            if old not in state:
                continue
            if new is None or new.shape != old.shape:
                self.dropped[old] = state.pop(old)
            else:
                state[new] = state.pop(old)

    def undo(self) -> None:
        state = self.optimizer.state
        for group, before in zip(self.optimizer.param_groups, self.groups, strict=False):
            for key, values in before.items():
                group[key][:] = values
        for old, new in self.exchanged.items():
            if new is not None and new in state:
                moved = state.pop(new)
                if old not in self.dropped:
                    state[old] = moved
        for old, lost in self.dropped.items():
            state[old] = lost
        for parameter, _ in self.added:
            state.pop(parameter, None)
        self.dropped = {}

    def holds(self) -> bool:
        return True
