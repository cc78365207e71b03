"""What every experiment promises: it runs on embedded data and keeps its own words."""

import re
from pathlib import Path

import polars as pl
import pytest

from batchnorm import lab
from batchnorm.lab._registry import every
from batchnorm.lab.data import load

EXPERIMENTS = every()
KNOWN = {
    "figure1",
    "learning-rate",
    "initialisation",
    "gradient-flow",
    "robustness",
    "regularisation",
    "placement",
    "output-layer",
    "bias",
    "norms",
    "activations",
    "perils",
    "statistics",
    "drift",
    "inception-steps",
    "residual",
    "speech",
    "raw-features",
    "covariate-shift",
}
BUDGETS = {"smoke", "default", "full"}
CLOCKED = {"cost", "step_ms"}
"""What is measured by the clock."""


def test_all_experiments_are_found():
    assert set(EXPERIMENTS) == KNOWN


def test_the_page_lists_them():
    page = (Path(__file__).parents[3] / "docs" / "lab.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `([a-z][a-z0-9-]+)` \|", page, re.MULTILINE)) - BUDGETS == KNOWN


@pytest.fixture(autouse=True)
def nothing_cached():
    load.cache_clear()


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_declares_what_a_reader_needs(name):
    experiment = EXPERIMENTS[name]

    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert list(experiment.budgets) == ["smoke", "default", "full"]
    seconds = [grid.seconds for grid in experiment.budgets.values()]
    assert seconds == sorted(seconds)
    for grid in experiment.budgets.values():
        assert grid.seeds > 1
        assert not {"arm", "dataset", "seed", "seconds"} & {*grid.settings, *experiment.measured}
        assert not {*grid.settings} & {*experiment.measured}
        assert {*experiment.together} <= {"seed", "arm", *grid.settings}
        assert set(grid.by_dataset) <= set(grid.datasets)
        assert all(set(own) <= set(grid.settings) for own in grid.by_dataset.values())
    assert experiment.questions
    assert experiment.charts
    for question in experiment.questions:
        assert question.statement.endswith(".")
        assert "http" in question.source
        assert question.rule.startswith("holds if")
    keys = [chart.key for chart in experiment.charts]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_runs_on_embedded_data_the_same_way_again(name, tmp_path):
    experiment = EXPERIMENTS[name]

    (alone,) = lab.run(name, budget="smoke", jobs=1, seeds=1, out=tmp_path / "alone")
    (study,) = lab.run(name, budget="smoke", jobs=1, seeds=2, out=tmp_path / "two")

    trials = study.trials
    assert set(trials["arm"]) == set(experiment.arms)
    known = {"arm", "dataset", "seed", "seconds", *study.grid.settings, *experiment.measured}
    assert set(trials.columns) == known
    assert {claim.verdict for claim in study.claims} <= {"holds", "fails", "undecided"}
    for dataset in study.datasets:
        _check_charts(experiment, trials.filter(dataset=dataset))
    assert lab.save([study], tmp_path)
    times = [name for name in trials.columns if name == "seconds" or name in CLOCKED]
    # As text: a number that is not one equals itself there.
    again = trials.filter(seed=0).drop(times).to_dicts()
    assert repr(again) == repr(alone.trials.drop(times).to_dicts())


def _check_charts(experiment, trials):
    for chart in experiment.charts:
        rows = chart.rows(trials)
        assert len(rows), chart.key
        fields = {chart.x.field, chart.colour, *filter(None, [chart.columns])}
        fields |= {"low", "middle", "high"} if chart.mark == "bands" else {chart.y.field}
        fields |= {chart.value.field} if chart.value else set()
        if chart.mark == "heat":
            fields -= {chart.colour}
        assert fields <= set(rows.columns), chart.key
        assert not any(isinstance(rows[field].dtype, pl.List) for field in fields), chart.key
