"""Write the report and its pictures."""

from collections.abc import Iterable
from pathlib import Path

from ...._errors import explain
from ..._files import load
from ..._record import record_of
from ..._study import Study
from ..._whole import write_whole
from ._drawing import draw
from ._page import render, sections

__all__ = ["report"]


def report(studies: Path | str | Study | Iterable[Study], path: Path | str) -> list[Path]:
    """Write one HTML file that shows what was found; it opens without a network.

    Args:
        studies: what :func:`run` returned, or the folder that it was saved to.
        path: the file. A folder beside it, of the same name without ``.html``, gets every chart as
            ``EXPERIMENT-CHART.svg`` and ``.png``.

    Returns:
        The files.

    Raises:
        ValueError: there is no study, or the file's name has no ending.
    """
    if isinstance(studies, Study):
        studies = [studies]
    path = Path(path)
    if not path.suffix:
        rule, cure = "the file's name must have an ending", f"Use '{path}.html'"
        raise ValueError(explain("lab report", rule, f"'{path}'", cure))
    if isinstance(studies, Path | str):
        records = load(Path(studies))
    else:
        records = [record_of(study) for study in studies]
    if not records:
        rule, cure = "there must be a study", "Give what lab.run returned"
        raise ValueError(explain("lab report", rule, "none", cure))
    found = sections(records)
    figures = [figure for section in found for figure in section.figures]
    drawn = {figure.key: draw(figure, path.with_suffix("")) for figure in figures}
    page = render(found, {key: svg.read_text("utf-8") for key, (svg, _) in drawn.items()})
    write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))

    return [path, *(file for files in drawn.values() for file in files)]
