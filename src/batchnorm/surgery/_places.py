"""Where a model holds a module: as a child of any number of parents, and in plain attributes."""

from collections.abc import Iterator
from typing import Any

from torch import nn

__all__ = ["kind", "paths_of", "places_of", "unreachable_place"]


def kind(module: nn.Module) -> str:
    """The module's class with the package that it comes from: ``"torch.BatchNorm2d"``."""
    cls = type(module)

    return f"{cls.__module__.split('.')[0]}.{cls.__name__}"


def paths_of(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of the model with all its dotted paths, in the model's order."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)

    return paths


def places_of(model: nn.Module, module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """``(container, key)`` of every place that holds this very module.

    Children, and also attributes, lists and dicts of modules that registered no child: a forward
    that goes through them would otherwise keep calling the old layer.
    """
    for parent in model.modules():
        yield from _in_container(parent._modules, module)
        if parent is module:
            continue
        plain = {k: v for k, v in parent.__dict__.items() if not _is_torchs(k)}
        for key, value in plain.items():
            if value is module:
                yield parent.__dict__, key
            elif isinstance(value, (list, dict)):
                yield from _in_container(value, module)


def unreachable_place(model: nn.Module, module: nn.Module) -> str | None:
    """An attribute that holds the module where it cannot be replaced (a tuple, a set), or None."""
    for path, parent in model.named_modules():
        for key, value in parent.__dict__.items():
            fixed = not _is_torchs(key) and isinstance(value, (tuple, set, frozenset))
            if fixed and any(item is module for item in value):
                return f"{path}.{key}".lstrip(".")

    return None


def _in_container(container: Any, module: nn.Module) -> Iterator[tuple[Any, Any]]:
    items = enumerate(container) if isinstance(container, list) else container.items()
    yield from [(container, key) for key, value in items if value is module]


def _is_torchs(key: str) -> bool:
    """Whether an attribute is one of ``nn.Module``'s own dicts."""
    return key in ("_modules", "_parameters", "_buffers") or "_hooks" in key
