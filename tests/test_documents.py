"""What the documents show must run, and print what they say."""

import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import pytest
import torch

import batchnorm

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "batchnorm"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What every docstring example may use without importing it.
NAMES = {"torch": torch, "bn": batchnorm, "batchnorm": batchnorm}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# `print(...)  # text`: the comment is the output.
SHOWN = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)


def documents_with_code() -> list[Path]:
    return [path for path in DOCUMENTS if BLOCK.search(path.read_text("utf-8"))]


def public_modules() -> list[str]:
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if not re.search(r"\.(keras|triton|__main__)", name))


@pytest.mark.parametrize("path", documents_with_code(), ids=lambda path: path.name)
def test_python_examples_print_what_their_comments_say(path: Path) -> None:
    code = "\n".join(BLOCK.findall(path.read_text("utf-8")))
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(path), "exec"), {"__name__": "__document__"})

    lines = printed.getvalue().splitlines()
    for shown in SHOWN.findall(code):
        assert shown in lines, f"{path.name} says {shown!r}; printed were {lines}"


@pytest.mark.parametrize("name", public_modules())
def test_docstring_examples_run(name: str) -> None:
    module = importlib.import_module(name)

    result = doctest.testmod(module, extraglobs=NAMES, optionflags=FLAGS)

    assert result.failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    local = [link for link in links if "://" not in link]

    missing = [link for link in local if not (path.parent / link).exists()]

    assert not missing
