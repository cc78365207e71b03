"""The file format of a recording: which rows there are, and what each number in them means.

A recording is a JSON lines file or a Parquet file. Every row has a ``type``:

- ``"run"``: the first row; in Parquet the entry ``batchnorm.run`` of the file's metadata, as JSON.
- ``"layer"``: one place in the model at one step.
- ``"scalar"``: a number of your own: the loss, the learning rate.
- ``"alert"``: a fault that was seen while training.

A number that is not finite, was not measured or does not apply is null.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "ALERT",
    "BINS",
    "COLUMNS",
    "FORMAT",
    "HISTOGRAMS",
    "LAYER",
    "PERCENTILES",
    "QUANTITIES",
    "RUN_KEY",
    "SCALAR",
    "Kind",
    "Quantity",
    "Recording",
    "Row",
]

FORMAT = 1
"""Written into every file; raised when a column changes its meaning."""

RUN_KEY = "batchnorm.run"
"""Where a Parquet file keeps the run's row, as JSON."""

Kind = Literal["batchnorm", "activation", "weights", "other"]
"""``"batchnorm"``: a layer of ours, torch's or a subclass. ``"activation"``: ReLU and the like.
``"weights"``: a layer with parameters of which only these are watched. ``"other"``: any module that
was asked for."""

Row = dict[str, Any]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

BINS = 32
"""Equal bins from ``*_low`` to ``*_high``; values beyond count in the first and the last."""


@dataclass(frozen=True)
class Quantity:
    """One number of a layer at a step.

    Args:
        name: of the column.
        unit: of the number: ``"x"`` for units of the values, ``""`` for a pure number.
        text: what it is, one line.
    """

    name: str
    unit: str
    text: str


def _distribution(prefix: str, what: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{prefix}_mean", "x", f"mean of all {what} values"),
        Quantity(f"{prefix}_std", "x", f"standard deviation of all {what} values"),
        *(
            Quantity(f"{prefix}_p{p:02d}", "x", f"{p} % of the {what} values are below")
            for p in PERCENTILES
        ),
        Quantity(f"{prefix}_low", "x", f"lower end of the {what} histogram"),
        Quantity(f"{prefix}_high", "x", f"upper end of the {what} histogram"),
        Quantity(f"{prefix}_nonfinite", "channels", f"{what} channels with NaN or infinity"),
    )


QUANTITIES: tuple[Quantity, ...] = (
    *_distribution("in", "input"),
    *_distribution("out", "output"),
    Quantity(
        "samples", "values", "per channel in one normalisation: batch × positions, no padding"
    ),
    Quantity("independent", "values", "independent values that these are worth"),
    Quantity("distance_mean", "σ", "batch mean − running mean, in running standard deviations"),
    Quantity("distance_std", "", "size of ln(batch std / running std)"),
    Quantity("distance_errors", "se", "batch mean − running mean in its standard errors; fine: 1"),
    Quantity("updates", "1/step", "updates of the running statistics per step since the last row"),
    Quantity("updates_per_call", "", "the same per call of this step; 2: a recomputation counts"),
    Quantity("stale", "steps", "since the running statistics last changed"),
    Quantity("shift", "σ", "change of the input distribution since the last row"),
    Quantity("shift_noise", "σ", "what that change is by chance alone"),
    Quantity("dead", "", "share of channels whose output is one value, or zero after a ReLU"),
    Quantity("saturated", "", "share of output values at the ends of a sigmoid or tanh"),
    Quantity("weight_mean", "", "mean of the weight"),
    Quantity("weight_std", "", "standard deviation of the weight over its values"),
    Quantity("weight_small", "", "share of weights below 1 % of the largest"),
    Quantity("bias_mean", "", "mean of the bias"),
    Quantity("bias_std", "", "standard deviation of the bias over its values"),
    Quantity("weight_norm", "", "‖w‖ of the layer's own parameters together"),
    Quantity("grad_norm", "", "‖gradient‖ of the layer's own parameters together"),
    Quantity("grad_ratio", "", "‖gradient‖ / ‖w‖"),
    Quantity("update_ratio", "", "‖change of w by the optimizer‖ / ‖w‖"),
    Quantity("condition", "", "largest / smallest eigenvalue of the input's covariance"),
    Quantity("rank", "", "effective rank of that covariance: (Σλ)² / Σλ²"),
)
"""Every number of a layer row, in the order of the columns."""

HISTOGRAMS = ("in_hist", "out_hist")
"""Columns with a list of :data:`BINS` counts, between ``in_low`` and ``in_high``."""

# Column → what it holds: "int", "float", "str", "bool", "counts".
_PLACE = {"type": "str", "step": "int", "seconds": "float", "path": "str"}
LAYER = (
    _PLACE
    | {"order": "int", "kind": "str", "channels": "int", "training": "bool"}
    | {quantity.name: "float" for quantity in QUANTITIES}
    | dict.fromkeys(HISTOGRAMS, "counts")
)
"""Columns of a layer row. ``path`` is dotted; the second call in one forward is ``path:2``.
``order`` counts places in the order of the forward; ``seconds`` since the start."""

SCALAR = {"type": "str", "step": "int", "seconds": "float", "name": "str", "value": "float"}
"""Columns of a scalar row."""

ALERT = _PLACE | dict.fromkeys(("code", "name", "severity", "message", "remedy", "measured"), "str")
"""Columns of an alert row; ``measured`` is a JSON object of numbers by name."""

COLUMNS = LAYER | SCALAR | ALERT
"""All columns of a Parquet file."""


@dataclass
class Recording:
    """What a file holds.

    Args:
        run: ``format``, ``name``, ``started`` (UTC, ISO), ``batchnorm``, ``torch``, ``every``
            (steps between rows), ``ranks``, ``model`` (class name).
        layers: rows as in :data:`LAYER`, by step, then by order; absent numbers are None.
        scalars: rows as in :data:`SCALAR`.
        alerts: rows as in :data:`ALERT`.
    """

    run: Row
    layers: list[Row] = field(default_factory=list)
    scalars: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
