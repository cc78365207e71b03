"""Single reversible changes, of which an operation is made."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["AssignStep", "CallStep", "CarryStep", "ItemStep", "Step", "WriteStep"]

_MISSING = object()


class Step(Protocol):
    """Something that can be done, and taken back while nobody has changed it since."""

    def do(self) -> None: ...
    def undo(self) -> None: ...
    def holds(self) -> bool:
        """Whether what was done is still there."""
        ...


class ItemStep:
    """One entry of a dict or list: a module's ``_modules``, ``_parameters`` or ``__dict__``."""

    def __init__(self, container: Any, key: Any, value: Any) -> None:
        self.container, self.key, self.value = container, key, value
        self.before: Any = _MISSING

    def _present(self) -> Any:
        try:
            return self.container[self.key]
        except (KeyError, IndexError):
            return _MISSING

    def do(self) -> None:
        self.before = self._present()
        self.container[self.key] = self.value

    def undo(self) -> None:
        if self.before is _MISSING:
            del self.container[self.key]
        else:
            self.container[self.key] = self.before

    def holds(self) -> bool:
        return self._present() is self.value


class AssignStep:
    """One attribute of an object, by plain assignment."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value
        self.before: Any = None

    def do(self) -> None:
        self.before = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.value)

    def undo(self) -> None:
        setattr(self.owner, self.name, self.before)

    def holds(self) -> bool:
        return True  # an attribute may well be set again: it goes back to what it was


class WriteStep:
    """New values in a tensor that stays the same object; the old ones come back bit for bit."""

    def __init__(self, tensor: Tensor, value: Tensor) -> None:
        self.tensor, self.value = tensor, value
        self.before = tensor

    def do(self) -> None:
        self.before = self.tensor.detach().clone()
        with torch.no_grad():
            self.tensor.copy_(self.value)

    def undo(self) -> None:
        with torch.no_grad():
            self.tensor.copy_(self.before)

    def holds(self) -> bool:
        return True


class CarryStep:
    """When a replacement goes, the module that returns takes over what both have shared.

    Parameters are the same objects, but moving or casting a model makes new buffers, and the mode
    is each module's own.
    """

    def __init__(self, old: nn.Module, new: nn.Module) -> None:
        self.old, self.new = old, new
        self.shared = [
            name for name, buffer in old._buffers.items() if new._buffers.get(name) is buffer
        ]

    def do(self) -> None:
        pass

    def undo(self) -> None:
        self.old.training = self.new.training
        for name in self.shared:
            self.old._buffers[name] = self.new._buffers.get(name)

    def holds(self) -> bool:
        return True


class CallStep:
    """Any pair of functions."""

    def __init__(self, do: Callable[[], None], undo: Callable[[], None]) -> None:
        self._do, self._undo = do, undo

    def do(self) -> None:
        self._do()

    def undo(self) -> None:
        self._undo()

    def holds(self) -> bool:
        return True
