"""By a run of the sample: which tensor goes where, and nothing of the model changes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from ._graph import Call, Graph, arguments_of, is_leaf, name_of, paths_of

__all__ = ["attributes_kept", "trace_by_run", "unchanged"]


def trace_by_run(model: nn.Module, sample: Any) -> Graph:
    """What happens when the sample runs; other inputs may go other ways.

    Raises:
        Exception: whatever the model raises.
    """
    args, kwargs = arguments_of(sample)
    recorder = _Recorder(model)
    for index, leaf in enumerate(_pytree.tree_leaves((args, kwargs))):
        recorder.give(Call("input", f"input{index}"), leaf)
    with unchanged(model), torch.no_grad(), recorder.watching(model), recorder:
        output = model(*args, **kwargs)
    recorder.calls.append(Call("output", "output", args=recorder.named((output,))))

    return Graph(recorder.calls, "run")


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Every module has the attributes that it had before."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            own = vars(module)
            for name in [name for name in own if name not in attributes]:
                del own[name]
            own.update(attributes)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore every buffer, and the random numbers, when the body is done."""
    buffers = (buffer for buffer in model.buffers() if not is_lazy(buffer))
    before = [(buffer, buffer.clone()) for buffer in buffers]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


class _Recorder(TorchFunctionMode):
    """Writes down calls of layers, and of functions outside of layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.depth = 0
        # Tensors are known by their address, so they must stay alive.
        self.givers: dict[int, tuple[Call, Tensor]] = {}
        for path, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.givers[id(tensor)] = Call("attribute", path, kwargs={"value": tensor}), tensor

    def give(self, call: Call, result: Any) -> None:
        """Write a call down as the giver of the tensors in its result."""
        self.calls.append(call)
        for leaf in _pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.givers[id(leaf)] = call, leaf

    def named(self, arguments: Any) -> Any:
        """Arguments with the giver of each tensor in its place."""
        return _pytree.tree_map_only(Tensor, self._giver, arguments)

    def _giver(self, tensor: Tensor) -> Any:
        giver, _ = self.givers.get(id(tensor), (None, None))
        if giver is None:
            return f"tensor of shape {tuple(tensor.shape)}"
        if giver.kind == "attribute" and giver not in self.calls:
            self.calls.append(giver)

        return giver

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)

        name, inplace = name_of(func)
        inplace = inplace or kwargs.get("inplace") is True
        named_args, named_kwargs = self.named((tuple(args), kwargs))
        result = func(*args, **kwargs)
        self.give(Call("function", name, None, named_args, named_kwargs, inplace), result)

        return result

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Hooks on every layer, removed on every exit."""
        paths = paths_of(model)
        with ExitStack() as stack:
            for module, path in paths.items():
                if path and is_leaf(module):
                    enter, leave = self._hooks(path)
                    first = module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
                    last = module.register_forward_hook(leave, with_kwargs=True)
                    stack.callback(first.remove)
                    stack.callback(last.remove)
            yield

    def _hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arguments.append(self.named((args, kwargs)))
            self.depth += 1

        def leave(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            self.depth -= 1
            named_args, named_kwargs = arguments.pop()
            if not self.depth:
                self.give(Call("module", path, module, named_args, named_kwargs), output)

        return enter, leave
