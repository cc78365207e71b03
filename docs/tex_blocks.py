"""Shows the ``.. math::`` blocks of docstrings as TeX, for pages that load no typesetter."""

import re
from textwrap import dedent
from typing import Any

import griffe

MATH = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)


def _as_code(block: re.Match[str]) -> str:
    indent, tex = block.groups()
    first, *rest = tex.split("\n", 1)
    lines = [first.strip(), *dedent("\n".join(rest)).splitlines()]
    return "\n".join(indent + line for line in ("```tex", *lines, "```"))


class TexBlocks(griffe.Extension):
    """Rewrites each docstring when it is found."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace the directives of reStructuredText, which Markdown does not know."""
        if obj.docstring:
            obj.docstring.value = MATH.sub(_as_code, obj.docstring.value)
