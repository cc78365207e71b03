"""Fold batch norm into the layers around it, for inference."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import explain
from ..layers import SequenceBatchNorm
from ._affine import is_norm, left_over, why_no_affine
from ._fold_plan import Plan, plan_fold
from ._graph import Graph, Way
from ._one_domain import domain_left_over
from ._places import kind, paths_of
from ._proof import compare, record, widened
from ._report import Change, Proof, SurgeryReport
from ._swap import Surgery, carry_over, refuse_wrapped
from ._trace import trace

__all__ = ["check_rounding", "fold"]

# Of the largest output, in float64: far above rounding, far below any mistake.
_EXACT = 1e-6
_HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
_HOW: dict[Way, str] = {
    "fx": "",
    "export": "; seen by torch.export, for inputs like the sample",
    "run": "; seen in a run of the sample, other inputs may go other ways",
    "parts": "; seen in a part of the model, taken to be called as a whole",
}


@torch.inference_mode(False)  # parameters made in that mode could never be trained
def fold(model: nn.Module, sample: Any = None) -> SurgeryReport:
    r"""Put every batch norm that can go into the convolution or linear layer next to it.

    .. math:: \gamma \frac{(w * x + b) - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta
        = (s w) * x + s\,(b - \mu) + \beta, \qquad s = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}

    The layer gets a new weight and a bias; an ``Identity`` (or the activation that was fused into
    the batch norm) takes the batch norm's place. Works on torch's layers, ours and timm's, before
    or behind ``Conv1d`` to ``Conv3d``, transposed ones and ``Linear``, also grouped, shared, and
    through dropout and identity. Of a batch norm by domain the one that ``batchnorm.domain`` sets
    during the call, or that the model passes as a number, is folded. Behind a batch norm a
    convolution must not pad with zeros, unless the shift is zero.

    Args:
        model: is changed in place, and stays as it is when the call raises. Batch norms in
            training mode are left.
        sample: a tensor, a tuple of arguments or a dict of named ones. With it the result is
            compared, and models that torch.fx cannot trace are understood better.

    Returns:
        What was folded and what was not, why, and how far the outputs moved. ``undo()`` puts the
        former layers back.

    Raises:
        ValueError: the model has no batch norm, or all of them are in training mode.
        RuntimeError: folding changed the outputs by more than rounding, or
            DistributedDataParallel has wrapped the model.

    Example:
        >>> conv, norm = torch.nn.Conv2d(3, 4, 3), batchnorm.BatchNorm2d(4, activation="relu")
        >>> model = torch.nn.Sequential(conv, norm).eval()
        >>> report = fold(model, torch.randn(2, 3, 8, 8))
        >>> model
        Sequential(
          (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
          (1): ReLU()
        )
    """
    _check(model)
    refuse_wrapped("fold", model)
    exact = sample is not None and _check_exact(model, sample)

    before = [] if sample is None else record(model, sample, gradients=False)
    surgery, changes = _folded(model, sample)
    undo = surgery.undo if any(change.action != "skipped" for change in changes) else None
    proofs: list[Proof] = []
    if sample is not None:
        try:
            proofs = compare(before, record(surgery.model, sample, gradients=False))
            if not exact:
                check_rounding("fold", proofs)
        except BaseException:
            surgery.undo()
            raise

    return SurgeryReport("fold", surgery.model, changes, proofs, undo)


def _folded(model: nn.Module, sample: Any) -> tuple[Surgery, list[Change]]:
    """Fold without proof."""
    graph = trace(model, sample)
    plan = plan_fold(model, graph, _dims(model, sample))
    surgery = Surgery("fold", model)
    for target, kernel in plan.kernels.items():
        new = kernel.made()
        carry_over(target, new)
        surgery.replace(target, new)
    places: dict[nn.Module, nn.Module] = {}
    for layer in plan.folded:
        calls = graph.calls_of(layer)
        extras = any(len(call.args) + len(call.kwargs) > 1 for call in calls)
        one = plan.domains.get(layer)
        new = left_over(layer, extras) if one is None else domain_left_over(layer, extras, one)
        new.train(layer.training)
        new.__dict__.update({name: layer.__dict__[name] for name in _HOOKS})
        places[layer] = new
        surgery.replace(layer, new)
    changes = _changes(model, graph, plan, places, flat=sample is None)
    surgery.commit()

    return surgery, changes


def _dims(model: nn.Module, sample: Any) -> dict[nn.Module, int]:
    """Of the inputs of batch norms; without a sample nobody knows."""
    dims: dict[nn.Module, int] = {}
    if sample is None:
        return dims

    def see(layer: nn.Module, args: Any, kwargs: Any) -> None:
        input = next(iter((*args, *kwargs.values())), None)
        if isinstance(input, Tensor):
            dims[layer] = input.dim()

    with ExitStack() as stack:
        for layer in filter(is_norm, model.modules()):
            handle = layer.register_forward_pre_hook(see, with_kwargs=True)
            stack.callback(handle.remove)
        record(model, sample, gradients=False)

    return dims


def _changes(
    model: nn.Module,
    graph: Graph,
    plan: Plan,
    places: dict[nn.Module, nn.Module],
    *,
    flat: bool,
) -> list[Change]:
    paths = {module: ", ".join(found) for module, found in paths_of(model).items()}
    changes = []
    for module, path in paths.items():
        name = kind(module)
        if module in plan.folded:
            target, is_before = plan.folded[module]
            where = "before" if is_before else "behind"
            reason = f"folded into {paths[target]} {where} it{_HOW[graph.way]}"
            if flat and isinstance(target, nn.Linear) and not isinstance(module, SequenceBatchNorm):
                reason += "; taken to see (N, C)"
            if module in plan.domains:
                reason += f"; as domain {plan.domains[module].name}"
            changes.append(Change(path, "replaced", name, kind(places[module]), reason))
        elif module in plan.kernels:
            changes.append(Change(path, "replaced", name, name, "new weight and bias"))
        elif module in plan.skipped:
            changes.append(Change(path, "skipped", name, "", plan.skipped[module]))

    return changes


def _check(model: nn.Module) -> None:
    layers = [module for module in model.modules() if is_norm(module)]
    if not layers:
        raise ValueError(
            explain(
                "fold",
                "the model must have a batch norm",
                f"{type(model).__name__} without one",
                "There is nothing to fold",
            )
        )
    if all(layer.training and why_no_affine(layer) for layer in layers):
        raise ValueError(
            explain(
                "fold",
                "batch norms must be in eval mode, for only running statistics can be folded",
                f"{len(layers)} in training mode",
                "Call model.eval() before",
            )
        )


def _check_exact(model: nn.Module, sample: Any) -> bool:
    """Fold a float64 copy and compare; whether that was possible.

    Raises:
        RuntimeError: the outputs differ by more than rounding.
    """
    wide = widened(model, sample)
    if wide is None:
        return False
    twin, wide_sample = wide
    try:
        before = record(twin, wide_sample, gradients=False)
    except Exception:  # it computes something in a dtype of its own
        return False
    surgery, _ = _folded(twin, wide_sample)
    proofs = compare(before, record(surgery.model, wide_sample, gradients=False))
    _refuse_above(_EXACT, proofs, "fold")

    return True


def check_rounding(who: str, proofs: list[Proof]) -> None:
    """The proofs show no more than rounding.

    Raises:
        RuntimeError: they show more.
    """
    for proof in proofs:
        _refuse_above(float(torch.finfo(getattr(torch, proof.dtype)).eps) ** 0.5, [proof], who)


def _refuse_above(limit: float, proofs: list[Proof], who: str) -> None:
    worst = max((proof.max_rel for proof in proofs), default=0.0)
    if worst > limit:
        raise RuntimeError(
            explain(
                who,
                "the outputs must stay the same",
                f"an error of {worst:.2g} of the largest value, where {limit:.1g} is rounding",
                "The model is as it was. A layer's output is used where tracing does not see it: "
                "keep hooks and attributes from reading it",
            )
        )
