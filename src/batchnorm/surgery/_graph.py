"""What feeds what between the modules of a model, and which way that was found out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree

__all__ = ["Call", "Graph", "Kind", "Way", "arguments_of", "is_leaf", "name_of", "paths_of"]

Kind = Literal["input", "module", "function", "attribute", "output"]
Way = Literal["fx", "export", "run", "parts"]
"""``"fx"``: traced symbolically, holds for every input. ``"export"``: by torch.export, for inputs
like the sample. ``"run"``: watched while the sample ran. ``"parts"``: the parts that torch.fx can
trace, each taken to be called as a whole."""

_LAYERS = (_ConvNd, _NormBase, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.RNNBase, nn.Embedding)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_SPELLINGS = {"iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul", "isub": "sub"}
# What is asked of a tensor without looking at its values.
_SHAPES = {"size", "shape", "dim", "ndim", "ndimension", "numel", "nelement", "len", "sym_size"}
_KINDS = {"dtype", "device", "layout", "stride", "itemsize", "element_size", "requires_grad"}
_ABOUT = _SHAPES | _KINDS | {"is_contiguous", "is_cuda", "is_floating_point", "is_complex"}
_UNMOVED = frozenset({"contiguous", "clone", "alias"})


@dataclass(eq=False)
class Call:
    """One call of a module or function, or a value that comes from outside.

    Args:
        kind: what it is; see ``Kind``.
        target: the module's or parameter's dotted path, the function's bare name (``"add"`` for
            ``+``, ``+=``, ``torch.add`` and ``Tensor.add_``), or the input's name.
        module: the module that is called.
        args: its arguments, with a ``Call`` wherever a tensor comes from one.
        kwargs: likewise. By ``"export"`` a module's arguments are all in ``args``, in order.
        inplace: whether a function overwrites its first argument.
    """

    kind: Kind
    target: str
    module: nn.Module | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    inplace: bool = False

    @property
    def inputs(self) -> list[Call]:
        """The calls among the arguments, each once, in order."""
        leaves = _pytree.tree_leaves((self.args, self.kwargs))
        return list(dict.fromkeys(leaf for leaf in leaves if isinstance(leaf, Call)))

    @property
    def first(self) -> Call | None:
        """The call that gives the first argument."""
        first = next(iter([*self.args, *self.kwargs.values()]), None)
        return first if isinstance(first, Call) else None

    @property
    def is_about(self) -> bool:
        """Whether it asks for a shape, dtype or device, not for values."""
        asked = self.args[1] if self.target == "getattr" and len(self.args) > 1 else self.target
        return self.kind == "function" and str(asked) in _ABOUT

    @property
    def is_passing(self) -> bool:
        """Whether the first argument comes out as it is: identity, or dropout that is off."""
        if self.module is not None and (
            self.module._forward_hooks or self.module._forward_pre_hooks
        ):
            return False
        if isinstance(self.module, nn.Identity):
            return True
        if isinstance(self.module, nn.modules.dropout._DropoutNd):
            return not self.module.training or self.module.p <= 0.0
        if self.kind != "function":
            return False

        off = self._option("training", 2) is False or self._option("p", 1) == 0
        return self.target in _UNMOVED or ("dropout" in self.target and off)

    def _option(self, name: str, position: int) -> Any:
        at = self.args[position] if len(self.args) > position else None
        return self.kwargs.get(name, at)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.target!r}>"


@dataclass
class Graph:
    """Calls in the order in which they happen.

    Args:
        calls: all of them.
        way: how they were found out.
        notes: why better ways did not work, and what is assumed; one sentence each.
        through: calls that are to count as identity, beside those that are.
        model: what was traced.
    """

    calls: list[Call]
    way: Way
    notes: tuple[str, ...] = ()
    through: set[Call] = field(default_factory=set)
    model: nn.Module | None = None

    def __post_init__(self) -> None:
        self._consumers: dict[Call, list[Call]] = {call: [] for call in self.calls}
        for call in self.calls:
            for source in call.inputs:
                self._consumers[source].append(call)

    def consumers(self, call: Call) -> list[Call]:
        """Who reads the values that a call gives; asking for its shape does not count."""
        return [reader for reader in self._consumers[call] if not reader.is_about]

    def calls_of(self, module: nn.Module) -> list[Call]:
        """The calls of one module, whichever path they go by."""
        return [call for call in self.calls if call.module is module]

    def modules(self) -> Iterator[nn.Module]:
        """The called modules, each once."""
        yield from dict.fromkeys(call.module for call in self.calls if call.module is not None)

    def reads_parameters_of(self, module: nn.Module) -> bool:
        """Whether someone else uses the module's parameters or buffers directly."""
        own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        attributes = (call for call in self.calls if id(call.kwargs.get("value")) in own)
        return any(self.consumers(call) for call in attributes)

    def is_watched(self, first: nn.Module, second: nn.Module) -> bool:
        """Whether hooks see what ``first`` gives to ``second``: their own, or a container's."""
        modules = [] if self.model is None else list(self.model.modules())
        behind = (m for m in modules if m._forward_hooks)
        ahead = (m for m in modules if m._forward_pre_hooks)

        return any(_holds(m, first) and not _holds(m, second) for m in behind) or any(
            _holds(m, second) and not _holds(m, first) for m in ahead
        )

    def _passes(self, call: Call) -> bool:
        return call in self.through or call.is_passing

    def source(self, call: Call) -> Call | None:
        """Who gives the first argument, seen through identity and dropout that is off.

        None if it does not come from a call, or anyone on the way reads it too.
        """
        source = call.first
        while source is not None and self.consumers(source) == [call]:
            if not self._passes(source):
                return source
            call, source = source, source.first

        return None

    def reader(self, call: Call) -> Call | None:
        """The only one who reads a call's values, seen through identity and dropout that is off."""
        readers = self.consumers(call)
        while len(readers) == 1 and self._passes(readers[0]):
            call = readers[0]
            readers = self.consumers(call)

        return readers[0] if len(readers) == 1 else None


def _holds(container: nn.Module, module: nn.Module) -> bool:
    return any(part is module for part in container.modules())


def is_leaf(module: nn.Module) -> bool:
    """Whether a module counts as one call, or one looks inside it."""
    if isinstance(module, _CONTAINERS):
        return False
    home = type(module).__module__
    if home.startswith("torch.nn.parallel"):
        return False

    ours = home.startswith(("torch.nn.", "torch.ao.nn.", "batchnorm.layers.", "batchnorm.surgery."))
    frozen = type(module).__name__ == "FrozenBatchNorm2d"  # torchvision's and detectron2's
    return ours or frozen or isinstance(module, _LAYERS)


def name_of(function: Any) -> tuple[str, bool]:
    """Bare name of a function, and whether it works in place.

    Example:
        >>> name_of(torch.Tensor.__iadd__), name_of(torch.ops.aten.relu_.default)
        (('add', True), ('relu', True))
    """
    if schema := getattr(function, "_schema", None):
        name = schema.name.split("::")[-1]
    else:
        name = function if isinstance(function, str) else getattr(function, "__name__", "")
    if name == "__get__":  # a property of a tensor, such as x.shape
        name = getattr(getattr(function, "__self__", None), "__name__", name)

    bare = name.strip("_")
    augmented = bare in ("iadd", "imul", "isub")
    return _SPELLINGS.get(bare, bare), augmented or (name.endswith("_") and name[:2] != "__")


def paths_of(model: nn.Module) -> dict[nn.Module, str]:
    """The first dotted path of every module."""
    return {module: path for path, module in model.named_modules()}


def arguments_of(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A sample as the arguments of a call.

    Args:
        sample: a tensor, a tuple or list of arguments, or a dict of named ones.

    Example:
        >>> arguments_of({"x": 1}), arguments_of((1, 2)), arguments_of(3)
        (((), {'x': 1}), ((1, 2), {}), ((3,), {}))
    """
    if isinstance(sample, dict):
        return (), sample
    if isinstance(sample, Sequence) and not isinstance(sample, str | Tensor):
        return tuple(sample), {}

    return (sample,), {}
