"""A sample through a model before and after: how far outputs and gradients moved."""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from ._report import Proof
from ._trace_run import attributes_kept

__all__ = ["Mode", "Recording", "compare", "record", "widened"]

Mode = Literal["eval", "train"]


@dataclass(frozen=True)
class Recording:
    """Tensors by name, of one mode."""

    mode: Mode
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


def record(
    model: nn.Module, sample: Any, modes: Sequence[Mode] = ("eval",), *, gradients: bool = True
) -> list[Recording]:
    """Run a sample through the model and leave no trace: buffers, gradients, mode, generator.

    Args:
        model: is called in each mode.
        sample: a tensor; a tuple or list: positional arguments; a dict: keyword arguments.
        modes: ``"eval"``, ``"train"``.
        gradients: of a random cotangent, with respect to parameters and float inputs.
    """
    with attributes_kept(model), _untouched(model):
        return [_record(model, sample, mode, gradients) for mode in modes]


def _record(model: nn.Module, sample: Any, mode: Mode, gradients: bool) -> Recording:
    model.train(mode == "train")
    device = next((t.device for t in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        with torch.set_grad_enabled(gradients):
            inputs, spec = _pytree.tree_flatten(sample)
            inputs = [_leaf(x, gradients) for x in inputs]
            result = _call(model, _pytree.tree_unflatten(inputs, spec))
            outputs = _floats(result)
        found = _gradients(model, inputs, outputs) if gradients else {}

    return Recording(mode, {name: t.detach().clone() for name, t in outputs.items()}, found)


def _leaf(x: Any, gradients: bool) -> Any:
    if not isinstance(x, Tensor):
        return x

    return x.detach().clone().requires_grad_(gradients and x.is_floating_point())


def _call(model: nn.Module, sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return model(**sample)
    if isinstance(sample, (tuple, list)):
        return model(*sample)

    return model(sample)


def _floats(result: Any) -> dict[str, Tensor]:
    leaves = _pytree.tree_leaves(result)
    tensors = [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]

    return {f"output {i}": t for i, t in enumerate(tensors)}


def _gradients(
    model: nn.Module, inputs: list[Any], outputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    wanted: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    wanted |= {
        f"input {i}": x for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad
    }
    ends = [t for t in outputs.values() if t.requires_grad]
    if not wanted or not ends:
        return {}

    generator = torch.Generator().manual_seed(1)
    cotangents = [
        torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t) for t in ends
    ]
    try:
        found = torch.autograd.grad(ends, list(wanted.values()), cotangents, allow_unused=True)
    except RuntimeError as error:
        # The reentrant kind gives gradients to .grad alone, with all hooks: not to be touched here.
        if "torch.utils.checkpoint is incompatible with .grad()" in str(error):
            return {}
        raise

    return {n: g for n, g in zip(wanted, found, strict=True) if g is not None}


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Restore mode and buffers."""
    modes = {module: module.training for module in model.modules()}
    buffers = {
        (module, name): (b, None if b is None else b.detach().clone())
        for module in model.modules()
        for name, b in module._buffers.items()
    }
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for (module, name), (buffer, values) in buffers.items():
                module._buffers[name] = buffer
                if buffer is not None and values is not None and not torch.equal(buffer, values):
                    buffer.copy_(values)


def widened(model: nn.Module, sample: Any) -> tuple[nn.Module, Any] | None:
    """Float64 copies of both, where only real differences show; None if none can be made."""
    try:
        twin = copy.deepcopy(model).double()
    except Exception:  # a model may hold anything
        return None

    def widen(x: Any) -> Any:
        return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return twin, _pytree.tree_map(widen, sample)


def compare(before: Sequence[Recording], after: Sequence[Recording]) -> list[Proof]:
    """Largest deviations per mode; gradients by the names and shapes that both have."""
    proofs = []
    for a, b in zip(before, after, strict=True):
        proofs.append(_deviation(f"outputs, {a.mode}", a.outputs, b.outputs))
        alike = {n: g for n, g in a.gradients.items() if _shape(b.gradients.get(n)) == g.shape}
        if alike:
            proofs.append(_deviation(f"gradients, {a.mode}", alike, b.gradients))

    return proofs


def _deviation(what: str, before: dict[str, Tensor], after: dict[str, Tensor]) -> Proof:
    pairs = [(one, after[name]) for name, one in before.items() if name in after and one.numel()]
    dtype = str(pairs[0][0].dtype if pairs else torch.float32).removeprefix("torch.")
    if any(one.shape != other.shape for one, other in pairs):
        return Proof(what, math.inf, math.inf, dtype)

    # Some gradients are zero but for rounding (of a bias before batch norm), so all have one scale.
    largest = max((_distance(one, other) for one, other in pairs), default=0.0)
    scale = max((float(one.detach().nan_to_num().abs().max()) for one, _ in pairs), default=0.0)

    return Proof(what, largest, largest / scale if scale > 0 else largest, dtype)


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def _distance(one: Tensor, other: Tensor) -> float:
    """Largest difference; equal infinities and NaN on both sides are none, NaN on one is."""
    one, other = one.detach().double(), other.detach().double()
    same = (one == other) | (one.isnan() & other.isnan())
    delta = torch.where(same, 0.0, one - other).abs()

    return float(delta.nan_to_num(nan=math.inf).max())
