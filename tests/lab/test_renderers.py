"""The report says everything, loads nothing, and can be read without seeing a chart."""

import base64
import io
import itertools
import json
import re
import struct
import zlib
from pathlib import Path

import pytest
from rich.console import Console

from batchnorm.lab.demo import Result
from batchnorm.lab.renderers import _page, charts, console, html, image, records, tables
from tests.lab.pages import Page
from tests.lab.small import SMALL, result

FIGURES = ["accuracy", "percentiles-plain", "percentiles-batchnorm", "sweep", "agreement"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result(tmp_path_factory.mktemp("trials"))


@pytest.fixture(scope="module")
def text(made: Result) -> str:
    return html.render(made)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_has_its_sections_in_order(page: Page):
    heads = [text for _, text in page.all("h2")]

    assert heads == [
        "Verdicts",
        "Training",
        "Inputs of a sigmoid in the last hidden layer",
        "Learning rates",
        "Cross-check with torch’s layer",
        "What was run",
    ]
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_page_links_lead_to_its_parts(page: Page):
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]

    assert len(ids) == len(set(ids))
    local = [attrs["href"] for attrs, _ in page.all("a") if attrs["href"].startswith("#")]
    assert local
    assert {href[1:] for href in local} <= set(ids)


def test_page_loads_nothing_from_a_network(page: Page, text: str):
    loads = [
        value
        for tag, attrs, _ in page.elements
        for name, value in attrs.items()
        if name in ("src", "srcset", "data", "poster", "action") or (name, tag) == ("href", "link")
    ]

    assert all(value.startswith("data:") for value in loads)
    styles = "".join(style for _, style in page.all("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = (a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"<script[^>]+src", text)


def test_every_chart_is_embedded_with_its_library(page: Page):
    scripts = page.all("script")
    (specs,) = (json.loads(body) for attrs, body in scripts if attrs.get("id") == "specs")

    assert list(specs) == FIGURES
    assert all(not _addresses(spec) for spec in specs.values())
    assert any("window.vegaEmbed" in body and len(body) > 500_000 for _, body in scripts)
    ids = {attrs.get("id") for attrs, _ in page.all("div")}
    assert {f"chart-{key}" for key in FIGURES} <= ids


def _addresses(spec: object) -> list[str]:
    return re.findall(r"https?://", json.dumps(spec))


def test_every_chart_has_words_numbers_and_a_still(page: Page, made: Result):
    images = [attrs for attrs, _ in page.all("div") if attrs.get("role") == "img"]

    assert [attrs["id"] for attrs in images] == [f"chart-{key}" for key in FIGURES]
    assert all(len(attrs["aria-label"]) > 60 for attrs in images)
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(FIGURES)
    captions = [text for _, text in page.all("caption")]
    assert set(captions) >= {f.table.caption for f in html.figures(made).values()}
    stills = [attrs for attrs, _ in page.all("img")]
    assert [attrs["alt"] for attrs in stills] == [attrs["aria-label"] for attrs in images]
    for attrs in stills:
        assert base64.b64decode(attrs["src"].split(",")[1]).startswith(b"<svg")


def test_tables_have_heads(page: Page):
    for attrs, _ in page.all("th"):
        assert attrs["scope"] in ("col", "row")


def test_page_works_on_a_phone_and_in_the_dark(page: Page):
    assert page.elements[0][1]["lang"] == "en"
    assert any(
        a.get("content") == "width=device-width, initial-scale=1" for a, _ in page.all("meta")
    )
    assert "prefers-color-scheme: dark" in page.all("style")[0][1]


def test_verdicts_are_the_computed_ones(page: Page, made: Result):
    items = [(attrs["class"], text) for attrs, text in page.all("li") if "class" in attrs]

    assert len(items) == len(made.claims) == 7
    for (css, shown), claim in zip(items, made.claims, strict=True):
        assert css == claim.verdict
        for part in (claim.verdict, claim.statement, claim.evidence, claim.rule):
            assert " ".join(part.split()) in shown


def test_page_says_what_was_run(page: Page, made: Result):
    shown = " ".join(text for _, text in page.all("body"))

    assert "arXiv:1502.03167" in shown
    assert "three hidden layers of 8 sigmoid units" in shown
    assert made.environment.machine in shown
    assert made.environment.code in shown
    for name, version in made.environment.packages.items():
        assert f"{name} {version}" in shown
    assert made.dataset.digest[:16] in shown


def test_hostile_text_stays_text(made: Result):
    spec = {"title": "</script><script>alert(1)</script>"}

    assert "</script>" not in str(_page.script_json(spec))


def test_picture_is_a_whole_png(made: Result, tmp_path: Path):
    image.write_png(made, tmp_path / "new" / "figure1.png", scale=1.0)

    png = (tmp_path / "new" / "figure1.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place, kinds, body = 8, [], b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        chunk = png[place + 4 : place + 8 + length]
        (check,) = struct.unpack(">I", png[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(chunk)
        kinds.append(chunk[:4])
        body += chunk[4:] if chunk[:4] == b"IDAT" else b""
        place += length + 12
    width, height = struct.unpack(">II", png[16:24])
    assert width > height > 300
    assert len(zlib.decompress(body)) == height * (4 * width + 1)
    assert kinds[-1] == b"IEND"


def test_panels_share_their_scale(made: Result):
    plain, ours = (
        json.dumps(charts.percentiles(made, name).to_dict()) for name in ("plain", "batchnorm")
    )
    domain = json.dumps(list(charts.shared_domain(made)))

    assert f'"domain": {domain}' in plain
    assert f'"domain": {domain}' in ours


def test_terminal_shows_tables_and_verdicts(made: Result):
    out = io.StringIO()
    console.show(made, Console(file=out, width=200))

    shown = out.getvalue()
    for arm in made.arms.values():
        assert arm.label in shown
    for claim in made.claims:
        assert claim.statement in shown
    assert "steps to the plain net’s final accuracy" in shown
    assert "highest rate that trains" in shown


def test_record_is_strict_json(made: Result, tmp_path: Path):
    records.write_json(made, tmp_path / "result.json")

    read = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)

    assert read["config"]["seeds"] == SMALL.seeds
    final = made.arms["plain"].final
    assert read["arms"]["plain"]["final"]["values"] == list(final.values)


def test_milestones_are_evaluated_steps(made: Result):
    steps = {f"{step:,}" for step in made.arms["plain"].steps}
    shown = [row[0] for row in tables.accuracy(made).rows]

    assert set(shown) <= steps
    assert shown[-1] == "12"
