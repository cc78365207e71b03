"""Variants: every way computes the same, wrong ones are not timed, memory is that of the step."""

import dataclasses

import pytest
import torch

from benchmarks import (
    trial,
    variants,
    variants_conditional,
    variants_domain,
    variants_ghost,
    variants_recurrent,
    variants_renorm,
    variants_sequence,
    variants_sync,
    variants_whitened,
)
from benchmarks.context import Context
from benchmarks.footprint import peak_tensors
from benchmarks.trial import Way, make_row, results
from benchmarks.variants_common import make_data
from benchmarks.worker import run_worker

SMALL = [
    variants_ghost._trial((8, 3, 5, 5), 4),
    variants_ghost._trial((8, 3, 5, 5), 4, nhwc=True),
    variants_ghost._trial((8, 5), 3),
    variants_domain._mixed((16, 3, 5, 5)),
    variants_domain._mixed((16, 6), own=True),
    variants_domain._one((6, 3, 5, 5)),
    variants_renorm._trial((16, 3, 5, 5)),
    variants_whitened._trial("zca", (16, 6, 5, 5), 3),
    variants_whitened._trial("newton", (64, 6), 3),
    variants_conditional._trial((6, 3, 5, 5)),
    variants_sequence._trial((5, 12, 4)),
    variants_recurrent._trial("lstm", "recurrent", (5, 8, 4)),
    variants_recurrent._trial("gru", "recurrent", (5, 8, 4)),
    variants_recurrent._trial("lstm", "sequence", (5, 8, 4)),
]


@pytest.fixture
def timed(monkeypatch):
    """Instead of times: the names of the sides that would have been timed."""
    names: list[str] = []

    def measure(sides, *_, **__):
        names.extend(side.name for side in sides)

    monkeypatch.setattr(trial, "measure", measure)
    monkeypatch.setattr(trial, "timed_row", lambda key, facts, _: {"status": "ok", **facts})
    return names


@pytest.mark.parametrize("one", SMALL, ids=lambda one: one.key)
def test_all_ways_of_a_variant_agree(one, timed):
    row = make_row(one, Context(threads=1))
    assert row["status"] == "ok", row["reason"]
    assert timed == ["ours", "plain", *one.public]
    assert row["errors"].keys() == {"ours", *one.public}
    assert all({"output", "grad_input"} <= found.keys() for found in row["errors"].values())
    assert all(value > 0 for value in row["peak_mib"].values())


def spoiled(make, function):
    def make_spoiled(data) -> Way:
        way = make(data)
        forward = way.forward
        return dataclasses.replace(way, forward=lambda: function(forward()))

    return make_spoiled


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda y: y * 1.001, "output"),
        (lambda y: y.detach() + (y - y.detach()) * 1.001, "grad_input"),
        (lambda y: y + torch.nan, "output"),
    ],
)
@pytest.mark.parametrize("who", ["ours", "public"])
def test_wrong_way_is_named_and_nothing_is_timed(timed, who, function, name):
    one = SMALL[9]
    if who == "ours":
        bad = dataclasses.replace(one, ours=spoiled(one.ours, function))
    else:
        last = list(one.public)[-1]
        bad = dataclasses.replace(
            one, public={**one.public, last: spoiled(one.public[last], function)}
        )
    row = make_row(bad, Context(threads=1))
    assert row["status"] == "wrong"
    assert name in row["reason"]
    assert ("computes something else" in row["reason"]) == (who == "public")
    assert timed == []


def test_memory_of_a_variant_is_compared_too(timed):
    one = variants_renorm._trial((16, 3))

    def other_memory(data):
        way = one.ours(data)
        remembered = way.memory
        return dataclasses.replace(
            way, memory=lambda: {name: value + 0.01 for name, value in remembered().items()}
        )

    row = make_row(dataclasses.replace(one, ours=other_memory), Context(threads=1))
    assert "running_mean" in row["reason"]
    assert "running_var" in row["reason"]


def test_results_come_in_the_order_of_the_common_samples():
    data = make_data((6, 2))
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    x = data["input"][order].requires_grad_()
    way = Way(lambda: x * 2, {"input": x}, order=order)
    found = results(way, data["grad"])
    assert torch.equal(found["output"], data["input"] * 2)
    assert torch.equal(found["grad_input"], data["grad"] * 2)


def test_peak_counts_tensors_that_live_at_the_same_time():
    mib = 2**18  # float32 numbers

    def work():
        a = torch.empty(3 * mib)
        del a
        b, c = torch.empty(mib), torch.empty(mib)
        del b
        return torch.empty(mib), c

    assert peak_tensors(work) == 3
    assert peak_tensors(lambda: None) == 0


def test_peak_ends_its_recording_when_the_work_raises():
    def work():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        peak_tensors(work)
    assert peak_tensors(lambda: torch.empty(2**18)) == 1


def test_keys_are_unique_and_quick_rows_show_every_variant_once():
    found, quick = variants.trials(), variants.trials(quick=True)
    assert len({one.key for one in found}) == len(found)
    names = [one.variant for one in quick]
    assert sorted(names) == sorted({one.variant for one in found})
    assert len(variants.rows(Context(threads=1))) == len(found) + len(variants_sync.SHAPES)


@pytest.mark.slow
def test_two_ranks_measure_together():
    task = {
        "key": "k", "variant": "sync", "shape": [4, 3, 5, 5], "detail": "", "dtype": "float32",
        "mib": 0.0, "public": variants_sync.PUBLIC, "threads": 1, "quick": True,
    }  # fmt: skip
    row = run_worker("benchmarks.variants_sync", task, timeout=120)
    assert row["status"] == "ok", row.get("reason")
    assert list(row["ms"]) == ["ours", "plain", *variants_sync.PUBLIC]
    assert row["ms"]["ours"].keys() == {"forward", "backward", "total"}
