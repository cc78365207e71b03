"""Entry point: needs only the standard library until it knows that the extras are there."""

import sys
from collections.abc import Sequence

from ._extras import missing_extra

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; None reads ``sys.argv``.

    Returns:
        0 on success, 1 when something needed is missing or wrong, 2 for a command line that cannot
        be read, 130 after Ctrl-C.
    """
    if message := missing_extra("cli"):
        print(message, file=sys.stderr)
        return 1
    from ._app import run

    try:
        return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
