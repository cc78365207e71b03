"""The lab's report: every claim and chart is in it, it loads nothing, and text stays text."""

import itertools
import json
import math
import re
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

import polars as pl
import pytest
import vl_convert

from batchnorm.lab import Chart
from batchnorm.lab._files import save
from batchnorm.lab._record import record_of
from batchnorm.lab._series import picture
from batchnorm.lab.renderers.report import report
from batchnorm.lab.renderers.report._frame import FEW
from batchnorm.lab.renderers.report._looks import COLOURS, DASHES, SHAPES
from batchnorm.lab.renderers.report._page import pieces, sections
from batchnorm.lab.renderers.report._spec import spec
from batchnorm.lab.renderers.report._tables import MOST, means
from batchnorm.lab.renderers.report._words import described, numbers
from tests.lab.pages import Page
from tests.lab.studies import ARMS, CHARTS, HOSTILE, experiment, study

PAPERS = "#ffffff", "#14171c"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report([study(), study(experiment("other", "Other"))], path)
    return path.read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def shown(page, tag="body"):
    return " ".join(text for _, text in page.all(tag))


def drawn(place):
    chart = CHARTS[place]
    return picture(chart, study().trials, ARMS)


def test_first_page_has_every_claim_with_its_verdict_and_a_picture(page):
    found = [a for a, _ in page.all("article")]
    assert [attrs["data-experiment"] for attrs in found] == ["made-up", "other"]
    claims = [(a["data-verdict"], text) for a, text in page.all("li") if "data-verdict" in a]
    assert [verdict for verdict, _ in claims] == ["holds", "fails", "undecided"] * 2
    for (verdict, said), claim in zip(claims, study().claims * 2, strict=True):
        assert verdict in said
        for part in (claim.statement, claim.evidence):
            assert " ".join(part.split()) in said
    assert "6 claims from 2 experiments: 2 hold, 2 fail, 2 undecided." in shown(page, "p")
    small = [a for a, _ in page.all("img") if a.get("width") == "176"]
    assert len(small) == 2
    assert all(a["src"].startswith("data:image/svg+xml") and len(a["alt"]) > 60 for a in small)


def test_page_of_an_experiment_says_how_it_was_made(page):
    body = shown(page)

    for part in ("a machine", "torch 2", "c0de", "54, of which 4 were kept", "away: no folder"):
        assert part in body
    terms = [text for _, text in page.all("dt")]
    assert {"Published", "Here", "Budget", "Seeds", "lr", "accuracy"} <= set(terms)
    links = [(a["href"], text) for a, text in page.all("a")]
    assert ("https://example.org/a?b=1&c=2", "https://example.org/a?b=1&c=2") in links


def test_links_and_labels_lead_to_parts_of_the_page(page):
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    local = {a["href"][1:] for a, _ in page.all("a") if a["href"].startswith("#")}
    labels = {a["aria-labelledby"] for _, a, _ in page.elements if "aria-labelledby" in a}
    assert local | labels <= set(ids)
    assert {"overview", "made-up", "other"} <= local


def test_each_dataset_of_several_panels_begins_a_row(page):
    first = [a for a, _ in page.all("div") if a.get("class") == "first"]

    assert len(first) == 2 * 2  # reports, datasets; one chart of them has columns
    figures = sections([record_of(study())])[0].figures
    rows = {figure.picture.chart.key: len(figure.still["vconcat"]) for figure in figures}
    assert rows == {"training": 1, "final": 1, "rates": 1, "map": 1, "inputs": 2}


def test_headings_go_down_step_by_step(page):
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]

    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_page_loads_nothing_and_its_policy_forbids_to(page, text):
    loads = [
        value
        for tag, attrs, _ in page.elements
        for name, value in attrs.items()
        if name in ("src", "srcset", "data", "poster", "action") or (name, tag) == ("href", "link")
    ]
    assert all(value.startswith("data:") for value in loads)
    (policy,) = (a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"<script[^>]+src", text)


def test_hostile_text_stays_text(text):
    assert "<img src=x" not in text
    assert "<b>bold" not in text
    assert "javascript:" not in "".join(piece for piece, link in pieces("javascript:x") if link)


def test_pictures_in_the_page_are_whole_and_end_no_attribute(page):
    addresses = [attrs["src"] for attrs, _ in page.all("img")]

    for address in addresses:
        assert not set('"<>&\n') & set(address)
        assert ElementTree.fromstring(unquote(address.partition(",")[2])).tag.endswith("svg")
    assert len(addresses) == 2 + 2 * len(CHARTS)


def test_every_panel_has_a_place_words_and_numbers(page):
    (body,) = (body for a, body in page.all("script") if a.get("id") == "specs")
    charts = json.loads(body)
    places = [a for a, _ in page.all("div") if a.get("role") == "img"]

    assert len(charts) == 2 * len(CHARTS)
    panels = [f"chart-{key}-{i}" for key, c in charts.items() for i in range(len(c["panels"]))]
    assert [attrs["id"] for attrs in places] == panels
    assert all(len(attrs["aria-label"]) > 60 for attrs in places)
    stills = [a for a, _ in page.all("img") if a.get("width") != "176"]
    assert len(stills) == len(charts)
    for chart in charts.values():
        assert {panel["spec"] for panel in chart["panels"]} == set(range(len(chart["specs"])))


def test_chart_keys_of_all_kinds_make_different_ids():
    record = record_of(study())
    names = ["overview", "Bias", "bias", "ü/..", "ü/.."]

    keys = [one.key for one in sections(replace(record, experiment=name) for name in names)]

    assert keys == ["overview-2", "bias", "bias-2", "unnamed", "unnamed-2"]


def test_web_addresses_end_where_a_sentence_does():
    said = "See https://a.org/b_(c)?d=1&e=2, or (http://f.org)."

    links = [piece for piece, is_link in pieces(said) if is_link]

    assert links == ["https://a.org/b_(c)?d=1&e=2", "http://f.org"]
    assert "".join(piece for piece, _ in pieces(said)) == said


@pytest.mark.parametrize("place", range(len(CHARTS)))
@pytest.mark.parametrize("use", ["page", "picture", "thumbnail"])
def test_legends_parameters_and_axes_depend_on_the_use(place, use):
    made = drawn(place)

    text = json.dumps(spec(made, made.panels[:2], use))

    assert ('"params"' in text) == (use == "page" and made.chart.mark != "heat")
    assert ("tooltip" in text) == (use == "page")
    assert ('"title"' in text) == (use != "thumbnail")


def test_panels_of_a_dataset_share_their_scale():
    made = drawn(4)
    alone, both = made.panels[:1], made.panels[:2]

    tops = [
        spec(made, panels, "page")["layer"][0]["encoding"]["y"]["scale"]["domain"][1]
        for panels in (alone, both)
    ]

    assert tops == [max(panel.series[0].high[-1] for panel in panels) for panels in (alone, both)]
    assert tops[0] < tops[1]


def test_bars_lie_when_their_names_are_long_and_begin_at_zero():
    long, short = drawn(1), drawn(3)
    short = replace(short, chart=replace(short.chart, mark="bars", y=CHARTS[1].y, value=None))

    lying, standing = (spec(p, p.panels, "page")["layer"][0]["encoding"] for p in (long, short))

    assert lying["y"]["field"] == standing["x"]["field"] == "x"
    assert lying["x"]["scale"]["domain"][0] == 0
    assert "xOffset" in standing
    assert "yOffset" not in lying


def test_bars_of_different_places_are_not_set_apart():
    made = drawn(1)
    other = replace(made, chart=replace(made.chart, x=replace(made.chart.x, field="label")))

    bar = spec(other, other.panels, "page")["layer"][0]["encoding"]

    assert "yOffset" not in bar


def test_bars_on_a_logarithmic_axis_are_points():
    made = drawn(1)
    log = replace(made, chart=replace(made.chart, y=replace(made.chart.y, scale="log")))

    marks = [layer["mark"]["type"] for layer in spec(log, log.panels, "page")["layer"]]

    assert marks == ["rule", "point"]


def test_points_of_short_lines_are_seen():
    made = drawn(2)
    lines = replace(made, chart=replace(made.chart, mark="lines"))
    assert len(lines.panels[0].series[0].x) < FEW

    layers = spec(lines, lines.panels, "picture")["layer"]

    assert layers[-1]["mark"] == {"type": "point", "filled": True, "size": 55}


def test_a_flat_chart_has_a_scale():
    chart = Chart("a", "A", "…", "lines", CHARTS[2].x, CHARTS[2].y)
    trials = pl.DataFrame(
        {"arm": ["none"], "dataset": ["near"], "seed": [0], "lr": [0.5], "accuracy": [0.5]}
    )
    made = picture(chart, trials, ARMS)

    place = spec(made, made.panels, "page")["layer"][0]["encoding"]

    assert place["x"]["scale"]["domain"] == [0.25, 1.0]
    assert place["y"]["scale"]["domain"] == [-0.5, 1.5]


def test_words_give_the_numbers_of_a_chart():
    said = [described(made, made.panels[0], "near") for made in map(drawn, range(5))]

    assert said[0].startswith("Line chart of test accuracy by training step, near. no norm: 0.0")
    assert "batch norm: 0.0 % at 0, 89.5 % at 490." in said[0].replace("\N{NO-BREAK SPACE}", " ")
    assert "no norm: 46.7 % at no norm." in said[1].replace("\N{NO-BREAK SPACE}", " ")
    assert "at 0.01" in said[2]
    assert "Highest: 90.0 % at 0.01, batch norm." in said[3].replace("\N{NO-BREAK SPACE}", " ")
    assert said[4].startswith("Band chart of input by training step, near. no norm: −0.5 at 0")


def test_tables_of_charts_have_all_places_of_names_and_some_of_numbers():
    curve, heat = (numbers(drawn(i), drawn(i).panels[0], "near") for i in (0, 3))

    assert curve.head == ["training step", *ARMS.values()]
    assert [curve.rows[0][0], curve.rows[-1][0]] == ["0", "490"]
    assert len(curve.rows) == 10
    assert heat.head == ["norm", "0.01", "0.1", "1"]
    assert len(heat.rows) == 3


def test_means_are_by_arm_and_by_what_varies():
    record = record_of(study())

    table = means(record, "near")

    assert table.head == ["arm", "lr", "accuracy", "seconds"]
    assert len(table.rows) == 9
    row = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in table.rows[0]]
    assert row == ["no norm", "0.01", "50.0 % ± 2", "1 ± 0"]


def test_truth_values_are_shares():
    record = record_of(study())
    trials = record.trials.with_columns(trains=pl.col("seed") < 1)

    table = means(replace(record, trials=trials), "near")

    assert table.head == ["arm", "lr", "accuracy", "seconds", "trains"]
    assert table.rows[0][-1].replace("\N{NO-BREAK SPACE}", " ") == "33.3 % ± 58"


@pytest.mark.parametrize(
    ("meaning", "shown"),
    [
        ("test accuracy", "50.0 % ± 2"),
        ("share of the layers", "50.0 % ± 2"),
        ("test accuracy, or minus the test loss", "0.5 ± 0.02"),
        ("whether it trains", "50.0 % ± 2"),
        ("spread", "0.5 ± 0.02"),
    ],
)
def test_shares_are_percentages(meaning, shown):
    table = means(replace(record_of(study()), measured={"accuracy": meaning}), "near")

    assert table.rows[0][2].replace("\N{NO-BREAK SPACE}", " ") == shown


def test_means_of_hundreds_of_settings_are_cut_and_of_nan_are_said():
    many = MOST + 1
    trials = pl.DataFrame({"arm": ["none"] * many, "dataset": ["near"] * many, "seed": [0] * many})
    trials = trials.with_columns(lr=pl.int_range(many), note=pl.lit(""), accuracy=math.nan)

    table = means(replace(record_of(study()), trials=trials), "near")

    assert len(table.rows) == MOST
    assert f"the first {MOST} of {many} rows" in table.caption
    assert table.rows[0][2] == "not finite"


def test_colours_can_be_seen_on_both_papers():
    assert len(COLOURS) == len(DASHES) == len(SHAPES) == len(set(COLOURS))
    for colour, paper in itertools.product(COLOURS, PAPERS):
        assert contrast(colour, paper) >= 3


def contrast(*colours):
    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_report_of_a_folder_is_that_of_its_studies_with_pictures(tmp_path):
    made = study()
    save([made], tmp_path)

    written = report(tmp_path, tmp_path / "a.html")
    again = report(made, tmp_path / "b.html")

    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()
    names = [path.relative_to(tmp_path).as_posix() for path in written]
    assert names[:3] == ["a.html", "a/made-up-training.svg", "a/made-up-training.png"]
    assert len(names) == len(again) == 1 + 2 * len(CHARTS)
    for path in written[1:]:
        start = path.read_bytes()[:8]
        assert start.startswith(b"<svg " if path.suffix == ".svg" else b"\x89PNG\r\n\x1a\n")
        assert path.suffix == ".png" or "<img" not in path.read_text()


def test_only_charts_that_changed_are_drawn_again(tmp_path, monkeypatch):
    made = study(replace(experiment(), charts=CHARTS[1:3]))
    *_, picture = report(made, tmp_path / "a.html")
    first = (tmp_path / "a.html").read_text()
    picture.unlink()
    drawn = []
    svg_of = vl_convert.vegalite_to_svg
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda v: drawn.append(v) or svg_of(v))

    report(made, tmp_path / "a.html")

    titles = [spec.get("title") for spec in drawn]
    assert titles == ["By rate", None]  # the one whose picture is gone, and the small picture
    assert picture.exists()
    assert (tmp_path / "a.html").read_text() == first


@pytest.mark.parametrize(
    ("studies", "name", "message"),
    [([], "a.html", "there must be a study. Got none"), ([study()], "a", "must have an ending")],
)
def test_what_cannot_be_shown_is_refused(studies, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        report(studies, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_label_like_an_id_stays_as_it_is(tmp_path):
    made = study(replace(experiment(), arms={**ARMS, "none": "clip10"}, charts=CHARTS[1:2]))

    picture = report(made, tmp_path / "a.html")[1].read_text()

    assert ">clip10<" in picture


def test_a_study_without_charts_has_a_page(tmp_path):
    made = replace(experiment(), charts=())

    (written,) = report(study(made), tmp_path / "a.html")

    page = Page(written.read_text())
    assert "Charts" not in [text for _, text in page.all("h3")]
    assert HOSTILE in shown(page)
