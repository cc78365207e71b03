"""Write the report and its pictures."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import vl_convert

from ..._files import load
from ..._record import record_of
from ..._study import Study
from ..._whole import write_whole
from .._png import deflated
from ._figures import Shown
from ._page import render, sections

__all__ = ["report"]

SCALE = 2.0


def report(studies: Path | str | Study | Iterable[Study], path: Path | str) -> list[Path]:
    """Write one HTML file that shows what was found; it opens without a network.

    Args:
        studies: what :func:`run` returned, or the folder that it was saved to.
        path: the file. A folder beside it, of the same name without ``.html``, gets every chart as
            ``EXPERIMENT-CHART.svg`` and ``.png``.

    Returns:
        The files.

    Raises:
        ValueError: there is no study.
    """
    if isinstance(studies, Study):
        studies = [studies]
    path = Path(path)
    records = load(Path(studies)) if isinstance(studies, Path | str) else map(record_of, studies)
    found = sections(records)
    page = render(found)
    write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))
    figures = [figure for section in found for figure in section.figures]

    return [path, *(file for figure in figures for file in _drawn(figure, path.with_suffix("")))]


def _drawn(figure: Shown, folder: Path) -> Iterator[Path]:
    """Write a chart as SVG and as PNG."""
    svg = figure.svg
    png = deflated(vl_convert.svg_to_png(svg, scale=SCALE))
    for suffix, content in ((".svg", svg.encode()), (".png", png)):
        file = folder / f"{figure.file}{suffix}"
        write_whole(file, partial(_put, content))
        yield file


def _put(content: bytes, file: Path) -> None:
    file.write_bytes(content)
