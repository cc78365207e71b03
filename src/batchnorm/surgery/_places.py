"""Where a model holds a module: as a child of any number of parents, and in plain attributes."""

from inspect import ismethod
from typing import Any

from torch import nn

__all__ = ["HELD", "Places", "kind", "paths_of", "unreachable_place"]

#: Behind the attribute's name: why a layer stays.
HELD = "holds it in a tuple, set or bound method, where it cannot be exchanged"


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


class Places:
    """Every place of a model that holds a module, found in one pass.

    Children, and also attributes, lists and dicts of modules that registered no child: a forward
    that goes through them would otherwise keep calling the old layer.

    Args:
        model: is looked at now; later changes are not seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places: dict[nn.Module, list[tuple[Any, Any]]] = {}
        self._fixed: dict[nn.Module, str] = {}
        self._seen: set[int] = set()
        for path, parent in model.named_modules():
            self._note(parent._modules)
            for key, value in parent.__dict__.items():
                if not _is_torchs(key) and value is not parent:
                    self._look_into(parent, f"{path}.{key}".lstrip("."), key, value)

    def _look_into(self, parent: nn.Module, path: str, key: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            self._places.setdefault(value, []).append((parent.__dict__, key))
        elif ismethod(value) and isinstance(value.__self__, nn.Module):
            if value.__self__ is not parent:
                self._fixed.setdefault(value.__self__, path)
        else:
            self._look_inside(path, value, fixed=False)

    def _look_inside(self, path: str, value: Any, *, fixed: bool) -> None:
        """Lists and dicts at any depth; what a tuple or set holds on the way cannot be replaced."""
        if not isinstance(value, (list, dict, tuple, set, frozenset)) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        fixed = fixed or not isinstance(value, (list, dict))
        if not fixed:
            self._note(value)
        for item in value.values() if isinstance(value, dict) else value:
            if fixed and isinstance(item, nn.Module):
                self._fixed.setdefault(item, path)
            self._look_inside(path, item, fixed=fixed and not isinstance(item, (list, dict)))

    def _note(self, container: Any) -> None:
        items = enumerate(container) if isinstance(container, list) else container.items()
        for key, value in items:
            if isinstance(value, nn.Module):
                self._places.setdefault(value, []).append((container, key))

    def of(self, module: nn.Module) -> list[tuple[Any, Any]]:
        """``(container, key)`` of every place that holds this very module."""
        return self._places.get(module, [])

    def fixed(self, module: nn.Module) -> str | None:
        """An attribute that holds it where it cannot be replaced, or None."""
        return self._fixed.get(module)


def unreachable_place(model: nn.Module, module: nn.Module) -> str | None:
    """An attribute that holds the module where it cannot be replaced, or None."""
    return Places(model).fixed(module)


def _is_torchs(key: str) -> bool:
    """Whether an attribute is one of ``nn.Module``'s own dicts."""
    return key in ("_modules", "_parameters", "_buffers") or "_hooks" in key
