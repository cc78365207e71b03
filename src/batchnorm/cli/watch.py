"""``batchnorm watch report``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from .._errors import explain
from ._atomic import check_targets, replacing
from ._extras import missing_extra
from ._guard import FAILED, message_of

if TYPE_CHECKING:
    from ..watch import Recording

__all__ = ["report", "watch"]

_WHO = "batchnorm watch report"
watch = App(
    name="watch", group="A model", help="Show what bn.watch recorded while a model trained."
)


@watch.command
def report(
    recording: Path,
    /,
    *others: Path,
    out: Path | None = None,
    title: str | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write one HTML file that shows every layer over time, and the alerts.

    It opens without a network, on a phone too. Several recordings, with and without batch norm for
    instance, stand side by side.

    Args:
        recording: File that bn.watch wrote: .parquet or JSON lines.
        others: Recordings to compare it with.
        out: File to write; the recording's name with .html by default.
        title: Heading; names the runs by default.
        force: Replace the file if it is there.
    """
    if message := missing_extra("lab", _WHO):
        print(message, file=sys.stderr)
        return FAILED
    target = out or recording.with_suffix(".html")
    try:
        _check([recording, *others], target)
        check_targets(_WHO, [target], force=force)
        _write([recording, *others], target, title)
    except (ValueError, OSError, RuntimeError) as error:
        print(message_of(_WHO, error), file=sys.stderr)
        return FAILED
    print(f"Open {target}")

    return 0


def _check(paths: list[Path], target: Path) -> None:
    for path in paths:
        if not path.is_file():
            cure = "Name what the Parquet or JSON lines sink of bn.watch wrote"
            raise FileNotFoundError(explain(_WHO, "a recording is a file", f"'{path}'", cure))
        if path.resolve() == target.resolve():
            rule, cure = "the report does not replace a recording", "Name another file by --out"
            raise ValueError(explain(_WHO, rule, f"--out {target}", cure))


def _write(paths: list[Path], target: Path, title: str | None) -> None:
    from ..lab.renderers.watch import write_html

    recordings = [(path.name, _read(path)) for path in paths]
    with replacing(target) as part:
        write_html(recordings, part, title)


def _read(path: Path) -> "Recording":
    from ..watch import read

    try:
        return read(path)
    except UnicodeDecodeError:
        rule, cure = "a recording is JSON lines or .parquet", "Name what bn.watch wrote"
        raise ValueError(explain(_WHO, rule, f"'{path}'", cure)) from None
