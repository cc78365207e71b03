"""Charts of figure 1 as Altair objects; their surroundings and text colours are set elsewhere.

Series colours have a contrast of at least 3:1 to white and to the report's dark background, and
series also differ by dash or by shape.
"""

import math
from collections.abc import Iterable
from typing import Any

import altair as alt

from ..demo import Result
from ..experiments._figure1_result import ArmCurve

__all__ = ["COLOURS", "accuracy", "agreement", "percentiles", "shared_domain", "sweep"]

COLOURS = {"plain": "#c9590c", "batchnorm": "#2f7fd6", "torch": "#2a9463"}
DASHES = {"plain": [1, 0], "batchnorm": [1, 0], "torch": [5, 4]}
SHAPES = {"plain": "square", "batchnorm": "circle", "torch": "triangle-up"}
HEIGHT = 300
Row = dict[str, Any]


def accuracy(result: Result) -> Any:
    """Test accuracy over steps: mean over seeds, with the range over seeds as a band."""
    rows = [row for arm in result.arms.values() for row in _accuracy_rows(arm)]
    arms = list(result.arms.values())
    base = _chart(rows).encode(x=_step_axis(), color=_colour(arms, "bottom-right"))
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format=".0%", title="test accuracy")
    band = base.transform_filter("datum.arm != 'torch'").mark_area(opacity=0.22)
    line = base.mark_line(strokeWidth=2.2).encode(
        y=alt.Y("mean:Q", scale=scale, axis=axis),
        strokeDash=_dash(arms, "bottom-right"),
        tooltip=[
            alt.Tooltip("label:N", title="network"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("mean:Q", format=".1%", title="mean"),
            alt.Tooltip("low:Q", format=".1%", title="lowest seed"),
            alt.Tooltip("high:Q", format=".1%", title="highest seed"),
        ],
    )
    return _sized(
        alt.layer(band.encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q"), line)
    )


def _accuracy_rows(arm: ArmCurve) -> Iterable[Row]:
    for step, found in zip(arm.steps, arm.accuracy, strict=True):
        yield {
            "arm": arm.name,
            "label": arm.label,
            "step": step,
            "mean": found.mean,
            "low": min(found.values),
            "high": max(found.values),
        }


def shared_domain(result: Result) -> tuple[float, float]:
    """One y range for the percentile charts of all arms, so that they can be compared."""
    values = [v for arm in result.arms.values() for row in arm.percentiles for v in row]
    return min(values), max(values)


def percentiles(result: Result, name: str) -> Any:
    """15th, 50th and 85th percentile over training of what enters one unit's sigmoid."""
    arm = result.arms[name]
    rows = [
        {"step": step, "p15": low, "p50": middle, "p85": high}
        for step, (low, middle, high) in zip(arm.steps, arm.percentiles, strict=False)
    ]
    scale = alt.Scale(domain=list(shared_domain(result)), nice=True)
    axis = alt.Axis(title="input of the sigmoid")
    base = _chart(rows).encode(
        x=_step_axis(),
        tooltip=[alt.Tooltip("step:Q", format=",")]
        + [alt.Tooltip(f"p{p}:Q", format=".2f", title=f"{p}th percentile") for p in (85, 50, 15)],
    )
    colour = COLOURS[name]

    def line(field: str, width: float, dash: list[int]) -> Any:
        mark = base.mark_line(color=colour, strokeWidth=width, strokeDash=dash)
        return mark.encode(y=alt.Y(f"{field}:Q", scale=scale, axis=axis))

    band = base.mark_area(color=colour, opacity=0.18).encode(
        y=alt.Y("p15:Q", scale=scale, axis=axis), y2="p85:Q"
    )
    outer = [line(field, 1.2, [4, 3]) for field in ("p15", "p85")]
    return _sized(alt.layer(band, *outer, line("p50", 2.4, [1, 0]), *_ends(rows[-1], scale, axis)))


def _ends(last: Row, scale: alt.Scale, axis: alt.Axis) -> list[Any]:
    """The percentiles' names, at the right end of their lines."""
    names = [{"step": last["step"], "y": last[f"p{p}"], "name": f"{p}th"} for p in (15, 50, 85)]
    text = _chart(names).mark_text(align="left", dx=5, fontSize=11)
    return [text.encode(x="step:Q", y=alt.Y("y:Q", scale=scale, axis=axis), text="name:N")]


def sweep(result: Result) -> Any:
    """Test accuracy after the sweep's steps against the learning rate, on a logarithmic axis."""
    arms = [arm for arm in result.arms.values() if any(r.arm == arm.name for r in result.sweep)]
    rows = [
        {
            "label": result.arms[row.arm].label,
            "lr": row.lr,
            "mean": row.accuracy.mean,
            "low": min(row.accuracy.values),
            "high": max(row.accuracy.values),
            "trains": f"{sum(row.trains)} of {len(row.trains)}",
        }
        for row in result.sweep
    ]
    rates = sorted({row.lr for row in result.sweep})
    x = alt.X(
        "lr:Q",
        title="learning rate (logarithmic)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=8),
        axis=alt.Axis(values=rates, format="~g", grid=False, labelOverlap="greedy"),
    )
    base = _chart(rows).encode(x=x, color=_colour(arms, "bottom-left"))
    y = alt.Y("mean:Q", axis=alt.Axis(format=".0%", title="test accuracy"))
    y = y.scale(domain=[0, 1])
    tooltip = [
        alt.Tooltip("label:N", title="network"),
        alt.Tooltip("lr:Q", title="learning rate"),
        alt.Tooltip("mean:Q", format=".1%", title="mean accuracy"),
        alt.Tooltip("trains:N", title="seeds that train"),
    ]
    bars = base.mark_rule(strokeWidth=1.5).encode(
        y=alt.Y("low:Q").scale(domain=[0, 1]), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2).encode(y=y)
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        y=y, shape=_shape(arms, "bottom-left"), tooltip=tooltip
    )
    return _sized(alt.layer(bars, line, dots))


def agreement(result: Result) -> Any:
    """Relative difference of the training losses: ours to torch's, and torch's to itself."""
    check = result.agreement
    series = {"ours against torch’s": check.ours, "torch’s, weights nudged": check.nudged}
    smallest = min((v for values in series.values() for v in values if v), default=1e-8)
    largest = max(max(check.ours), max(check.nudged), smallest)
    decades = [10.0**e for e in range(_exponent(smallest), _exponent(largest) + 2)]
    rows = [
        {"label": label, "step": step, "difference": max(value, smallest)}
        for label, values in series.items()
        for step, value in enumerate(values, 1)
    ]
    return _sized(
        _chart(rows)
        .mark_line(strokeWidth=1.8)
        .encode(
            x=_step_axis(),
            y=alt.Y(
                "difference:Q",
                title="relative difference of losses",
                scale=alt.Scale(type="log", domain=[decades[0], decades[-1]]),
                axis=alt.Axis(format=".0e", values=decades),
            ),
            color=_nominal(
                alt.Color, list(series), [COLOURS["batchnorm"], COLOURS["torch"]], "bottom-right"
            ),
            strokeDash=_nominal(alt.StrokeDash, list(series), [[1, 0], [5, 4]], "bottom-right"),
            tooltip=[
                alt.Tooltip("label:N", title="pair"),
                alt.Tooltip("step:Q"),
                alt.Tooltip("difference:Q", format=".1e"),
            ],
        )
    )


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))


def _chart(rows: list[Row]) -> Any:
    data: Any = alt.InlineData(values=rows)
    return alt.Chart(data)


def _step_axis() -> alt.X:
    axis = alt.Axis(tickCount=5, format=",d", labelFlush=True)
    return alt.X("step:Q", title="training step", scale=alt.Scale(nice=False), axis=axis)


def _nominal(channel: Any, labels: list[str], values: list[Any], orient: Any) -> Any:
    dots = orient == "bottom-left"
    symbol: Row = {"symbolSize": 70} if dots else {"symbolType": "stroke"}
    legend = alt.Legend(title=None, orient=orient, labelLimit=320, symbolOpacity=1, **symbol)
    return channel("label:N", scale=alt.Scale(domain=labels, range=values), legend=legend)


def _colour(arms: list[ArmCurve], orient: str) -> Any:
    return _nominal(alt.Color, [a.label for a in arms], [COLOURS[a.name] for a in arms], orient)


def _dash(arms: list[ArmCurve], orient: str) -> Any:
    return _nominal(alt.StrokeDash, [a.label for a in arms], [DASHES[a.name] for a in arms], orient)


def _shape(arms: list[ArmCurve], orient: str) -> Any:
    return _nominal(alt.Shape, [a.label for a in arms], [SHAPES[a.name] for a in arms], orient)


def _sized(chart: Any) -> Any:
    return chart.properties(width="container", height=HEIGHT)
