"""Options of layers, and which layers, from the command line."""

import ast
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Annotated, Any

from cyclopts import Parameter
from torch import nn

from .._errors import explain

__all__ = ["Only", "Options", "choose", "parse_options"]

Only = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Options = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


def parse_options(who: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """``("momentum=0.01",)`` → ``{"momentum": 0.01}``; what is no Python value is a text.

    Raises:
        ValueError: not written like that.

    Example:
        >>> parse_options("batchnorm convert", ("ghost-batch-size=32", "activation=relu"))
        {'ghost_batch_size': 32, 'activation': 'relu'}
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            rule, cure = "--option is name=value", "Write it like momentum=0.01"
            raise ValueError(explain(who, rule, repr(text), cure))
        try:
            found[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            found[name] = value.strip()

    return found


def choose(
    patterns: tuple[str, ...],
) -> tuple[Callable[[str, nn.Module], bool] | None, dict[str, str]]:
    """Which paths, as a function and as the Python that makes it; None and nothing for all."""
    if not patterns:
        return None, {}

    def only(path: str, layer: nn.Module) -> bool:
        return any(fnmatch(path, pattern) for pattern in patterns)

    code = f"lambda path, layer: any(fnmatch(path, p) for p in {patterns!r})"

    return only, {"only": code}
