"""Which rules run, and what ``[tool.batchnorm.doctor]`` in pyproject.toml says about it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from .._errors import explain
from ._rule import Rule, all_rules

__all__ = ["Config", "read_config"]

_OFF = "BN4"  # noisy rules run only when they are selected


@dataclass(frozen=True)
class Config:
    """What to look for.

    Args:
        select: codes, beginnings of codes (``"BN1"``), names of rules, or ``"ALL"``; empty: all
            but the noisy ones (BN4xx).
        ignore: likewise; the longer beginning wins, and at equal length ``ignore`` does.
        batches: how many batches of the loader live rules look at.

    Example:
        >>> [rule.code for rule in Config(select=("BN00",), ignore=("redundant-bias",)).rules()][0]
        'BN002'
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    batches: int = 8

    def rules(self) -> list[Rule]:
        """The rules that are to run, by code.

        Raises:
            ValueError: an entry fits no rule.
        """
        for entry in (*self.select, *self.ignore):
            if not any(_length(rule, entry) for rule in all_rules()):
                _refuse(f"no rule is called {entry!r}")

        return [rule for rule in all_rules() if self._is_on(rule)]

    def _is_on(self, rule: Rule) -> bool:
        on = max((_length(rule, entry) for entry in self.select), default=0)
        off = max((_length(rule, entry) for entry in self.ignore), default=0)
        if not self.select and not rule.code.startswith(_OFF):
            on = 1

        return on > off

    def updated(
        self, select: Iterable[str] | None = None, ignore: Iterable[str] | None = None
    ) -> Self:
        """With what a call says instead of it."""
        told = {"select": select, "ignore": ignore}
        new: dict[str, Any] = {
            name: _codes(name, value) for name, value in told.items() if value is not None
        }

        return replace(self, **new)


def read_config(source: Config | Mapping[str, Any] | str | Path | None = None) -> Config:
    """Settings from a mapping, or from a TOML file.

    Args:
        source: a ready config; a mapping; a ``pyproject.toml`` (with a table
            ``[tool.batchnorm.doctor]``); None: the ``pyproject.toml`` of this folder or above it,
            if it has that table.

    Raises:
        ValueError: an unknown setting or a value of the wrong kind.
        OSError: the file cannot be read.

    Example:
        >>> read_config({"ignore": ["BN3"], "batches": 4})
        Config(select=(), ignore=('BN3',), batches=4)
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _checked(source)
    if source is not None:
        return _checked(_table(Path(source)))

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (path := folder / "pyproject.toml").is_file():
            return _checked(_table(path))

    return Config()


def _table(path: Path) -> Mapping[str, Any]:
    table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in ("tool", "batchnorm", "doctor"):
        table = table.get(name, {})

    return dict(table)


def _checked(table: Mapping[str, Any]) -> Config:
    known = [field.name for field in fields(Config)]
    unknown = [name for name in table if name not in known]
    if unknown:
        _refuse(f"unknown setting {unknown[0]!r}", f"Use one of {', '.join(known)}")
    codes = {name: _codes(name, table[name]) for name in ("select", "ignore") if name in table}
    batches = table.get("batches", Config.batches)
    if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
        _refuse(f"batches={batches!r}", "Use a positive whole number")

    return Config(**codes, batches=batches)


def _codes(name: str, value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(entry, str) for entry in entries):
        _refuse(f"{name}={value!r}", "Use codes such as 'BN001'")

    return tuple(entry.strip() for entry in entries if entry.strip())


def _length(rule: Rule, entry: str) -> int:
    """How closely an entry fits a rule; 0 if it does not."""
    if entry.upper() == "ALL":
        return 1
    if entry == rule.name:
        return len(rule.code)

    return len(entry) if rule.code.startswith(entry.upper()) else 0


def _refuse(got: str, cure: str = "Use codes such as 'BN001' or 'BN1', names, or 'ALL'") -> None:
    raise ValueError(explain("diagnose", "settings must be known", got, cure))
