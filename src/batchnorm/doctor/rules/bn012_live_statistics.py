"""BN012: statistics move under weights that do not."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ...surgery import Change, SurgeryReport
from ...surgery._hold import can_hold, plan_hold
from .._context import Context
from .._finding import Finding
from .._operate import operate
from .._rule import Rule
from .._training import covering, is_training, is_updating, learns, modes_in_training, named, twins
from .._walk import upstream

__all__ = ["LiveStatistics"]


class LiveStatistics(Rule):
    """Weights are frozen by `requires_grad=False`, and the running statistics go on moving.

    Checks: a batch norm that updates its statistics in training, though neither its own weight and
    bias nor any parameter before it is trained, in a model that trains others. A momentum teacher
    is no fault: a part that has a twin of the same class and parameters beside it which is trained
    (BYOL, MoCo, Mean Teacher). One finding per part of the model whose batch norms are all like
    that.

    Why it hurts: `requires_grad=False` does not stop the statistics, and the next `model.train()`
    undoes `.eval()`. The frozen part then normalises by the new batches in training and drifts
    away from what it computed, although its checkpoint says that nothing was trained.

    Example: `model.backbone.requires_grad_(False); model.train()`

    Instead: `bn.freeze(model.backbone)`, which survives `model.train()`. If the statistics are
    meant to adapt to new data, say so: `model.backbone.batchnorm_ignore = {"BN012"}`.

    Is the fix safe: yes for inference, which computes the same. In training these layers normalise
    by their running statistics from now on; torch's become ours, with the same `state_dict`.

    Source: pytorch issue 86590.
    """

    code = "BN012"
    name = "live-statistics"
    severity = "warning"
    depth = "tree"
    fixable = True

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model whose weights are frozen and whose statistics are not."""
        trains = any(learns(context, p) for p in context.model.parameters())
        if not is_training(context) or not trains:
            return
        modes = modes_in_training(context)
        paths = [path for path, on in modes.items() if on and _is_left(context, path)]
        for path, layers in covering(context, paths).items():
            yield self.finding(
                path,
                f"frozen weights, and {named(len(layers), 'batch norm')} whose statistics move",
                "Use batchnorm.freeze() on it",
                fixable=all(can_hold(context.model, context.layers[p]) for p in layers),
                layers=layers,
            )

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Freeze the statistics."""
        layers: list[Any] = [context.layers[path] for path in finding.measured["layers"]]
        change = Change(finding.path, "changed", "moving", "frozen=stats", finding.code)

        return operate(context, change, lambda surgery: _hold(surgery, layers))


def _hold(surgery: Any, layers: list[Any]) -> None:
    plan_hold(surgery, layers, stats=True, affine=False)


def _is_left(context: Context, path: str) -> bool:
    """Whether statistics are all that training changes here."""
    layer = context.layers[path]
    before = upstream(context, path)
    weights = [*before, *layer.parameters()]

    still = bool(before) and is_updating(layer) and not any(learns(context, p) for p in weights)

    return still and not _is_taught(context, path, before)


def _is_taught(context: Context, path: str, before: list[Tensor]) -> bool:
    """Whether it follows a twin that is trained, and does not feed it."""
    own = {id(parameter) for parameter in before}
    for twin in twins(context, path):
        other = upstream(context, twin)
        if any(learns(context, p) for p in other) and not own <= {id(p) for p in other}:
            return True

    return False
