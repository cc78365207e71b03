"""How series look: a colour, and a dash or a shape for those who see no colours.

Every colour has a contrast of at least 3:1 to white and to the report's dark background.
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["COLOURS", "DASHES", "GLYPHS", "SHAPES", "colour_of", "looks"]

COLOURS = (
    "#c9590c",
    "#2f7fd6",
    "#2a9463",
    "#a0509a",
    "#9a7b00",
    "#1497a5",
    "#d1383d",
    "#7b8390",
)
DASHES = (
    (1, 0),
    (7, 3),
    (2, 2),
    (9, 3, 2, 3),
    (4, 3),
    (12, 3),
    (9, 2, 2, 2, 2, 2),
    (1, 3),
)
GLYPHS = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "cross": "✚",
    "triangle-down": "▼",
    "triangle-right": "▶",
    "triangle-left": "◀",
}
SHAPES = tuple(GLYPHS)


def looks(names: Sequence[str], kinds: Sequence[Any]) -> dict[str, list[Any]]:
    """A scale that gives every name its look; from the ninth on they come again."""
    return {
        "domain": list(names),
        "range": [kinds[place % len(kinds)] for place in range(len(names))],
    }


def colour_of(place: int) -> str:
    """Of the series at that place."""
    return COLOURS[place % len(COLOURS)]
