"""BN109: a momentum that does not average."""

from collections.abc import Iterator

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._statistics import in_layers, is_fresh

__all__ = ["ExtremeMomentum"]

_MOST = 0.5


class ExtremeMomentum(Rule):
    """A momentum of 0, or one that remembers three batches or fewer.

    Checks: `momentum` 0 (*warning* if the statistics are still the initial ones, else *info*), or
    0.5 and more: an average that weighs the new batch by m is as noisy as the plain average of
    (2 − m)/m batches, which is 3 at 0.5 and 1 at 1. One finding per value, at the first layer.

    Why it hurts: with 0 the running statistics never learn. Near 1 evaluation depends on the last
    batch that training happened to see. Mostly it is another framework's convention: Keras's and
    Flax's `momentum=0.99` weighs the *old*, and is 0.01 here.

    Example: `nn.BatchNorm2d(64, momentum=0.99)`

    Instead: `momentum=0.01` for Keras's 0.99; 0.1 is the default. To hold statistics still,
    `bn.freeze(model)`.

    Is the fix safe: there is none; whether 0.99 was meant as 0.01 the code does not say.

    Source: pytorch/examples#289; keras#6839; the layers' documentation.
    """

    code = "BN109"
    name = "extreme-momentum"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding per value."""
        by_value: dict[tuple[float, bool], list[str]] = {}
        for path, layer in context.layers.items():
            held = "stats" in getattr(layer, "frozen", ()) or not layer.track_running_stats
            if layer.momentum is None or held or 0 < layer.momentum < _MOST:
                continue
            by_value.setdefault((layer.momentum, is_fresh(layer)), []).append(path)
        for (momentum, fresh), paths in by_value.items():
            still = momentum == 0
            yield self.finding(
                paths[0],
                f"momentum={momentum:g} {in_layers(context, paths)}: "
                + ("they never learn" if still else "the last batches decide the evaluation"),
                "Use bn.freeze to hold statistics"
                if still and not fresh
                else f"Use {_meant(momentum):g}",
                severity="info" if still and not fresh else "warning",
                momentum=momentum,
                layers=paths,
            )


def _meant(momentum: float) -> float:
    """The value here that another framework's convention means."""
    return round(1 - momentum, 6) if _MOST < momentum < 1 else 0.1
