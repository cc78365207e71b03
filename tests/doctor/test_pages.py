"""The pages of the rules are what their docstrings say now."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def written() -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in (DOCS / "rules").glob("*.md")}


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("make_rules", DOCS / "make_rules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_pages_are_up_to_date() -> None:
    """If this fails, run `python docs/make_rules.py`."""
    assert written() == generated()


def test_every_section_is_a_heading() -> None:
    for name, text in generated().items():
        if name != "index.md":
            assert text.count("\n## ") == 6, name
