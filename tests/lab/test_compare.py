"""The user's model with other norms: which arms there are, and that each trains as it says."""

import math
from dataclasses import replace
from itertools import chain, islice

import polars as pl
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from batchnorm.lab import compare, ranking
from batchnorm.lab._batches import endless, rebatched
from batchnorm.lab._candidates import made
from batchnorm.lab._compare import _judge
from batchnorm.lab._ranking import lead
from tests.tolerance import ulp


def images():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (48,), generator=generator)
    x = torch.randn(48, 2, 4, 4, generator=generator) + y[:, None, None, None]
    batches = list(zip(x.split(8), y.split(8), strict=True))
    return batches[:4], batches[4:]


def shuffled():
    train, test = images()
    x, y = (torch.cat(part) for part in zip(*train, strict=True))
    return DataLoader(TensorDataset(x, y), 8, shuffle=True), test


def numbers():
    train, test = images()
    return [[(x, y[:, None].float()) for x, y in part] for part in (train, test)]


def net(norm=nn.BatchNorm2d, outputs=3):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, outputs)
    )


def bare():
    return net(norm=lambda _: nn.Identity())


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def one():
    return net(outputs=1)


def predicted(model, batches):
    with torch.no_grad():
        return zip(*((model(x), y) for x, y in batches), strict=True)


def small(model, tmp_path, data=images, **options):
    usual = {"lrs": (0.01, 0.1), "steps": 6, "seeds": 2, "jobs": 1, "out": tmp_path}

    return compare(model, data, **usual | options)


def test_every_norm_trains_at_every_rate(tmp_path):
    study = small(net, tmp_path)

    assert list(study.experiment.arms) == ["given", "group", "layer", "instance", "none"]
    assert study.left_out == {}
    assert len(study.trials) == 5 * 2 * 2
    at_one = study.trials.filter(seed=0, lr=0.1)
    assert len(set(at_one["loss"])) == 5
    assert study.trials["score"].is_between(0, 1).all()
    assert study.claims[0].statement == "The model is better with group norm than as it is."


def test_given_arm_is_the_model_as_it_is(tmp_path):
    study = small(net, tmp_path, shuffled)

    torch.manual_seed(1)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    train, test = shuffled()
    for x, y in islice(chain(train, train), 6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)

    found = study.trials.filter(arm="given", seed=1, lr=0.1)
    loss = nn.functional.cross_entropy(*(torch.cat(part) for part in predicted(model, test)))
    assert found["score"].item() == right / sum(len(y) for _, y in test)
    assert found["loss"].item() == pytest.approx(loss.item(), rel=8 * ulp(torch.float32))


def test_model_without_batch_norm_gets_it(tmp_path):
    study = small(bare, tmp_path)

    assert list(study.experiment.arms) == ["given", "batch-before"]
    assert len(set(study.trials.filter(seed=0, lr=0.1)["loss"])) == 2


def test_what_cannot_be_done_to_the_model_is_left_out(tmp_path):
    study = small(flat, tmp_path)

    assert "instance" not in study.experiment.arms
    assert "instance norm" in study.left_out


def test_regression_is_scored_by_its_loss(tmp_path):
    study = small(one, tmp_path, numbers, loss=mse_loss)

    assert study.trials["score"].to_list() == [-loss for loss in study.trials["loss"]]


def test_second_run_trains_nothing_and_another_model_does(tmp_path):
    first, second = small(bare, tmp_path), small(bare, tmp_path)

    assert (first.reused, second.reused) == (0, 8)
    assert second.trials.equals(first.trials)
    assert small(net, tmp_path).reused == 0
    assert small(bare, tmp_path, momentum=0.0).reused == 0


def test_each_is_judged_at_its_best_rate():
    rows = [("given", 0.1, 0, 0.5), ("given", 0.1, 1, 0.6), ("given", 1.0, 0, 0.1)]
    rows += [("given", 1.0, 1, 0.1), ("group", 0.1, 0, 0.1), ("group", 0.1, 1, math.nan)]
    rows += [("group", 1.0, 0, 0.75), ("group", 1.0, 1, 0.85)]
    frame = pl.DataFrame(rows, schema=["arm", "lr", "seed", "score"], orient="row")
    frame = frame.with_columns(batch_size=8)

    found = _judge("group", frame)

    assert found.effect.values == (0.25, 0.25)
    assert found.verdict == "holds"
    assert found.evidence.startswith(
        "score 0.25 higher, at rate 1 in batches of 8 and rate 0.1 in batches of 8 (95"
    )


def conv_without_bias():
    layers = [nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(32, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x.flatten(1))))


def test_every_combination_of_norm_place_and_batch_size_trains(tmp_path):
    study = small(
        net,
        tmp_path,
        norms=("batch", "group", "none"),
        placements=("given", "after"),
        batch_sizes=(8, 4),
    )

    arms = ["given", "group", "none", "batch-after", "group-after"]
    assert list(study.experiment.arms) == arms
    assert study.experiment.arms["group-after"] == "group norm after activations"
    assert study.left_out == {}
    assert len(study.trials) == 5 * 2 * 2 * 2
    assert len(set(study.trials.filter(seed=0, lr=0.1)["loss"])) == 10


@pytest.mark.parametrize("placement", ["before", "after"])
def test_norms_are_put_where_they_are_wanted(placement):
    model = made(conv_without_bias, f"group-{placement}", images()[0][0][0])

    kinds = [type(m).__name__ for m in model.modules() if not list(m.children())]
    behind = ["GroupNorm", "Identity", "ReLU"]
    if placement == "after":
        behind = ["Identity", "ReLU", "GroupNorm"]
    assert kinds == ["Conv2d", *behind, "Flatten", "Linear"]


def test_where_a_norm_is_taken_out_its_bias_stays():
    model = made(conv_without_bias, "none", images()[0][0][0])

    assert model[0].bias.tolist() == [0.0] * 4
    assert isinstance(model[1], nn.Identity)


def test_arms_begin_with_the_same_weights():
    sample = images()[0][0][0]
    weights = []
    for arm in ("given", "none", "batch-before", "group-after", "renorm"):
        torch.manual_seed(3)
        model = made(net, arm, sample)
        (conv,) = (m for m in model.modules() if isinstance(m, nn.Conv2d))
        weights.append(conv.weight)

    assert all(torch.equal(weight, weights[0]) for weight in weights)


def test_place_that_cannot_be_had_is_left_out(tmp_path):
    study = small(Functional, tmp_path, norms=("batch",), placements=("before", "after", "given"))

    assert list(study.experiment.arms) == ["given", "batch-before"]
    reason = study.left_out["batch norm after activations"]
    assert "every layer must get its norm. Got one without" in reason
    assert study.left_out["norms where they are"] == "the model has no batch norm"


def test_batch_size_that_a_norm_cannot_have_is_left_out(tmp_path):
    study = small(flat, tmp_path, norms=("layer",), batch_sizes=(1, 8, 100), lrs=(0.1,))

    pairs = study.trials.select("arm", "batch_size").unique(maintain_order=True).rows()
    assert set(pairs) == {("given", 8), ("layer", 1), ("layer", 8)}
    assert "as it is, batches of 1" in study.left_out
    assert study.left_out["batches of 100"] == "the training data has fewer than 100 examples"


def test_batches_are_cut_anew_and_see_as_many_examples(tmp_path):
    study = small(net, tmp_path, batch_sizes=(16,), norms=("none",), lrs=(0.1,), seeds=1, steps=4)

    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    train, test = images()
    for pair in (train[:2], train[2:]):
        x, y = (torch.cat(part) for part in zip(*pair, strict=True))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    outputs, targets = (torch.cat(part) for part in predicted(model.eval(), test))

    loss = study.trials.filter(arm="given")["loss"].item()
    expected = nn.functional.cross_entropy(outputs, targets).item()
    assert loss == pytest.approx(expected, rel=8 * ulp(torch.float32))


def test_examples_keep_their_order_over_passes():
    pairs = [(torch.arange(a, a + 3), torch.arange(a, a + 3) * 10) for a in (0, 3, 6)]

    found = list(islice(rebatched(endless(pairs), 4), 5))

    assert torch.cat([x for x, _ in found]).tolist() == [*range(9), *range(9), 0, 1]
    assert all(len(x) == 4 and torch.equal(y, 10 * x) for x, y in found)


def test_no_batch_of_any_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fewer than 99 examples"):
        small(net, tmp_path, batch_sizes=(99,))


def test_model_that_takes_no_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the model must take the data’s batches"):
        small(lambda: nn.Linear(7, 3), tmp_path)


@pytest.mark.parametrize("option", ["norms", "placements"])
def test_unknown_names_are_refused(option, tmp_path):
    with pytest.raises(ValueError, match=f"{option} must be among .* Got somewhere"):
        small(net, tmp_path, **{option: ("somewhere",)})


def test_ranking_puts_the_best_first_and_says_what_is_worse(tmp_path):
    study = small(net, tmp_path, norms=("group",), lrs=(0.1,), batch_sizes=(8, 4), seeds=3)
    scores = {("given", 8): (0.5, 0.6, 0.7), ("given", 4): (0.1, 0.2, 0.3)}
    scores |= {("group", 8): (0.6, 0.5, 0.7), ("group", 4): (0.5, math.nan, 0.9)}
    trials = study.trials.with_columns(
        score=pl.Series(
            scores[arm, size][seed]
            for arm, size, seed in study.trials.select("arm", "batch_size", "seed").rows()
        )
    )

    found = ranking(replace(study, trials=trials))

    assert found.select("norm", "batch_size").rows() == [
        ("as it is", 8),
        ("group norm", 8),
        ("as it is", 4),
        ("group norm", 4),
    ]
    assert found["worse"].to_list() == [False, False, True, True]
    assert found["behind"].to_list()[:3] == pytest.approx([0.0, 0.0, 0.4])
    assert found["score"][0] == pytest.approx(0.6)
    half = 4.302652729911275 * 0.1 / 3**0.5  # Student's t of 2 degrees of freedom
    assert found["high"][0] == pytest.approx(0.6 + half)


@pytest.mark.parametrize(("ahead", "verdict"), [(0.2, "holds"), (0.01, "undecided")])
def test_best_is_set_beside_the_second(ahead, verdict):
    scores = {"given": (0.5, 0.6, 0.55), "group": (0.5, 0.65, 0.52), "none": (0.1, 0.1, 0.1)}
    rows = [
        {"arm": arm, "batch_size": 8, "lr": 0.1, "seed": seed, "score": score}
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    ]
    frame = pl.DataFrame(rows).with_columns(
        score=pl.col("score") + ahead * (pl.col("arm") == "given")
    )

    found = lead({"given": "as it is", "group": "group norm", "none": "no norm"}, frame)

    assert found.verdict == verdict
    place = "rate 0.1, batches of 8"
    assert f"as it is, {place} is" in found.evidence
    assert f"ahead of group norm, {place}" in found.evidence


def test_one_combination_leads_nothing():
    frame = pl.DataFrame({"arm": "given", "batch_size": 8, "lr": 0.1, "seed": [0], "score": [0.5]})

    assert lead({"given": "as it is"}, frame).verdict == "undecided"


def test_charts_show_every_batch_size(tmp_path):
    study = small(net, tmp_path, norms=("group",), batch_sizes=(8, 4), seeds=1)
    rates, sizes = study.experiment.charts

    assert len(rates.rows(study.trials)) == 2 * 2 * 2
    shown = sizes.rows(study.trials)
    assert sorted(shown.select("arm", "batch_size").rows()) == [
        (arm, size) for arm in ("given", "group") for size in (4, 8)
    ]
    assert sizes.x.field == "batch_size"


@pytest.mark.parametrize(
    "options", [{"lrs": ()}, {"steps": 0}, {"seeds": 0}, {"batch_sizes": (8, 0)}]
)
def test_nothing_to_do_is_refused(options, tmp_path):
    with pytest.raises(ValueError, match="rates, steps, seeds and batch sizes are needed"):
        small(net, tmp_path, **options)


@pytest.mark.parametrize("once", [0, 1])
def test_data_for_one_pass_is_refused(once, tmp_path):
    def data():
        parts = list(images())
        parts[once] = iter(parts[once])
        return parts

    with pytest.raises(ValueError, match="data must begin again with every pass"):
        small(net, tmp_path, data)


def test_accuracy_is_a_share_where_every_pixel_has_a_class(tmp_path):
    def pixels():
        train, test = images()
        return [[(x, (x[:, 0] > 1).long()) for x, _ in part] for part in (train, test)]

    def dense():
        return nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

    study = small(dense, tmp_path, pixels, norms=("group",))

    assert study.trials["score"].is_between(0, 1).all()


def test_data_without_a_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a batch"):
        small(net, tmp_path, lambda: (images()[0], []))
