"""docs/images/benchmarks.svg: every operator row against eager torch and torch.compile."""

from pathlib import Path

import altair as alt

from benchmarks.rows import Row, ratio, sides
from benchmarks.summary import trusted
from benchmarks.words import shape_text

__all__ = ["chart", "save"]

_PEERS = {"eager": "over eager torch", "compile": "over torch.compile"}
_LAYOUTS = {"contiguous": "", "channels_last": " NHWC"}
_COLOURS = {"plain": "#4c78a8", "relu": "#f58518", "residual+relu": "#54a24b"}


def chart(rows: list[Row]) -> alt.FacetChart:
    """A dot a row with its quartiles; left of the line we are slower."""
    points = [_point(row, peer) for row in trusted(rows) for peer in _PEERS if peer in sides(row)]
    order = list(dict.fromkeys(point["row"] for point in points))
    base = alt.Chart().encode(
        y=alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("form:N", sort=list(_COLOURS)),
        color=alt.Color(
            "form:N",
            title="form",
            scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
            legend=alt.Legend(orient="top"),
        ),
    )
    x = alt.Scale(type="log", nice=False, padding=12)
    ticks = alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    title = "times faster, forward + backward (log scale)"
    dots = base.mark_circle(size=45, opacity=1).encode(
        x=alt.X("speed:Q", scale=x, title=title, axis=ticks)
    )
    bars = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("q1:Q", scale=x), x2="q3:Q")
    even = alt.Chart().mark_rule(strokeDash=[4, 3], color="#444")
    return (
        alt.layer(even.encode(x=alt.datum(1)), bars, dots)
        .properties(width=330, height=alt.Step(9))
        .facet(
            data=alt.Data(values=points),
            column=alt.Column("peer:N", sort=list(_PEERS.values()), title=None),
            row=alt.Row("dtype:N", sort=["float32", "bfloat16"], title=None),
        )
        .configure(background="white")
    )


def _point(row: Row, peer: str) -> dict[str, object]:
    found = ratio(row, peer, "ours")
    return {
        "row": shape_text(row["shape"]) + _LAYOUTS[row["layout"]],
        "form": row["form"].replace("residual_relu", "residual+relu"),
        "dtype": row["dtype"],
        "peer": _PEERS[peer],
        "speed": found.median,
        "q1": found.q1,
        "q3": found.q3,
    }


def save(rows: list[Row], path: Path) -> bool:
    """Write the chart; False when there is no row to draw."""
    if not trusted(rows):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    chart(rows).save(str(path))
    return True
