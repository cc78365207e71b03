"""Models, samples and loaders that a command line names."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.utils import _pytree

from .._errors import explain

__all__ = ["Named", "Sample", "build", "make_loader", "make_sample"]

_NAME = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
_SHAPE = re.compile(r"\d+(,\d+)*")


@dataclass(frozen=True)
class Named:
    """``pkg.mod:name`` on the command line; the current folder counts as importable.

    Args:
        who: the command, for errors.
        option: ``--model``.
        text: what was given.
    """

    who: str
    option: str
    text: str

    @property
    def module(self) -> str:
        """``pkg.mod``."""
        return self._match[1]

    @property
    def code(self) -> str:
        """``pkg.mod.name``."""
        return f"{self._match[1]}.{self._match[2]}"

    @property
    def _match(self) -> re.Match[str]:
        found = _NAME.fullmatch(self.text)
        if found is None:
            rule = f"{self.option} is pkg.mod:name"
            cure = "Name a module that Python can import, a colon, and a function in it"
            raise ValueError(explain(self.who, rule, repr(self.text), cure))

        return found

    def load(self) -> Any:
        """The object.

        Raises:
            ValueError: not written like that.
            ImportError: no such module, or nothing in it has that name.
        """
        name = self.module
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            rule = f"{self.option} must name a module that can be imported"
            cure = "Call it from the folder that holds it, or set PYTHONPATH"
            raise ImportError(explain(self.who, rule, repr(name), cure)) from None
        try:
            for part in self._match[2].split("."):
                found = getattr(found, part)
        except AttributeError:
            rule = f"{self.option} must name something in the module"
            cure = f"See what '{found.__name__}' defines"
            raise ImportError(explain(self.who, rule, repr(self.text), cure)) from None

        return found

    def function(self) -> Callable[..., Any]:
        """The object, which can be called.

        Raises:
            TypeError: it cannot, or is a model and not a function that makes one.
        """
        found = self.load()
        if not callable(found) or isinstance(found, nn.Module):
            rule, got = f"{self.option} must name a function", f"a {type(found).__name__}"
            cure = f"Write 'def make(): return {self._match[2]}'"
            raise TypeError(explain(self.who, rule, got, cure))

        return cast(Callable[..., Any], found)


@dataclass(frozen=True)
class Sample:
    """What goes through the model, and the Python that makes it.

    Args:
        value: a tensor, a tuple of arguments or a dict of named ones.
        code: ``"torch.randn(2, 3, 32, 32)"``.
        module: that the code needs, if any.
    """

    value: Any
    code: str
    module: str | None = None


def build(who: str, text: str) -> nn.Module:
    """The model that a function without arguments returns.

    Raises:
        TypeError: it returns something else.
    """
    torch.manual_seed(0)
    model = Named(who, "--model", text).function()()
    if not isinstance(model, nn.Module):
        rule, got = "--model must return a torch.nn.Module", f"a {type(model).__name__}"
        raise TypeError(explain(who, rule, got, "Return the model itself"))

    return model


def make_loader(who: str, text: str) -> Iterable[Any]:
    """The batches that a function without arguments returns.

    Raises:
        TypeError: they cannot be iterated.
    """
    loader = Named(who, "--loader", text).function()()
    if not isinstance(loader, Iterable):
        rule, got = "--loader must return something to iterate", f"a {type(loader).__name__}"
        raise TypeError(explain(who, rule, got, "Return a DataLoader or a list of batches"))

    return loader


def make_sample(who: str, text: str, model: nn.Module) -> Sample:
    """A sample by shape (normal numbers, the model's dtype) or by function, where the model is.

    Raises:
        ValueError: neither a shape nor a name.
    """
    anchor = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if _SHAPE.fullmatch(text.replace(" ", "")):
        shape = tuple(map(int, text.split(",")))
        noise = torch.randn(shape, dtype=anchor.dtype, generator=torch.Generator().manual_seed(0))
        dtype = "" if anchor.dtype == torch.float32 else f"dtype={anchor.dtype}, "
        seeded = f"{dtype}generator=torch.Generator().manual_seed(0)"
        return Sample(noise.to(anchor.device), f"torch.randn({shape}, {seeded})")

    if ":" not in text:
        rule, cure = "--sample is a shape or pkg.mod:function", "Write it like 2,3,32,32"
        raise ValueError(explain(who, rule, repr(text), cure))
    named = Named(who, "--sample", text)
    value = named.function()()
    moved = _pytree.tree_map_only(torch.Tensor, lambda t: t.to(anchor.device), value)

    return Sample(moved, f"{named.code}()", named.module)
