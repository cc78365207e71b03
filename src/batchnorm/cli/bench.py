"""``batchnorm bench``."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["bench", "repository"]


def bench(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
) -> int:
    """Run the repository's benchmarks against torch and a plain copy.

    They are part of the source repository and not of the installed package.

    Args:
        arguments: handed on; ``batchnorm bench -- --help`` lists them.
    """
    root = repository()
    if root is None:
        print(
            "batchnorm bench: the benchmarks must be at hand. Got no folder 'benchmarks' here, "
            "above here, or above the installed package. Run it inside a clone of the source "
            "repository: they are in its folder 'benchmarks' (`make bench`).",
            file=sys.stderr,
        )
        return 1
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode


def repository() -> Path | None:
    """The clone that holds the benchmarks: around this folder, or around an editable install."""
    here, package = Path.cwd(), Path(__file__).resolve()
    for folder in (here, *here.parents, *package.parents):
        if (folder / "benchmarks" / "__main__.py").is_file() and (folder / "csrc").is_dir():
            return folder
    return None
