"""The doctor's rules as alerts of a watched training."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from ..watch import Moment
from ._context import Context
from ._examine import examine
from ._finding import Finding
from ._rule import Rule, all_rules
from ._statistics import remaining

__all__ = ["WhileTraining", "while_training"]

_CODES = ("BN101", "BN104", "BN105", "BN106", "BN107", "BN110", "BN111", "BN112")


class WhileTraining:
    """A rule of ``bn.watch`` that asks rules of the doctor; made by :func:`while_training`."""

    def __init__(self, rules: Iterable[Rule], every: int) -> None:
        rules = list(rules)
        self._still = [rule for rule in rules if rule.depth == "tree"]
        self._live = [rule for rule in rules if rule.depth != "tree"]
        self._every, self._moments = every, 0
        self._found: list[Finding] = []

    def __call__(self, moment: Moment) -> Iterator[Finding]:
        """What the rules find now; those that run the model stay at what they found last."""
        context = Context(moment.model, optimizer=next(iter(moment.optimizers), None))
        yield from examine(context, self._still)

        if self._moments % self._every == 0 and self._moments and moment.batch is not None:
            batch = _by_name(moment.model, *moment.batch)
            context = Context(moment.model, loader=[batch], optimizer=context.optimizer)
            self._found = [
                finding
                for finding in examine(context, self._live)
                if finding.code != "BN104" or _is_settled(context)
            ]
        self._moments += 1
        yield from self._found


def while_training(
    *,
    select: Iterable[str] = _CODES,
    ignore: Iterable[str] = (),
    every: int = 10,
) -> WhileTraining:
    """The doctor's rules for ``bn.watch(model, rules=[...])``.

    Args:
        select: codes of rules, or their beginnings; those on statistics that a training can break.
        ignore: codes, or beginnings, to leave out.
        every: rules that run the model are asked at each so many-th recorded step, on that step's
            batch: a few forwards, with the model left as it is. The others are asked each time.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
        >>> with bn.watch(model, rules=[while_training()], on_alert=None) as watching:
        ...     y = model(torch.randn(32, 2))
        ...     model[0].running_var[0] = torch.nan
        ...     watching.step()
        >>> watching.alerts[0].code
        'BN101'
    """
    chosen = (
        rule
        for rule in all_rules()
        if rule.code.startswith(tuple(select)) and not rule.code.startswith(tuple(ignore))
    )

    return WhileTraining(chosen, every)


def _is_settled(context: Context) -> bool:
    """Whether running statistics have forgotten what they began with: less than 1 % is left."""
    return all(remaining(layer) < 0.01 for layer in context.layers.values())


def _by_name(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
