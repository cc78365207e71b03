"""The user's model with other norms: which arms there are, and that each trains as it says."""

import math
from itertools import chain, islice

import polars as pl
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from batchnorm.lab import compare
from batchnorm.lab._compare import _judge
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

    assert list(study.experiment.arms) == ["given", "batch"]
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

    found = _judge("group", frame)

    assert found.effect.values == (0.25, 0.25)
    assert found.verdict == "holds"
    assert found.evidence.startswith("score 0.25 higher, at rates 1 and 0.1 (95")


@pytest.mark.parametrize("options", [{"lrs": ()}, {"steps": 0}, {"seeds": 0}])
def test_nothing_to_do_is_refused(options, tmp_path):
    with pytest.raises(ValueError, match="rates, steps and seeds are needed"):
        small(net, tmp_path, **options)


def test_data_without_a_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a batch"):
        small(net, tmp_path, lambda: (images()[0], []))
