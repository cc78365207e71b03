"""From an exception to a message that a person can use, and an exit code."""

import functools
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

__all__ = ["FAILED", "guarded", "message_of"]

FAILED = 1
_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
P = ParamSpec("P")


def guarded(command: Callable[P, None]) -> Callable[P, int]:
    """The command, with exit code 0, or 1 and a message instead of a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            command(*args, **kwargs)
        except Exception as error:  # the model, the loader and the sample are the user's code
            who = f"batchnorm {command.__name__.replace('_', '-')}"
            print(message_of(who, error), file=sys.stderr)
            return FAILED

        return 0

    return run


def message_of(who: str, error: Exception) -> str:
    """What happened; where, if that was not in this package.

    Args:
        who: the command: ``"batchnorm fold"``.
        error: with its traceback.
    """
    text = str(error).strip() or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    if Path(frames[-1].filename).is_relative_to(_PACKAGE):
        verb = who.removeprefix("batchnorm ")
        for own in (verb, verb.split()[-1]):  # "lab compare", and "compare" from Python
            if text.startswith(f"{own}: "):
                return f"{who}{text.removeprefix(own)}"
        return text if text.startswith(who) else f"{who}: {text}"

    theirs = [frame for frame in frames if not frame.filename.startswith(("<", *_LIBRARIES))]
    place = [f for f in theirs if not Path(f.filename).is_relative_to(_PACKAGE)]
    where = f" at {place[-1].filename}:{place[-1].lineno}" if place else ""

    return f"{who}: {type(error).__name__}{where}: {text}"
