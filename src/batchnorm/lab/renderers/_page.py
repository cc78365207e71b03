"""What every page needs: one file, text escaped, charts drawn in it without a network."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import altair as alt
import jinja2
import vl_convert

from ..words import count, factor, percent, rate
from ._png import deflated
from ._table import Table

__all__ = ["Figure", "assemble", "plain_spec", "script_json"]

TEMPLATES = Path(__file__).parent / "templates"
ROOM_FOR_AXIS = 52


@dataclass(frozen=True)
class Figure:
    """A chart with what stands for it when it cannot be seen.

    Args:
        key: its id in the page.
        title: heading.
        caption: how to read it.
        alt: what it shows, with the numbers.
        spec: Vega-Lite, without colours of text and grid.
        table: the numbers behind it; None where the page shows them anyway.
        renderer: how a browser draws it; ``"canvas"`` where there are thousands of marks.
    """

    key: str
    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    table: Table | None
    renderer: Literal["svg", "canvas"] = "svg"

    @property
    def height(self) -> int:
        """Pixels that the page keeps free for it."""
        return int(self.spec.get("height", 300)) + ROOM_FOR_AXIS

    @property
    def still(self) -> str:
        """The chart as an address of data, for browsers without scripts."""
        drawn = self.spec | {"width": 640, "background": "white"}
        if self.renderer == "svg":
            kind, picture = "svg+xml", vl_convert.vegalite_to_svg(drawn).encode()
        else:
            kind, picture = "png", deflated(vl_convert.vegalite_to_png(drawn))

        return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def plain_spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Vega-Lite without the address of its schema, which nothing here needs."""
    spec: dict[str, Any] = json.loads(chart.to_json())
    spec.pop("$schema", None)
    spec.pop("config", None)
    return spec


def assemble(
    template: str,
    figures: Iterable[Figure] = (),
    *,
    styles: Iterable[str] = ("report.css",),
    scripts: Iterable[str] = ("charts.js", "report.js"),
    **values: object,
) -> str:
    """The page.

    Args:
        template: its file in ``templates``.
        figures: every chart that the template shows.
        styles: files in ``templates``.
        scripts: files in ``templates``.
        values: what else it speaks of; escaped.
    """
    loader = jinja2.FileSystemLoader(TEMPLATES)
    env = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters |= {"count": count, "factor": factor, "percent": percent, "rate": rate}
    env.filters["script_json"] = script_json
    shown = {figure.key: figure for figure in figures}
    specs = {figure.key: figure.spec for figure in shown.values()}
    own = {"style": _joined(styles), "script": _joined(scripts), "vega": _vega()}

    return env.get_template(template).render({"figures": shown, "specs": specs, **own, **values})


def _joined(files: Iterable[str]) -> str:
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in files)


def script_json(value: object) -> object:
    """JSON that cannot end the script element it stands in."""
    return jinja2.utils.htmlsafe_json_dumps(value, separators=(",", ":"))


@lru_cache(maxsize=1)
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, about 0.9 MB."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
