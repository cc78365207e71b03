"""The commands put together."""

from cyclopts import App, CycloptsError
from rich.console import Console

from .adapt import adapt
from .bench import bench
from .convert import convert
from .demo import demo
from .doctor import doctor
from .fold import fold
from .freeze import freeze
from .gap import gap
from .info import info
from .insert import insert
from .lab import lab
from .prune import prune_report
from .recalibrate import recalibrate
from .watch import watch

__all__ = ["run"]

UNREADABLE = 2
_COMMANDS = {
    "This package": (demo, info, bench),
    "A model": (doctor, convert, insert, fold, freeze, recalibrate, adapt, gap, prune_report),
}


def run(arguments: list[str]) -> int:
    """Parse, call, and turn what the user can cure into a message and an exit code."""
    errors = Console(stderr=True, highlight=False)
    app = _app(errors)
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return UNREADABLE
    code = command(*bound.args, **bound.kwargs)
    return code if isinstance(code, int) else 0


def _app(errors: Console) -> App:
    app = App(
        name="batchnorm",
        help="Batch normalization: tools for models that you have, and a demonstration.",
        version=_version,
        error_console=errors,
    )
    for name, commands in _COMMANDS.items():
        for command in commands:
            app.command(command, group=name)
    app.command(watch)
    app.command(lab)
    return app


def _version() -> str:
    import batchnorm

    return batchnorm.__version__
