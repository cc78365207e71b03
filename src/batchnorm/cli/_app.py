"""The commands put together."""

from cyclopts import App, CycloptsError
from rich.console import Console

from .bench import bench
from .demo import demo
from .info import info

__all__ = ["run"]

UNREADABLE = 2


def run(arguments: list[str]) -> int:
    """Parse, call, and turn what the user can cure into a message and an exit code."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
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
        help="Batch normalization: a demonstration, what is installed, and how fast it is.",
        version=_version,
        error_console=errors,
    )
    for command in (demo, info, bench):
        app.command(command)
    return app


def _version() -> str:
    import batchnorm

    return batchnorm.__version__
