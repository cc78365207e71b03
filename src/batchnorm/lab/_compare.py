"""A model of the user's with other norms, on data of the user's."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .._errors import explain
from ._batches import endless, has_examples, rebatched
from ._candidates import GIVEN, NormName, PlacementName, candidates, made
from ._chart import Axis, Chart
from ._experiment import Experiment, Grid, Question
from ._ranking import best_of, lead
from ._rules import above, differences
from ._runner import key_of, study, written
from ._study import Study
from ._trial import Trial
from .claims import Finding
from .parallel import Backend, cores
from .store import TrialStore

__all__ = ["Loaders", "compare"]

SOURCE = "your model"
Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Loaders:
    """Data of the user's: batches of input and target.

    Args:
        title: the name in tables.
        digest: of what can be seen of it.
        train: batches to learn.
        test: batches to judge by.
        sample: the first input.
        size: examples of the first batch.
    """

    title: str
    digest: str
    train: Iterable[Any]
    test: Iterable[Any]
    sample: Any
    size: int


def compare(
    model: Callable[[], nn.Module],
    data: Callable[[], tuple[Iterable[Any], Iterable[Any]]],
    *,
    norms: Sequence[NormName] | None = None,
    placements: Sequence[PlacementName] | None = None,
    batch_sizes: Sequence[int] | None = None,
    lrs: Sequence[float] = (0.001, 0.01, 0.1),
    steps: int = 200,
    seeds: int = 3,
    momentum: float = 0.9,
    loss: Loss = cross_entropy,
    out: Path = Path("out/compare"),
    jobs: int | None = None,
    backend: Backend = "joblib",
    resume: bool = True,
    started: Callable[[Experiment, float, float], None] = lambda *_: None,
    done: Callable[[float], None] = lambda _: None,
) -> Study:
    """Train a model as it is and with other norms, in every combination, and judge by seeds.

    What cannot be done to the model is left out, with the reason. :func:`ranking` says which
    combination is best and which are not worse.

    Args:
        model: makes it; starting weights from torch's global generator.
        data: makes what to train on and what to test on: batches of input and target, such as
            a ``DataLoader``.
        norms: by default group, layer, instance and no norm in place of the model's batch norms,
            batch norm in a model without any.
        placements: ``"given"``: where the model has its batch norms; ``"before"`` or ``"after"``
            the activations: they are taken out and put there. By default where the model has
            them, before activations in a model without any.
        batch_sizes: the examples of `data` are put together in batches of these sizes; by default
            they come as they are.
        lrs: learning rates of SGD.
        steps: minibatches; of another size as many as have the same number of examples.
        seeds: how many.
        momentum: of SGD.
        loss: of outputs and targets, a mean over the batch.
        out: finished trials are kept in its folder ``trials``.
        jobs: processes; all cores by default.
        backend: ``"joblib"`` or ``"ray"``.
        resume: False runs every trial again: needed when training data has changed that the first
            batch of test data and the files of the functions do not show.
        started: called with the work and how much of it is done.
        done: called after each trial with its work.

    Returns:
        Trials with ``score``: test accuracy where targets are classes, else minus the test loss.

    Raises:
        ValueError: no rates, steps, seeds or batch sizes, an unknown norm or placement, data
            without a batch or for one pass only, or a model that cannot be trained on it.
    """
    if not lrs or min(steps, seeds, *(batch_sizes or (1,))) < 1:
        rule = "rates, steps, seeds and batch sizes are needed"
        got = f"lrs={tuple(lrs)}, steps={steps}, seeds={seeds}, batch_sizes={batch_sizes}"
        raise ValueError(explain("compare", rule, got, "Use one of each at least"))
    loaders = _loaders(model, loss, data)
    sizes, too_large = _sizes(loaders, batch_sizes)
    found = candidates(model, loaders.sample, norms, placements, sizes)
    if GIVEN not in found.arms:
        rule, cure = "the model must take the data’s batches", "Change the model or the sizes"
        raise ValueError(explain("compare", rule, found.left_out["as it is"], cure))
    settings = {"lr": tuple(lrs), "batch_size": sizes, "steps": (steps,), "momentum": (momentum,)}
    experiment = Experiment(
        name="compare",
        title="The model with other norms",
        about=f"SGD with momentum {momentum}, {steps} steps of {loaders.size} examples, or as many "
        "examples in batches of another size.",
        arms=found.arms,
        budgets={"default": Grid(seeds, ("data",), settings, 0.0)},
        measure=partial(_measure, model, loss),
        measured={"score": "test accuracy, or minus the test loss", "loss": "test loss"},
        questions=_questions(found.arms),
        charts=CHARTS,
        keep=lambda arm, chosen: (arm, chosen["batch_size"]) not in found.impossible,
        load=lambda _name, _folder: _loaders(model, loss, data),
    )
    result = study(
        experiment,
        budget="default",
        folder=None,
        seeds=None,
        store=TrialStore(out / "trials", key_of(_measure)),
        jobs=jobs or cores(),
        backend=backend,
        resume=resume,
        started=started,
        done=done,
    )
    result.left_out.update(too_large | found.left_out)

    return result


def _loaders(model: Callable[[], Any], loss: Loss, data: Callable[[], Any]) -> Loaders:
    """The data; its digest covers what the user wrote, as far as that can be seen."""
    train, test = data()
    if isinstance(train, Iterator) or isinstance(test, Iterator):
        rule, got = "data must begin again with every pass", "an iterator, which ends after one"
        raise ValueError(explain("compare", rule, got, "Return lists or DataLoaders"))
    try:
        first = [next(iter(batches)) for batches in (train, test)]
    except StopIteration:
        rule, cure = "training and test data must have a batch", "Return two loaders that do"
        raise ValueError(explain("compare", rule, "none", cure)) from None
    digest = hashlib.sha256(str(model()).encode())
    for function in (model, loss, data):
        digest.update(getattr(function, "__qualname__", "").encode())
        digest.update(written(function))
    for tensor in (part for batch in first[1:] for part in batch):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    sample, y = first[0]

    return Loaders("your data", digest.hexdigest(), train, test, sample, len(y))


def _sizes(
    loaders: Loaders, wanted: Sequence[int] | None
) -> tuple[tuple[int, ...], dict[str, str]]:
    """Batch sizes that the data can have, and why not the others."""
    left_out = {
        f"batches of {size}": f"the training data has fewer than {size} examples"
        for size in wanted or ()
        if size != loaders.size and not has_examples(loaders.train, size)
    }
    sizes = tuple(s for s in wanted or (loaders.size,) if f"batches of {s}" not in left_out)
    if not sizes:
        rule, got = "the data must have a batch of some size", "; ".join(left_out.values())
        raise ValueError(explain("compare", rule, got, "Use smaller batch_sizes"))

    return sizes, left_out


def _measure(
    model: Callable[[], nn.Module], loss: Loss, trial: Trial, data: Loaders
) -> Mapping[str, float]:
    size = trial["batch_size"]
    batches = endless(data.train)
    if size != data.size:
        batches = rebatched(batches, size)
    torch.manual_seed(trial.seed)  # a loader that shuffles has drawn numbers
    net = made(model, trial.arm, data.sample).train()
    optimizer = torch.optim.SGD(net.parameters(), trial["lr"], trial["momentum"])
    for _ in range(max(1, round(trial["steps"] * data.size / size))):
        x, y = next(batches)
        optimizer.zero_grad()
        lost = loss(net(x), y)
        lost.backward()
        optimizer.step()
        if not math.isfinite(lost.item()):
            break

    return _tested(net.eval(), loss, data.test)


@torch.no_grad()
def _tested(net: nn.Module, loss: Loss, batches: Iterable[Any]) -> dict[str, float]:
    right = labels = total = 0
    lost = 0.0
    classes = False
    for x, y in batches:
        outputs = net(x)
        lost += float(loss(outputs, y)) * len(y)
        total += len(y)
        labels += y.numel()  # several of an example where every pixel has one
        classes = not y.is_floating_point()
        if classes:
            right += int((outputs.argmax(1) == y).sum())
    mean = lost / total

    return {"score": right / labels if classes else -mean, "loss": mean}


def _questions(arms: Mapping[str, str]) -> list[Question]:
    """One for each norm, and which combination to take."""
    better = [
        Question(
            f"The model is better with {label} than as it is.",
            SOURCE,
            "holds if its score is higher, each at the rate and batch size that suit it best",
            partial(_judge, arm),
        )
        for arm, label in arms.items()
        if arm != GIVEN
    ]
    best = Question(
        "One combination of norm, batch size and rate is the best.",
        SOURCE,
        "holds if the score of the best is higher than that of the second, seed by seed",
        partial(lead, arms),
    )

    return [*better, best]


def _judge(arm: str, frame: pl.DataFrame) -> Finding:
    best = {name: best_of(frame.filter(arm=name)) for name in (arm, GIVEN)}
    at = " and ".join(_place(trials) for trials in best.values())
    score = differences(pl.concat(best.values()), "score", arm, GIVEN)

    return above(score, 0.0, f"score {{}} higher, at {at}")


def _place(trials: pl.DataFrame) -> str:
    """The settings that these trials share, in words."""
    return "rate {:g} in batches of {}".format(*trials.select("lr", "batch_size").row(0))


def _at_best_rates(frame: pl.DataFrame) -> pl.DataFrame:
    groups = frame.group_by("arm", "batch_size", maintain_order=True)

    return pl.concat(best_of(trials) for _, trials in groups)


SCORE = Axis("score", "score (test accuracy, or minus the test loss)")
CHARTS = (
    Chart(
        "rates",
        "Score by learning rate",
        "Each batch size by itself.",
        "lines",
        Axis("lr", "learning rate", "log"),
        SCORE,
        columns="batch_size",
    ),
    Chart(
        "batch-sizes",
        "Score by batch size",
        "Each at the rate that suits it best.",
        "points",
        Axis("batch_size", "examples of a batch", "ordinal"),
        SCORE,
        rows=_at_best_rates,
    ),
)
