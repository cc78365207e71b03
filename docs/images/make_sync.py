"""Draw how synchronisation grows with the ranks: ``python docs/images/make_sync.py``.

Lines are the model of ``benchmarks.sync_cost``; nothing is measured here.
"""

import sys
from pathlib import Path

import altair as alt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.sync_cost import WORLDS, step_rows  # noqa: E402


def chart() -> alt.FacetChart:
    """Milliseconds of collectives in a step of ResNet-50; torch's line lies under ours."""
    points = [
        {"ranks": ranks, "design": design.name, "link": link.name, "ms": ms}
        for ranks, design, link, _, ms in step_rows()
        if design.name != "torch"
    ]
    scale = alt.Scale(type="log", base=2)
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=alt.X("ranks:Q", scale=scale, axis=alt.Axis(values=list(WORLDS))),
            y=alt.Y("ms:Q", scale=alt.Scale(type="log"), title="ms a step (log scale)"),
            color=alt.Color("design:N", sort=["ours", "Apex"], legend=alt.Legend(orient="top")),
        )
        .properties(width=190, height=190)
        .facet(column=alt.Column("link:N", title=None))
        .configure(background="white")
    )


if __name__ == "__main__":
    chart().save(HERE / "sync.svg")
