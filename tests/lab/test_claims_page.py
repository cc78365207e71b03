"""The page that reads the results quotes them: every number stands in the results that it links."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PARAGRAPHS = [
    text
    for text in (DOCS / "claims.md").read_text(encoding="utf-8").split("\n\n")
    if "(results/" in text
]
NUMBER = re.compile(r"[+−]?\d+(?:\.\d+)?(?: %)?")
# Names of things, and numbers of the setting.
NAMES = re.compile(r"√\(π/\(π−1\)\)|[Ff]igure 1|32×32|100 layers|multiplied by 100|\bL2\b")


@pytest.mark.parametrize("paragraph", PARAGRAPHS, ids=lambda text: text[:30])
def test_every_number_is_in_the_results_it_links(paragraph):
    found = " ".join(
        (DOCS / page).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
        for page in re.findall(r"\((results/[a-z0-9-]+\.md)\)", paragraph)
    )
    words = NAMES.sub("", re.sub(r"\(results/[^)]*\)", "", paragraph.replace("\n", " ")))

    quoted = [number.strip() for number in NUMBER.findall(words)]
    missing = [
        number
        for number in quoted
        if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d|\.\d)", found)
    ]
    assert missing == []


def test_the_page_reads_every_experiment():
    pages = {file.stem for file in (DOCS / "results").glob("*.md")}

    linked = set(re.findall(r"\(results/([a-z0-9-]+)\.md\)", "\n\n".join(PARAGRAPHS)))
    assert linked == pages
