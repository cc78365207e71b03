"""Figure 1 as one picture: accuracy, and one unit's input without and with batch norm."""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from ..demo import Result
from ..words import rate
from . import charts
from ._png import deflated

__all__ = ["figure", "write_png"]

PERCENTILES = "15th, 50th and 85th percentile"
FONT = "DejaVu Sans, Liberation Sans, Helvetica, Arial, sans-serif"


def figure(result: Result) -> Any:
    """The three panels side by side, on white."""
    seeds = result.config.seeds
    panels = (
        (charts.accuracy(result), ["(a) Test accuracy", f"mean and range of {seeds} seeds"]),
        (charts.percentiles(result, "plain"), ["(b) Input of one sigmoid, no norm", PERCENTILES]),
        (
            charts.percentiles(result, "batchnorm"),
            ["(c) Input of the same sigmoid, batch norm", PERCENTILES],
        ),
    )
    drawn = [
        chart.properties(
            width=width, height=260, title=alt.Title(title[0], subtitle=title[1], anchor="start")
        )
        for (chart, title), width in zip(panels, (380, 300, 300), strict=True)
    ]
    return (
        alt.hconcat(*drawn, spacing=28)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(
            title=alt.Title(
                f"Sigmoid network on {result.dataset.title}, with and without batch norm",
                subtitle=_setting(result),
                anchor="start",
                fontSize=17,
                subtitleFontSize=13,
                offset=14,
            ),
            padding=14,
            background="white",
        )
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#e8e8e8", domainColor="#888", tickColor="#888")
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12, symbolStrokeWidth=2.5, symbolSize=250)
        .configure_title(fontSize=14, subtitleColor="#555")
    )


def _setting(result: Result) -> str:
    config = result.config
    return (
        f"3 hidden layers of {config.hidden} sigmoid units, batch {config.batch_size}, "
        f"SGD at learning rate {rate(config.lr)}; after Ioffe & Szegedy 2015, figure 1"
    )


def write_png(result: Result, path: Path, *, scale: float = 2.0) -> None:
    """Write :func:`figure`; no browser and no network are needed."""
    png = vl_convert.vegalite_to_png(figure(result).to_json(), scale=scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(deflated(png))
