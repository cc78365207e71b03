"""Charts as pictures."""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import vl_convert

from ..._series import Picture
from ..._whole import write_whole
from .._png import deflated
from ._figures import STILL, Shown
from ._spec import rows_of, spec

__all__ = ["address", "draw", "thumbnail"]

SCALE = 2.0
AXIS = "#7b8390"
FONT = "DejaVu Sans, Liberation Sans, Helvetica, Arial, sans-serif"
ON_WHITE = {
    "font": FONT,
    "aria": False,  # a picture has one text for all
    "view": {"stroke": None},
    "axis": {"gridColor": "#e8e8e8", "domainColor": "#888", "tickColor": "#888"}
    | {"titleFontWeight": "normal", "ticks": False, "labelPadding": 5},
    "point": {"opacity": 1},
    "legend": {"symbolStrokeWidth": 2.5, "symbolSize": 150, "titleFontWeight": "normal"},
    "title": {"anchor": "start", "fontSize": 12},
    "rule": {"color": "#333"},
}
PLAIN = " ='/:;,()"
SMALL = {"aria": False, "view": {"stroke": AXIS, "strokeOpacity": 0.6}, "rule": {"color": AXIS}}
# What vega writes and nobody sees.
UNSEEN = re.compile(r'<path d="(?:M0,0h[\d.]+v[\d.]+h-?[\d.]+Z)?"(?: display="none")?/>')
TAG = re.compile(r"<[^>]+>")
ATTRIBUTES = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|font-family|xmlns:xlink)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| font-weight="normal"| transform="translate\(0,0\)"'
    r'| [xy]2="0"'
)
IDS = re.compile(r"\b(?:gradient_|clip)\d+")
DIGITS = re.compile(r"(\d\.\d)\d+")


def draw(figure: Shown, folder: Path) -> tuple[Path, Path]:
    """Write a chart as SVG and PNG, unless the same is there.

    Args:
        figure: the chart.
        folder: where.

    Returns:
        The files.
    """
    whole = figure.still | {"config": ON_WHITE, "background": "white", "padding": 12}
    source = json.dumps([whole, version("vl-convert-python")]).encode()
    ending = f"<!-- {hashlib.sha256(source).hexdigest()[:16]} -->\n"
    svg, png = (folder / f"{figure.file}.{kind}" for kind in ("svg", "png"))
    if not (png.exists() and svg.exists() and svg.read_text("utf-8").endswith(ending)):
        drawn = _svg(whole)
        picture = deflated(vl_convert.svg_to_png(drawn, scale=SCALE))
        write_whole(png, partial(_put, picture))
        write_whole(svg, partial(_put, (drawn + ending).encode()))

    return svg, png


def _put(content: bytes, file: Path) -> None:
    file.write_bytes(content)


def thumbnail(pictures: Iterable[Picture]) -> str | None:
    """The first panel of the first chart that has one, small and without axes."""
    for picture in pictures:
        for panel in picture.panels:
            made = spec(picture, [panel], "thumbnail") | {"data": {"values": rows_of(panel, STILL)}}
            size = {"width": 170, "height": 100, "padding": 2, "background": "transparent"}
            return address(_svg(made | size | {"config": SMALL}))

    return None


def _svg(whole: dict[str, Any]) -> str:
    """Without what only scripts and readers of the screen use."""
    drawn = UNSEEN.sub("", TAG.sub(_plain_tag, vl_convert.vegalite_to_svg(whole)))
    ranks: dict[str, str] = {}

    def renamed(tag: re.Match[str]) -> str:
        return IDS.sub(lambda name: ranks.setdefault(name[0], f"part{len(ranks)}"), tag[0])

    # Numbers that count on from drawing to drawing.
    return TAG.sub(renamed, drawn).replace("<svg", f'<svg font-family="{FONT}"', 1)


def _plain_tag(tag: re.Match[str]) -> str:
    """With coordinates to a tenth of a pixel."""
    return DIGITS.sub(r"\1", ATTRIBUTES.sub("", tag[0]))


def address(svg: str) -> str:
    """The picture as an address of data, a sixth shorter than in base 64.

    Nothing in it ends an attribute in double quotes or begins an element or an entity there.
    """
    text = svg.replace("'", "&#39;").replace('"', "'")

    return f"data:image/svg+xml,{quote(text, safe=PLAIN)}"
