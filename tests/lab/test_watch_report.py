"""The report of a recording shows what was recorded, where and when it was recorded."""

import itertools
import json
import math
import random
import re

import pytest

from batchnorm.lab.renderers import watch
from batchnorm.lab.renderers.watch import _alerts, _heat, _ridge, _runs
from batchnorm.lab.renderers.watch._quantities import SECTIONS
from batchnorm.watch import Recording
from batchnorm.watch._schema import QUANTITIES
from tests.lab.pages import Page
from tests.lab.recordings import HOSTILE, alert, layer, recording

SHOWN = {shown.name: shown for section in SECTIONS.values() for shown in section}
# In the file for those who want more than a report shows.
LEFT_OUT = r"(in|out)_(p\d\d|low|high)|shift_noise"
TROUBLE = 30


def troubled():
    """Without batch norm, with a layer that is NaN from a step on, and alerts."""
    found = recording(norm=False, steps=6, depth=2)
    for row in found.layers:
        if row["path"] == "blocks.1.relu" and row["step"] >= TROUBLE:
            row |= {"in_mean": None, "in_std": None, "in_nonfinite": 3.0}
    found.alerts += [alert(step, "blocks.1.relu") for step in (30, 40, 50)]
    found.alerts.append(alert(20, "", "BN230", "warning", name="rate", measured="not JSON"))
    return found


def runs(*recordings):
    return _runs.name_apart([(f"{i}.parquet", found) for i, found in enumerate(recordings)])


def values(figure, mark=None):
    """The rows of a mark of a chart, or of its first."""
    marks = figure.spec.get("layer", [figure.spec])
    data = (mark or marks[0]).get("data") or figure.spec["data"]
    return figure.spec["datasets"][data["name"]]


def mark(figure, shape):
    return next(m for m in figure.spec["layer"] if m["mark"].get("shape") == shape)


def maps(name, *recordings):
    return list(_heat.heat_maps(SHOWN[name], runs(*recordings)))


@pytest.fixture(scope="module")
def text():
    pair = [("with.parquet", recording(steps=6, depth=2)), ("without.parquet", troubled())]
    return watch.render(pair)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


# ---------------------------------------------------------------------------------- the page


def test_page_has_its_sections_in_order(page):
    assert [text for _, text in page.all("h2")] == [
        "Alerts",
        "Logged numbers",
        "Mean and standard deviation, layer by layer",
        "Inputs",
        "Outputs",
        "Statistics",
        "Weights",
        "Gradients and updates",
        "What was recorded",
    ]
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_links_lead_to_parts_of_the_page(page):
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]

    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs, _ in page.all("a")} <= {f"#{name}" for name in ids}


def test_page_loads_nothing_from_a_network(page, text):
    assert all(attrs["src"].startswith("data:") for attrs, _ in page.all("img"))
    assert not page.all("link")
    assert not re.search(r"<script[^>]+src", text)
    (policy,) = (a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_every_chart_has_words_numbers_and_a_still(page):
    charts = [attrs for attrs, _ in page.all("div") if attrs.get("role") == "img"]
    (specs,) = (json.loads(body) for attrs, body in page.all("script") if "id" in attrs)

    assert [attrs["id"] for attrs in charts] == [f"chart-{key}" for key in specs]
    assert len(charts) > 10
    assert all(len(attrs["aria-label"]) > 60 for attrs in charts)
    assert [attrs["alt"] for attrs, _ in page.all("img")] == [a["aria-label"] for a in charts]
    tables = [text for _, text in page.all("caption")]
    assert len(tables) == len(charts)


def test_library_is_there_once(page):
    libraries = [body for _, body in page.all("script") if len(body) > 500_000]

    assert len(libraries) == 1
    assert "window.vegaEmbed=" in libraries[0].replace(" ", "")


def test_alerts_stand_in_the_table_with_their_remedies(page):
    cells = [text for _, text in page.all("td")]

    for told in ("error", "NaN in the input.", "Clip it.", "channels 3", "not JSON"):
        assert told in cells
    (sentence,) = (text for _, text in page.all("li") if text.startswith("without batch norm:"))
    assert sentence == (
        "without batch norm: 3 errors, 1 warning; the first at step 20, BN230 rate at the model."
    )
    assert ("with batch norm: no alert.") in [text for _, text in page.all("li")]


def test_what_never_differs_is_said_and_not_drawn(page):
    (sentence,) = (text for _, text in page.all("p") if "Dead channels" in text)

    assert sentence == "The same at every layer and step: Dead channels: 0."
    assert not maps("dead", recording())


def test_hostile_text_stays_text():
    found = recording(steps=2, depth=1, name=HOSTILE)
    found.layers.append(layer(HOSTILE, 9, 0, "activation", in_mean=1.0, in_std=1.0, out_std=1e9))
    found.alerts.append(alert(10, HOSTILE, name=HOSTILE, message=HOSTILE, remedy=HOSTILE))
    found.scalars[0]["name"] = HOSTILE
    found.run["model"] = HOSTILE

    shown = watch.render([("a.parquet", found)])

    page = Page(shown)
    assert HOSTILE not in shown
    assert "<b>" not in shown
    assert len(page.all("script")) == 3
    assert page.all("h1") == [({}, HOSTILE)]


def test_a_recording_without_layers_is_refused():
    empty = Recording(recording().run)

    with pytest.raises(ValueError, match=r"there must be rows of layers\. Got run\.parquet\."):
        watch.render([("run.parquet", empty)])


def test_every_number_of_the_format_is_shown_or_left_out_on_purpose():
    names = {quantity.name for quantity in QUANTITIES}

    assert set(SHOWN) <= names
    assert {name for name in names - set(SHOWN) if not re.fullmatch(LEFT_OUT, name)} == set()


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a"], ["a (0.parquet)", "a (1.parquet)"]),
        ([None, None], ["0.parquet", "1.parquet"]),
    ],
)
def test_runs_can_be_told_apart(names, titles):
    found = [recording(steps=1, depth=1) for _ in names]
    for one, name in zip(found, names, strict=True):
        one.run["name"] = name

    assert [run.title for run in runs(*found)] == titles


def test_runs_from_files_of_one_name_can_be_told_apart():
    pair = [("run.parquet", recording(steps=1, depth=1))] * 2

    titles = [run.title for run in _runs.name_apart(pair)]

    assert titles == ["1: with batch norm (run.parquet)", "2: with batch norm (run.parquet)"]


# ---------------------------------------------------------------------------------- heat maps


def test_cells_hold_the_recorded_numbers():
    found = recording(steps=7, depth=2)

    (figure,) = maps("grad_norm", found)

    recorded = {
        (row["path"], row["step"]): float(f"{row['grad_norm']:.4g}")
        for row in found.layers
        if row["grad_norm"] is not None
    }
    assert {(c["path"], c["s"]): c["v"] for c in values(figure)} == recorded
    assert len(recorded) == 14


def test_places_stand_in_the_order_of_the_forward():
    found = recording(steps=2, depth=3)
    random.Random(0).shuffle(found.layers)

    (figure,) = maps("in_std", found)

    sort = figure.spec["layer"][0]["encoding"]["y"]["sort"]
    assert sort == [f"blocks.{i}.{name}" for i in range(3) for name in ("norm", "relu")]


def test_runs_share_their_colours_and_their_time():
    short, long = recording(steps=5), recording(norm=False, steps=9)

    pair = maps("in_std", short, long)

    one, other = (figure.spec["layer"][0]["encoding"] for figure in pair)
    assert one["color"]["scale"] == other["color"]["scale"]
    assert one["x"]["scale"]["domain"] == other["x"]["scale"]["domain"] == [0, 90]
    stds = [row["in_std"] for row in short.layers + long.layers if row["in_std"]]
    assert one["color"]["scale"]["domain"] == [min(stds), max(stds)]


def test_colours_are_even_around_zero_for_signed_numbers():
    (figure,) = maps("in_mean", recording(norm=False))

    scale = figure.spec["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"][0] == -scale["domain"][1] < 0


def test_zero_has_a_colour_on_a_logarithmic_scale():
    found = recording(steps=3, depth=3)
    found.layers[0]["grad_norm"] = 0.0

    (figure,) = maps("grad_norm", found)

    scale = figure.spec["layer"][0]["encoding"]["color"]["scale"]
    assert scale["type"] == "log"
    assert 0 in [cell["v"] for cell in values(figure)]
    (shade,) = (step["calculate"] for step in figure.spec["layer"][0]["transform"])
    assert shade == f"max(datum.v, {scale['domain'][0]})"
    assert scale["domain"][0] > 0


@pytest.mark.parametrize(
    ("name", "spike"), [("in_std", 1e4), ("in_mean", -1e4), ("samples", 1.0), ("grad_norm", 1e9)]
)
def test_a_spike_of_one_step_survives_a_long_run(name, spike):
    found = recording(steps=1000, every=1, depth=2)
    rows = [row for row in found.layers if row[name] is not None and row["step"] == 777]
    rows[0][name] = spike

    (figure,) = maps(name, found)

    (cell,) = (c for c in values(figure) if c["v"] == spike)
    assert cell["s"] <= 777 < cell["e"]
    assert cell["path"] == rows[0]["path"]
    assert "of up to" in figure.caption


@pytest.mark.parametrize(("steps", "depth"), [(1, 1), (119, 2), (121, 2), (1000, 40)])
def test_spans_cover_every_step_once(steps, depth):
    (run,) = runs(recording(steps=steps, depth=depth, every=3))

    assert all(a.end == b.start for a, b in itertools.pairwise(run.spans))
    assert sum(span.rows for span in run.spans) == steps
    assert (run.spans[0].start, run.spans[-1].end) == (0, 3 * steps)
    assert len(run.spans) * len(run.places) <= max(_runs.CELLS, _runs.FEWEST * len(run.places))
    assert run.span(3 * steps) is None


def test_what_is_not_finite_is_crossed_out_and_has_no_colour():
    (figure,) = maps("in_mean", troubled())

    bad = [cell for cell in values(figure) if cell["path"] == "blocks.1.relu"]
    assert [cell["s"] for cell in bad] == [0, 10, 20]
    assert [row["step"] for row in values(figure, mark(figure, "cross"))] == [35, 45, 55]


def test_the_first_alert_of_a_rule_marks_its_layer():
    (figure,) = maps("in_mean", troubled())

    wanted = {"path": "blocks.1.relu", "step": 30, "alert": "BN104 nonfinite-statistics"}
    assert values(figure, mark(figure, "triangle-up")) == [wanted]


def test_words_of_a_heat_map_are_its_numbers():
    (figure,) = maps("grad_norm", found := recording(steps=4, depth=2))

    top = max((r for r in found.layers if r["grad_norm"]), key=lambda row: row["grad_norm"])
    assert f"at {top['path']}, step {top['step']}." in figure.alt
    assert "2 layers over steps 0 to 30" in figure.alt
    assert [row[0] for row in figure.table.rows] == ["blocks.0.linear", "blocks.1.linear"]


# ------------------------------------------------------------------------------------- ridges


def ridges(*recordings):
    return list(_ridge.ridges(runs(*recordings)))


def test_ridges_compare_what_enters_the_activations():
    pair = ridges(recording(depth=2), recording(norm=False, depth=2))

    for figure in pair:
        assert {row["path"] for row in values(figure)} == {"blocks.0.relu", "blocks.1.relu"}
        assert figure.caption.startswith("What enters each activation.")


def test_ridges_compare_outputs_where_a_run_has_no_activations():
    fused = recording(depth=2)
    fused.layers[:] = [row for row in fused.layers if row["kind"] != "activation"]

    with_norm, without = ridges(fused, recording(norm=False, depth=2))

    assert {row["path"] for row in values(with_norm)} == {"blocks.0.norm", "blocks.1.norm"}
    assert {row["path"] for row in values(without)} == {"blocks.0.relu", "blocks.1.relu"}
    first = next(row for row in fused.layers if row["kind"] == "batchnorm")
    assert values(with_norm)[0]["std"] == float(f"{first['out_std']:.4g}")


def test_ridges_have_one_scale():
    one, other = recording(depth=2), recording(norm=False, depth=2)
    for row in other.layers:
        if row["in_std"] is not None:
            row["in_std"] = 2.0

    pair = ridges(one, other)

    heights = [(row["low"] - row["high"]) / row["std"] for fig in pair for row in values(fig)]
    assert min(heights) == pytest.approx(max(heights), rel=1e-2)  # coordinates have 4 decimals


def test_a_net_that_explodes_leaves_the_other_visible():
    one, other = recording(depth=2), recording(norm=False, depth=2)
    for row in other.layers:
        if row["in_std"] is not None:
            row["in_std"] *= 1e6 ** (row["step"] / 390)

    small, large = ridges(one, other)

    assert "logarithmic" in small.caption
    assert min(row["low"] - row["high"] for row in values(small)) > 0.02
    widths = [row["low"] - row["high"] for row in values(large) if row["path"] == "blocks.1.relu"]
    assert widths == sorted(widths)
    assert widths[-1] <= 2 * _ridge.OVERLAP + 1e-3


def test_ridge_rows_stand_at_their_layers():
    (figure,) = ridges(recording(depth=3))

    for row in values(figure):
        place = int(row["path"].split(".")[1])
        assert row["high"] < place < row["low"]
    axis = figure.spec["layer"][0]["encoding"]["y"]["axis"]
    assert '["blocks.0.relu", "blocks.1.relu", "blocks.2.relu"][datum.value]' in axis["labelExpr"]


# ------------------------------------------------------------------------- alerts and scalars


def test_every_alert_is_on_the_time_line():
    (figure,) = _alerts.alert_lines(runs(troubled()))

    rows = values(figure)
    assert sorted((row["step"], row["rule"]) for row in rows) == [
        (20, "BN230 rate"),
        (30, "BN104 nonfinite-statistics"),
        (40, "BN104 nonfinite-statistics"),
        (50, "BN104 nonfinite-statistics"),
    ]
    table = _alerts.alert_table(runs(troubled())[0])
    assert [(row[0], row[3], row[4]) for row in table.rows] == [
        ("BN104 nonfinite-statistics", "30", "3"),
        ("BN230 rate", "20", "1"),
    ]


def test_alerts_cross_the_logged_numbers():
    (figure,) = _alerts.scalars(runs(troubled()))

    rules = [rule for rule in figure.spec["layer"] if rule["mark"]["type"] == "rule"]
    filters = [rule["transform"][0]["filter"] for rule in rules]
    assert filters == ["datum.severity == 'error'", "datum.severity == 'warning'"]
    assert sorted(row["step"] for row in values(figure, rules[0])) == [20, 30]


def test_long_curves_keep_their_ends():
    found = recording(steps=5000, every=1, depth=1)
    found.scalars[-1]["value"] = None

    (figure,) = _alerts.scalars(runs(found))

    rows = values(figure)
    assert len(rows) <= _alerts.POINTS + 1
    assert rows[0]["step"] == 0
    assert rows[-1]["step"] == 4998


def test_a_constant_is_said_and_not_drawn():
    found = recording(steps=10)
    found.scalars += [row | {"name": "lr", "value": 0.1} for row in found.scalars]

    assert [figure.title for figure in _alerts.scalars(runs(found))] == ["loss"]
    assert _alerts.constants(runs(found)) == ["lr: 0.1"]


def test_noise_in_the_last_digits_is_no_chart():
    found = recording(steps=10)
    for i, row in enumerate(found.layers):
        row["samples"] = 64 + i / 1e6 if row["samples"] else None

    assert not maps("samples", found)
    assert _heat.idle(SHOWN["samples"], runs(found)) == pytest.approx(64, rel=1e-3)


def test_curves_over_many_decades_are_logarithmic():
    found = recording(steps=10)
    for row in found.scalars:
        row["value"] = math.exp(-row["step"] / 5)

    (figure,) = _alerts.scalars(runs(found))

    assert figure.spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


def test_one_row_is_enough_for_a_report():
    only = Recording(
        recording().run, [layer("norm", None, 5, "batchnorm", in_mean=2.0, in_std=1.0)]
    )

    page = Page(watch.render([("a.parquet", only)]))

    assert any("Mean of the inputs: 2" in text for _, text in page.all("p"))
