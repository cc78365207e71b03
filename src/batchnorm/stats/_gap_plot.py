"""The train-eval gap as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import explain

if TYPE_CHECKING:
    from ._gap_report import GapReport

__all__ = ["chart"]

_COLOURS = {"mean": "#2f7fd6", "variance": "#c9590c"}
_WIDTH = 280


def chart(report: GapReport) -> Any:
    """Two panels, one row per layer: errors of mean and variance, and the change of the output.

    Raises:
        RuntimeError: Altair is not installed.
    """
    try:
        import altair as alt
    except ImportError:
        raise RuntimeError(
            explain(
                "GapReport.plot",
                "it needs Altair",
                "no such package",
                "pip install batchnorm[lab], or print the report",
            )
        ) from None

    data: Any = alt.Data
    paths = [layer.path or "(the model)" for layer in report.layers]
    errors = [
        {"layer": path, "of": of, "errors": size}
        for path, layer in zip(paths, report.layers, strict=True)
        for of, size in (("mean", layer.mean_size), ("variance", layer.var_size))
    ]
    outputs = [
        {"layer": path, "output": layer.output}
        for path, layer in zip(paths, report.layers, strict=True)
    ]
    y = alt.Y("layer:N", sort=paths, title=None)
    colours = alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    left = (
        alt.Chart(data(values=errors), width=_WIDTH)
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X(
                "errors:Q", title="standard errors (1 is expected)", scale=alt.Scale(type="symlog")
            ),
            y=y,
            color=alt.Color("of:N", scale=colours, title="running statistics against the batch's"),
            shape=alt.Shape("of:N", title="running statistics against the batch's"),
            tooltip=["layer:N", "of:N", alt.Tooltip("errors:Q", format=".2f")],
        )
    )
    line = alt.Chart(data(values=[{"x": 1}])).mark_rule(strokeDash=[4, 3]).encode(x="x:Q")
    right = (
        alt.Chart(data(values=outputs), width=_WIDTH)
        .mark_bar(color=_COLOURS["mean"])
        .encode(
            x=alt.X("output:Q", title="change of the normalised output", axis=alt.Axis(format="%")),
            y=alt.Y("layer:N", sort=paths, title=None, axis=alt.Axis(labels=False)),
            tooltip=["layer:N", alt.Tooltip("output:Q", format=".1%")],
        )
    )

    return alt.hconcat(left + line, right)
