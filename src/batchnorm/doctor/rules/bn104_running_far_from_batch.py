"""BN104: running statistics are not those of the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import HARMLESS, in_layers, is_averaged, is_fresh, pooled, running

__all__ = ["Apart", "RunningFarFromBatch", "apart", "layers_apart", "output_gap"]

_SURE = 3.0


class RunningFarFromBatch(Rule):
    """What a layer remembers is far from what the batches show it.

    Checks: running mean and variance against those of the loader's batches, whose examples are the
    independent draws. A layer counts if the difference is both certain and large: in the median
    channel more than three standard errors (of these batches, and of a running average of batches
    of this size), and x̂ differs by more than 0.25 standard deviations in root mean square, what
    statistics of 16 values are off by. One finding, at the layer where it is largest, with the
    difference of the model's outputs between training and eval mode.

    Why it hurts: the network is evaluated on a normalisation it was not trained with. Accuracy in
    evaluation is far below that in training, although nothing was overfitted.

    Example: weights loaded, statistics of another data set or another preprocessing kept.

    Instead: the preprocessing of training; `bn.recalibrate(model, loader)`;
    `bn.train_eval_gap(model, batch)` shows every layer.

    Is the fix safe: there is none here, because it depends on which data is right.

    Source: Wu & Johnson 2021, "Rethinking Batch", section 3 (arXiv:2105.07576).
    """

    code = "BN104"
    name = "running-far-from-batch"
    severity = "warning"
    depth = "live"
    needs = ("loader",)

    def check(self, context: Context) -> Iterator[Finding]:
        """The worst of the layers that are far off."""
        if is_averaged(context):  # BN209's
            return
        found = layers_apart(context)
        if found:
            worst = max(found, key=lambda path: found[path].size)
            yield self.finding(
                worst,
                f"x̂ by running statistics is {found[worst].size:.2g} standard deviations from that"
                f" by the batches, {found[worst].errors:.0f} standard errors;"
                f" so {in_layers(context, list(found))}",
                "Check the preprocessing, or recalibrate",
                size=found[worst].size,
                errors=found[worst].errors,
                output_gap=output_gap(context),
                layers=list(found),
            )


@dataclass(frozen=True)
class Apart:
    """Running against batch statistics of a layer.

    Args:
        errors: of the median channel, in standard errors.
        size: root mean square difference of x̂, in standard deviations.
    """

    errors: float
    size: float

    @property
    def is_far(self) -> bool:
        """Certain and large."""
        return self.errors > _SURE and self.size > HARMLESS


def layers_apart(context: Context) -> dict[str, Apart]:
    """Path → difference, of layers that are far off."""
    assert context.live is not None
    found = {}
    for path, layer in context.layers.items():
        difference = apart(layer, context.live.train.heard[path])
        if difference is not None and difference.is_far:
            found[path] = difference

    return found


def apart(layer: Any, heard: list[Any]) -> Apart | None:
    """How far a layer's memory is from what it heard; None where that cannot be compared."""
    memory, population = running(layer), pooled(heard)
    if memory is None or population is None or is_fresh(layer) or "stats" in _frozen(layer):
        return None
    # 30 draws: fewer give no standard errors worth the name.
    if int(population.batches.min()) < 30 or not all(t.isfinite().all() for t in memory):
        return None

    mean, var = memory
    batch, error = population.result(), population.errors()
    var_batch = batch.var_unbiased
    # The memory is itself an average over about (2 − m)/m batches like these.
    momentum = layer.momentum if layer.momentum is not None else 0.0
    widen = (1 + len(heard) * momentum / (2 - momentum)) ** 0.5
    z = torch.stack(
        [(batch.mean - mean).abs() / error.mean, (var_batch - var).abs() / error.var]
    ).nan_to_num(0.0)
    scale = ((batch.var + layer.eps) / (var.clamp(min=0) + layer.eps)).sqrt()
    shift = (batch.mean - mean) / (var.clamp(min=0) + layer.eps).sqrt()
    size = ((scale - 1).square() + shift.square()).mean().sqrt()

    return Apart(float(z.amax(0).median()) / widen, float(size))


def output_gap(context: Context) -> float | None:
    """Of the model's first outputs: rms of eval minus batch statistics, by the spread of these."""
    assert context.live is not None
    train, evaluated = context.live.norms.outputs, context.live.eval.outputs
    if not (train and evaluated and torch.is_tensor(train[0]) and torch.is_tensor(evaluated[0])):
        return None
    one, two = train[0].double(), evaluated[0].double()
    spread = (one - one.mean(0)).square().mean().sqrt()

    return float((two - one).square().mean().sqrt() / spread) if spread > 0 else None


def _frozen(layer: Any) -> tuple[str, ...]:
    return tuple(getattr(layer, "frozen", ()))
