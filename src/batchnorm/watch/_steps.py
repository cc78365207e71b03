"""When a step of training begins and ends: the optimizers say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from .._errors import explain

__all__ = ["Steps", "optimizers_of"]


def optimizers_of(given: Any) -> list[Optimizer]:
    """Torch's optimizers, one or several, without what Accelerate or Lightning puts around them.

    Raises:
        TypeError: it is something else.
    """
    if given is None:
        return []
    found = []
    for one in given if isinstance(given, (list, tuple)) else [given]:
        while isinstance(inner := getattr(one, "optimizer", None), Optimizer):
            one = inner
        if not isinstance(one, Optimizer):
            raise TypeError(
                explain(
                    "watch",
                    "optimizer= must be a torch optimizer, or a list of them",
                    f"a {type(one).__name__}",
                    "Leave it out, and call .step() after each step",
                )
            )
        found.append(one)

    return found


class Steps:
    """Calls back around the optimizers' steps.

    Args:
        given: one optimizer, or several of which each makes one step; None: nobody says it.
        before: called before parameters move.
        gradients: called with each optimizer when its gradients are there: before its step, or
            after it if the step itself runs forward and backward (a closure, as Lightning's).
        after: called when the last optimizer is done.
    """

    def __init__(
        self,
        given: Any,
        before: Callable[[], None],
        gradients: Callable[[Any], None],
        after: Callable[[], None],
    ) -> None:
        self.optimizers = optimizers_of(given)
        self._before, self._gradients, self._after = before, gradients, after
        self._handles: list[Any] = []

    def install(self) -> None:
        """Put hooks on the optimizers."""
        for optimizer in self.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._enter))
            self._handles.append(optimizer.register_step_post_hook(self._leave))

    def remove(self) -> None:
        """Take them off."""
        while self._handles:
            self._handles.pop().remove()

    def _enter(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._before()
        if not _has_closure(args, kwargs):
            self._gradients(optimizer)

    def _leave(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _has_closure(args, kwargs):
            self._gradients(optimizer)
        if optimizer is self.optimizers[-1]:
            self._after()


def _has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(callable(arg) for arg in (*args[1:], kwargs.get("closure")))
