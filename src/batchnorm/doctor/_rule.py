"""What every rule is, and how rules are found and chosen."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..surgery import SurgeryReport
from ._finding import Finding, Severity

if TYPE_CHECKING:
    from ._context import Context

__all__ = ["Depth", "Need", "Rule", "all_rules"]

Depth = Literal["tree", "trace", "live"]
"""``"tree"``: the modules alone. ``"trace"``: what feeds what. ``"live"``: a few batches."""

Need = Literal["sample", "loader", "optimizer", "loss_fn", "distributed"]


class Rule(ABC):
    """One check. Its docstring is its page.

    Attributes:
        code: ``"BN001"``; never used again for anything else.
        name: lower case with hyphens; the file is ``bn001_<name with underscores>.py``.
        severity: of its findings, where one does not say otherwise.
        depth: what it looks at; the runner leaves it out where that is not to be had.
        needs: what else must have been passed.
        fixable: whether it has a :meth:`fix`.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    depth: ClassVar[Depth]
    needs: ClassVar[tuple[Need, ...]] = ()
    fixable: ClassVar[bool] = False

    @abstractmethod
    def check(self, context: Context) -> Iterator[Finding]:
        """The faults, in the order of the model; the model stays as it is."""

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Cure one fault by surgery."""
        raise NotImplementedError(f"{self.code} has no fix")

    def finding(
        self,
        path: str,
        message: str,
        remedy: str,
        *,
        severity: Severity | None = None,
        fixable: bool | None = None,
        **measured: Any,
    ) -> Finding:
        """A finding of this rule; sentences without the full stop at the end."""
        return Finding(
            self.code,
            self.name,
            severity or self.severity,
            path,
            message,
            remedy,
            measured,
            self.fixable if fixable is None else fixable,
        )


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule of the folder ``rules``, by code.

    Example:
        >>> all_rules()[0].code
        'BN001'
    """
    from . import rules

    names = (module.name for module in pkgutil.iter_modules(rules.__path__))
    modules = (
        importlib.import_module(f"{rules.__name__}.{name}") for name in names if name[0] != "_"
    )
    found = [
        value()
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Rule)
        and value.__module__ == module.__name__
    ]

    return tuple(sorted(found, key=lambda rule: rule.code))
