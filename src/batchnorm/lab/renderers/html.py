"""The report: one HTML file that opens without a network, on a phone, in the light and the dark."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

from ..experiments.figure1 import Result
from ..words import count, factor, percent, plus_minus, power, rate
from . import charts, tables
from .console import MARKS

__all__ = ["Figure", "figures", "render", "write_html"]

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """A chart with what stands for it when it cannot be seen.

    Args:
        key: its id in the page.
        title: heading.
        caption: how to read it.
        alt: what it shows, with the numbers.
        spec: Vega-Lite, without colours of text and grid.
        table: the numbers behind it.
    """

    key: str
    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    table: tables.Table


def figures(result: Result) -> dict[str, Figure]:
    """All charts of the report, by key."""
    return {figure.key: figure for figure in _figures(result)}


def _figures(result: Result) -> Iterable[Figure]:
    seeds, lr = result.config.seeds, rate(result.config.lr)
    plain, ours = result.arms["plain"], result.arms["batchnorm"]
    yield Figure(
        "accuracy",
        "Test accuracy",
        f"Mean of {seeds} seeds at learning rate {lr}; the band reaches from the lowest to the "
        "highest seed. Where the two batch norm layers agree, one lies on top of the other.",
        f"Line chart of test accuracy over {count(result.config.curve_steps)} training steps. It "
        f"ends at {plus_minus(plain.final)} without batch norm and at {plus_minus(ours.final)} "
        "with it.",
        _spec(charts.accuracy(result)),
        tables.accuracy(result),
    )
    for arm, title in ((plain, "Without batch norm"), (ours, "With batch norm")):
        low, middle, high = arm.percentiles[-1]
        first = arm.percentiles[0]
        yield Figure(
            f"percentiles-{arm.name}",
            title,
            "15th, 50th and 85th percentile over the test set of what enters the first sigmoid of "
            "the last hidden layer, seed 0. Both charts have the same vertical scale.",
            f"Band chart of three percentiles over training steps, {arm.label}. From 15th "
            f"{first[0]:.2f}, 50th {first[1]:.2f} and 85th {first[2]:.2f} at step {arm.steps[0]} "
            f"to {low:.2f}, {middle:.2f} and {high:.2f} at the end.",
            _spec(charts.percentiles(result, arm.name)),
            tables.percentiles(result, arm.name),
        )
    yield Figure(
        "sweep",
        "Accuracy by learning rate",
        f"Test accuracy after {count(result.config.sweep_steps)} steps: mean of {seeds} seeds, "
        "vertical lines from the lowest to the highest seed.",
        "Line chart of test accuracy against learning rate. Highest rate that trains, median and "
        f"range over seeds: {tables.highest(result, 'plain')} without batch norm, "
        f"{tables.highest(result, 'batchnorm')} with it.",
        _spec(charts.sweep(result)),
        tables.sweep(result),
    )
    check = result.agreement
    yield Figure(
        "agreement",
        "Difference of the training losses",
        "Largest relative difference over seeds between training losses, from the same weights on "
        "the same batches. The dashed line is what one rounding of the starting weights does to "
        "torch’s own layer.",
        f"Line chart of relative loss differences over the first {len(check.ours)} steps: at most "
        f"{power(max(check.ours))} between the layers, at most {power(max(check.nudged))} between "
        "torch’s layer and itself with nudged weights.",
        _spec(charts.agreement(result)),
        tables.agreement(result),
    )


def _spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Vega-Lite without the address of its schema, which nothing here needs."""
    spec: dict[str, Any] = json.loads(chart.to_json())
    spec.pop("$schema", None)
    spec.pop("config", None)
    return spec


def render(result: Result) -> str:
    """The page."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    env = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters |= {"count": count, "factor": factor, "percent": percent, "rate": rate}
    env.filters["script_json"] = _script_json
    shown = figures(result)
    return env.get_template("report.html.j2").render(
        result=result,
        figures=shown,
        specs={figure.key: figure.spec for figure in shown.values()},
        stills={figure.key: _still(json.dumps(figure.spec)) for figure in shown.values()},
        summary=tables.summary(result),
        marks=MARKS,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        vega=_vega(),
    )


def write_html(result: Result, path: Path) -> None:
    """Write :func:`render`'s page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(result), encoding="utf-8")


def _script_json(value: object) -> object:
    """JSON that cannot end the script element it stands in."""
    return jinja2.utils.htmlsafe_json_dumps(value)


def _still(spec: str) -> str:
    """The chart as SVG for browsers without scripts, as base64."""
    drawn = json.loads(spec) | {"width": 640, "background": "white"}
    return base64.b64encode(vl_convert.vegalite_to_svg(drawn).encode()).decode()


@lru_cache(maxsize=1)
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, about 0.9 MB."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
