"""Copy the demo's picture into the documentation: ``python docs/images/make_figure1.py``.

Runs ``batchnorm demo`` first (a finished demo is reused, so that takes seconds) and refuses a
picture of 200 KB or more.
"""

import shutil
import sys
from pathlib import Path

from batchnorm.cli import main

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "out" / "demo"
LIMIT = 200_000


def make() -> int:
    """Return the exit code of the demo, or 1 if its picture is too large."""
    if code := main(["demo", "--out", str(OUT), *sys.argv[1:]]):
        return code
    picture = OUT / "figure1.png"
    if picture.stat().st_size >= LIMIT:
        print(f"{picture} has {picture.stat().st_size} bytes, {LIMIT} are too many.")
        return 1
    shutil.copyfile(picture, HERE / picture.name)
    return 0


if __name__ == "__main__":
    sys.exit(make())
