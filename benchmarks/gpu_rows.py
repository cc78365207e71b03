"""One row: a layer by torch, by torch.compile and by us, and a copy of the same bytes."""

import torch
from torch import Tensor

from benchmarks.cases import Case, Tensors, make_tensors
from benchmarks.contenders import Contender, compiled, eager, float64, ours
from benchmarks.gpu_clock import Clock

__all__ = ["measure_case"]

# Tensor passes that the mathematics asks for: reads and writes of each form.
_FORWARD = {"plain": 2, "relu": 2, "residual_relu": 3}
_BACKWARD = {"plain": 3, "relu": 3, "residual_relu": 5}


def measure_case(case: Case, clock: Clock, *, compiled: bool) -> dict[str, object]:
    """Check, then time forward, backward and both; peak memory of a step."""
    tensors = _on(clock.device, make_tensors(case))
    sides = _sides(case, tensors, with_compile=compiled)
    row: dict[str, object] = {"key": case.key, **case.facts}
    errors = _errors(case, tensors, {name: sides[name] for name in ("eager", "ours")})
    row["errors"] = errors
    # Twice torch's error, and a rounding of the result's own dtype.
    allowed = 2 * errors["eager"] + 4 * torch.finfo(tensors.x.dtype).eps
    if not errors["ours"] <= allowed:
        return row | {"status": "wrong"}

    gradient = tensors.grad
    parts = {
        "forward": {n: (_nothing, lambda _, s=s: s.forward()) for n, s in sides.items()},
        "backward": {
            n: (s.forward, lambda y, s=s: torch.autograd.grad(y, s.gradient_of, gradient))
            for n, s in sides.items()
        },
        "both": {n: (_nothing, lambda _, s=s: _step(s, gradient)) for n, s in sides.items()},
    }
    target = torch.empty_like(tensors.x)
    copy = {"copy": (_nothing, lambda _: target.copy_(tensors.x.detach()))}
    row["ms"] = {part: clock.compare(pairs | copy) for part, pairs in parts.items()}
    row["peak_mib"] = {n: clock.peak(lambda s=s: _step(s, gradient)) for n, s in sides.items()}
    row["passes"] = {"forward": _FORWARD[case.form], "backward": _BACKWARD[case.form]}
    return row | {"status": "ok"}


def _nothing() -> None:
    return None


def _step(side: Contender, gradient: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(side.forward(), side.gradient_of, gradient)


def _sides(case: Case, tensors: Tensors, *, with_compile: bool) -> dict[str, Contender]:
    makers = {"ours": ours, "eager": eager}
    if with_compile:
        makers["compile"] = compiled
    sides = {name: make(case, tensors) for name, make in makers.items()}
    if tensors.x.is_cuda and torch.backends.cudnn.is_available():
        sides["native"] = _without_cudnn(eager(case, tensors))
    for side in sides.values():
        side.layer.to(tensors.x.device)
        side.gradient_of = [*side.arguments, side.layer.weight, side.layer.bias]
    return sides


def _without_cudnn(side: Contender) -> Contender:
    """Without cuDNN; which kernels a backward takes is decided in its forward."""
    function = side.function

    def native(*inputs: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return function(*inputs)

    side.function = native
    return side


def _on(device: torch.device, tensors: Tensors) -> Tensors:
    def move(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return values.detach().to(device).requires_grad_(values.requires_grad)

    return Tensors(*(move(getattr(tensors, name)) for name in tensors.__dataclass_fields__))


def _errors(case: Case, tensors: Tensors, sides: dict[str, Contender]) -> dict[str, float]:
    """Distance of output and input's gradient from float64, relative to their size.

    On a slice of the batch where the whole in float64 would not fit: each side gets the same.
    """
    small = _first(tensors, max(2, min(len(tensors.x), 2**26 // tensors.x[0].numel())))
    judge = float64(case, small)
    judge.layer.to(tensors.x.device)
    judge.gradient_of = judge.arguments[:1]
    want = _results(judge, small.grad.double())
    found = {}
    for name, side in sides.items():
        old = side.arguments
        side.arguments = small.inputs
        probe = Contender(side.layer, side.function, small)
        probe.gradient_of = small.inputs[:1]
        found[name] = max(
            float((got.double() - right).norm() / right.norm())
            for got, right in zip(_results(probe, small.grad), want, strict=True)
        )
        side.arguments = old
    return found


def _first(tensors: Tensors, count: int) -> Tensors:
    def cut(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        part = values.detach()[:count].clone(memory_format=torch.preserve_format)
        return part.requires_grad_(values.requires_grad)

    return Tensors(
        cut(tensors.x), cut(tensors.residual), cut(tensors.grad), tensors.weight, tensors.bias
    )


def _results(side: Contender, gradient: Tensor) -> tuple[Tensor, Tensor]:
    output = side.forward()
    (grad,) = torch.autograd.grad(output, side.gradient_of, gradient)
    return output.detach(), grad
