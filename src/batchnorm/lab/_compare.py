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
from torch.nn.modules.batchnorm import _BatchNorm

from .._errors import explain
from ..surgery import convert, insert
from ._experiment import Experiment, Grid, Question
from ._rules import above, differences
from ._runner import key_of, study, written
from ._study import Study
from ._trial import Trial
from .claims import Finding
from .parallel import Backend, cores
from .store import TrialStore

__all__ = ["Loaders", "compare"]

Loss = Callable[[Any, Tensor], Tensor]
EXCHANGED = {
    "group": ("GroupNorm", "group norm"),
    "layer": ("LayerNorm", "layer norm"),
    "instance": ("InstanceNorm", "instance norm"),
    "none": ("Identity", "no norm"),
}


@dataclass(frozen=True, eq=False)
class Loaders:
    """Data of the user's: batches of input and target."""

    title: str
    digest: str
    train: Iterable[Any]
    test: Iterable[Any]


def compare(
    model: Callable[[], nn.Module],
    data: Callable[[], tuple[Iterable[Any], Iterable[Any]]],
    *,
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
    """Train a model as it is and with other norms, at several learning rates, and judge by seeds.

    Batch norms become group, layer, instance and no norm; a model without any gets them. What
    cannot be done to the model is left out, with the reason.

    Args:
        model: makes it; starting weights from torch's global generator.
        data: makes what to train on and what to test on: batches of input and target, such as
            a ``DataLoader``.
        lrs: learning rates of SGD.
        steps: minibatches.
        seeds: how many.
        momentum: of SGD.
        loss: of outputs and targets, a mean over the batch.
        out: finished trials are kept in its folder ``trials``.
        jobs: processes; all cores by default.
        backend: ``"joblib"`` or ``"ray"``.
        resume: False runs every trial again.
        started: called with the work and how much of it is done.
        done: called after each trial with its work.

    Returns:
        Trials with ``score``: test accuracy where targets are classes, else minus the test loss.

    Raises:
        ValueError: no rates, steps or seeds, or data without a batch.
    """
    if not lrs or steps < 1 or seeds < 1:
        rule, cure = "rates, steps and seeds are needed", "Use one of each at least"
        got = f"lrs={tuple(lrs)}, steps={steps}, seeds={seeds}"
        raise ValueError(explain("compare", rule, got, cure))
    loaders = _loaders(model, loss, data)
    arms, left_out = _arms(model, next(iter(loaders.train))[0])
    settings = {"lr": tuple(lrs), "steps": (steps,), "momentum": (momentum,)}
    experiment = Experiment(
        name="compare",
        title="The model with other norms",
        about=f"SGD with momentum {momentum}, {steps} steps.",
        arms=arms,
        budgets={"default": Grid(seeds, ("data",), settings, 0.0)},
        measure=partial(_measure, model, loss),
        measured={"score": "test accuracy, or minus the test loss", "loss": "test loss"},
        questions=[_question(arm, label) for arm, label in arms.items() if arm != "given"],
        load=lambda _name, _folder: _loaders(model, loss, data),
    )
    found = study(
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
    found.left_out.update(left_out)

    return found


def _loaders(model: Callable[[], Any], loss: Loss, data: Callable[[], Any]) -> Loaders:
    """The data; its digest covers what the user wrote, as far as that can be seen."""
    train, test = data()
    try:
        first = [next(iter(batches)) for batches in (train, test)]
    except StopIteration:
        rule, cure = "training and test data must have a batch", "Return two loaders that do"
        raise ValueError(explain("compare", rule, "none", cure)) from None
    digest = hashlib.sha256(str(model()).encode())
    for function in (model, loss, data):
        digest.update(str(getattr(function, "__qualname__", function)).encode())
        digest.update(written(function))
    for tensor in (part for batch in first[1:] for part in batch):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())

    return Loaders("your data", digest.hexdigest(), train, test)


def _arms(model: Callable[[], nn.Module], sample: Tensor) -> tuple[dict[str, str], dict[str, str]]:
    """Labels of what can be done, and why the rest cannot."""
    exchanged = {name: label for name, (_, label) in EXCHANGED.items()}
    wanted = exchanged if _normed(model()) else {"batch": "batch norm inserted"}
    arms, left_out = {"given": "as it is"}, {}
    for name, label in wanted.items():
        try:
            _made(model, name, sample).train()(sample)
        except (ValueError, RuntimeError, TypeError) as error:
            left_out[label] = str(error).splitlines()[0]
        else:
            arms[name] = label

    return arms, left_out


def _made(model: Callable[[], nn.Module], arm: str, sample: Tensor) -> nn.Module:
    net = model()
    if arm == "batch":
        insert(net, sample=sample)
    elif arm != "given":
        convert(net, EXCHANGED[arm][0])
        if _normed(net):
            rule, cure = "every batch norm must be exchanged", "See what convert says of the model"
            raise ValueError(explain("compare", rule, "some that stayed", cure))

    return net


def _normed(net: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def _measure(
    model: Callable[[], nn.Module], loss: Loss, trial: Trial, data: Loaders
) -> Mapping[str, float]:
    batches = _endless(data.train)
    sample, _ = next(iter(data.train))
    torch.manual_seed(trial.seed)  # a loader that shuffles has drawn numbers
    net = _made(model, trial.arm, sample).train()
    optimizer = torch.optim.SGD(net.parameters(), trial["lr"], trial["momentum"])
    for _ in range(trial["steps"]):
        x, y = next(batches)
        optimizer.zero_grad()
        lost = loss(net(x), y)
        lost.backward()
        optimizer.step()
        if not math.isfinite(lost.item()):
            break

    return _tested(net.eval(), loss, data.test)


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from batches


@torch.no_grad()
def _tested(net: nn.Module, loss: Loss, batches: Iterable[Any]) -> dict[str, float]:
    right = total = 0
    lost = 0.0
    classes = False
    for x, y in batches:
        outputs = net(x)
        lost += float(loss(outputs, y)) * len(y)
        total += len(y)
        classes = not y.is_floating_point()
        if classes:
            right += int((outputs.argmax(1) == y).sum())
    mean = lost / total

    return {"score": right / total if classes else -mean, "loss": mean}


def _question(arm: str, label: str) -> Question:
    return Question(
        f"The model is better with {label} than as it is.",
        "your model",
        "holds if its score is higher, each at the rate that suits it best",
        partial(_judge, arm),
    )


def _judge(arm: str, frame: pl.DataFrame) -> Finding:
    best = {name: _best(frame, name) for name in (arm, "given")}
    at_best = pl.concat(
        [frame.filter(arm=name, lr=rate) for name, rate in best.items()], how="vertical"
    )
    text = f"score {{}} higher, at rates {best[arm]:g} and {best['given']:g}"

    return above(differences(at_best, "score", arm, "given"), 0.0, text)


def _best(frame: pl.DataFrame, arm: str) -> float:
    means = frame.filter(arm=arm).group_by("lr").agg(pl.col("score").mean()).fill_nan(-math.inf)

    return float(means.sort("score", "lr")["lr"][-1])
