"""The numbers of charts, and what files keep of a study."""

import json
import math
from dataclasses import replace

import polars as pl
import pytest

from batchnorm.lab import Axis, Chart
from batchnorm.lab._files import finite, load, long_table, save, write_tables
from batchnorm.lab._record import record_of
from batchnorm.lab._series import POINTS, picture
from batchnorm.lab._study import judged
from tests.lab.studies import ARMS, CHARTS, RATES, STEPS, experiment, study

LINE = Chart("a", "A", "…", "lines", Axis("x", "x"), Axis("y", "y"))


def frame(**columns):
    rows = max(map(len, columns.values()))
    base = {"arm": ["none"] * rows, "dataset": ["near"] * rows, "seed": [*range(rows)]}
    return pl.DataFrame(base | columns)


def only(chart, trials):
    (panel,) = picture(chart, trials, ARMS).panels
    (series,) = panel.series
    return series


def test_series_are_means_and_ranges_over_seeds_in_the_order_of_arms():
    drawn = picture(CHARTS[2], study().trials, ARMS)

    assert drawn.names == tuple(ARMS.values())
    near, far = drawn.panels
    assert (near.dataset, far.dataset) == ("near", "far")
    batch = near.series[1]
    assert batch.label == "batch norm"
    assert batch.x == RATES
    assert batch.mean == (0.9, 0.9, 0.8)
    assert (batch.low[0], batch.high[0]) == (0.88, 0.92)


def test_columns_set_panels_apart_and_bands_keep_their_ends():
    drawn = picture(CHARTS[4], study().trials, ARMS)

    places = [(panel.dataset, panel.column) for panel in drawn.panels]
    assert places == [(d, ARMS[a]) for d in ("near", "far") for a in ("none", "batch")]
    (series,) = drawn.panels[0].series
    assert series.x == STEPS
    assert (series.low[0], series.mean[0], series.high[0]) == (-0.7, -0.5, -0.2)


def test_heat_has_a_series_for_each_row_and_names_for_places():
    drawn = picture(CHARTS[3], study().trials, ARMS)

    assert drawn.order == ("0.01", "0.1", "1")
    assert [one.label for one in drawn.panels[0].series] == list(ARMS.values())
    assert drawn.panels[0].series[0].mean == (0.5, 0.5, 0.4)


def test_numbers_of_a_heat_map_go_up():
    drawn = picture(replace(CHARTS[3], y=CHARTS[3].x, x=CHARTS[3].y), study().trials, ARMS)

    assert drawn.names == ("1", "0.1", "0.01")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_mean_that_is_not_finite_is_a_gap(bad):
    series = only(LINE, frame(x=[1, 1, 2], y=[1.0, bad, 3.0]))

    assert series.mean == (None, 3.0)


def test_logarithmic_axes_have_no_place_for_zero():
    chart = replace(LINE, x=Axis("x", "x", "log"), y=Axis("y", "y", "log"))

    series = only(chart, frame(x=[0.0, 1.0, 2.0], y=[1.0, 0.0, 3.0]))

    assert series.x == (1.0, 2.0)
    assert series.mean == (None, 3.0)


def test_series_of_numbers_say_what_they_count():
    trials = frame(x=[1, 1], y=[1, 2], batch_size=[64, 8])

    assert picture(replace(LINE, colour="batch_size"), trials, ARMS).names == (
        "batch size 8",
        "batch size 64",
    )


def test_numbers_and_missing_ones_make_names_in_order():
    chart = replace(LINE, mark="bars", x=Axis("x", "x"), colour="deep")
    trials = frame(x=[None, 0.5, 10.0], y=[1, 2, 3], deep=[True, True, False])

    drawn = picture(chart, trials, ARMS)

    assert drawn.order == ("0.5", "10", "none")
    assert drawn.names == ("deep no", "deep yes")


def test_labels_of_arms_stand_in_the_order_of_arms():
    chart = replace(LINE, mark="bars", x=Axis("label", "label"))
    labels = ["group norm", "no norm", "batch norm"]
    arms = {"none": "no norm", "batch": "batch norm", "group": "group norm"}

    drawn = picture(chart, frame(label=labels, y=[1, 2, 3]), arms)

    assert drawn.order == tuple(arms.values())


def test_long_series_are_thinned_to_their_end():
    series = only(LINE, frame(x=list(range(1234)), y=list(range(1234))))

    assert len(series.x) <= POINTS + 1
    assert (series.x[0], series.x[-1]) == (0, 1233)


def test_names_are_never_thinned():
    chart = replace(LINE, x=Axis("x", "x", "ordinal"))

    assert len(only(chart, frame(x=list(range(300)), y=[1.0] * 300)).x) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [({"colour": "colour"}, "colour"), ({"y": Axis("note", "y")}, "conversion")],
)
def test_a_chart_of_columns_that_are_not_there_is_refused(change, message):
    with pytest.raises(ValueError, match=f"chart 'a': rows must have the columns.*{message}"):
        picture(replace(LINE, **change), frame(x=[1], y=[1], note=["a"]), ARMS)


def test_a_chart_that_cannot_be_drawn_is_left_out_with_the_reason():
    broken = replace(CHARTS[0], rows=lambda trials: trials.filter(arm="nobody")["nothing"])

    record = record_of(study(replace(experiment(), charts=(broken, *CHARTS[1:]))))

    assert len(record.charts) == len(CHARTS) - 1
    assert "nothing" in record.left_out["chart 'training'"]
    assert record.left_out["away"] == "no folder"


def test_a_chart_without_rows_has_no_panels():
    chart = replace(LINE, rows=lambda trials: trials.filter(arm="nobody"))

    assert picture(chart, frame(x=[1], y=[1]), ARMS).panels == ()


def test_what_is_read_back_is_what_was_saved(tmp_path):
    made = study()
    save([made], tmp_path)

    (read,) = load(tmp_path)

    kept = record_of(made)
    assert read.trials.equals(kept.trials)
    assert finite(read.summary()) == finite(kept.summary())  # without spread, the size is infinite
    assert [chart.panels for chart in read.charts] == [chart.panels for chart in kept.charts]
    assert read.claims[0].findings["near"].effect == kept.claims[0].findings["near"].effect
    assert read.charts[0].chart.y == CHARTS[0].y


def test_open_intervals_survive_json(tmp_path):
    made = study()
    one = made.trials.filter(seed=0)
    alone = judged(made.experiment.questions[0], one, made.datasets)
    save([replace(made, trials=one, claims=(alone,))], tmp_path)

    (read,) = load(tmp_path)

    effect = read.claims[0].findings["near"].effect
    assert (effect.low, effect.high) == (-math.inf, math.inf)
    assert math.isnan(read.claims[0].findings["near"].size)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"experiment": "old"}'])
def test_files_of_another_version_are_named(tmp_path, text):
    save([study()], tmp_path)
    file = tmp_path / "made-up" / "result.json"
    file.write_text(text)

    with pytest.raises(ValueError, match=rf"must be of this version\. Got '{file}'.*Run the"):
        load(tmp_path)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=rf"must hold results\. Got none in '{tmp_path}'"):
        load(tmp_path)


def test_long_table_has_every_number_once():
    made = study()

    table = long_table([record_of(made)])

    trials, measured = len(made.trials), {"accuracy", "curve", "step", "seconds"}
    assert set(table["measured"]) == measured
    assert len(table) == trials * (2 + 2 * len(STEPS))
    curve = table.filter(measured="curve", arm="batch", dataset="near", seed=1)
    first = curve.filter(pl.col("settings").str.contains('"lr":0.1,'))
    assert first["position"].to_list() == list(range(len(STEPS)))
    mine = made.trials.filter(arm="batch", dataset="near", seed=1, lr=0.1)["curve"][0]
    assert first["value"].to_list() == mine.to_list()
    assert table.filter(measured="accuracy")["position"].null_count() == trials


def test_long_table_takes_nested_lists_and_no_settings():
    made = study()
    trials = pl.DataFrame(
        {"arm": ["none"], "dataset": ["near"], "seed": [0], "p": [[[1, 2], [3, 4]]], "seconds": [1]}
    )
    record = replace(record_of(made), trials=trials, settings={})

    table = long_table([record]).filter(measured="p")

    assert table.select("position", "part", "value").rows() == [
        (0, 0, 1.0),
        (0, 1, 2.0),
        (1, 0, 3.0),
        (1, 1, 4.0),
    ]
    assert set(table["settings"]) == {"{}"}


def test_long_table_counts_what_is_true():
    made = study()
    record = replace(record_of(made), trials=made.trials.with_columns(good=pl.lit(True)))

    assert set(long_table([record]).filter(measured="good")["value"]) == {1.0}


def test_tables_are_written(tmp_path):
    table, summary = write_tables([record_of(study())], tmp_path)

    assert len(pl.read_parquet(table)) > 0
    (read,) = json.loads(summary.read_text(), parse_constant=pytest.fail)
    assert read["claims"][0]["verdict"] == "holds"
    assert read["environment"]["machine"] == "a machine"
