"""One variant on one shape: several ways to compute the same, equal before they are timed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.check import allowed, compare, excess
from benchmarks.context import Context
from benchmarks.footprint import peak_tensors
from benchmarks.ops import training_side
from benchmarks.rows import Row, timed_row, wrong_row
from benchmarks.runner import Plan, measure

__all__ = ["PLAN", "QUICK", "Data", "Trial", "Way", "make_row", "peaks", "results", "wide", "wrong"]

Data = dict[str, Tensor]
PLAN = Plan(rounds=11, least=5, max_rounds=22, seconds=2.5)
QUICK = Plan(rounds=5, least=3, max_rounds=8, seconds=1.0)


@dataclass
class Way:
    """One way, as a training step: ``forward()``, then the gradients of ``leaves``.

    ``memory`` gives what is remembered of a batch, under names that the ways share, and ``forget``
    makes it as new. ``order`` says which of the common samples stands where in this way's batch.
    """

    forward: Callable[[], Tensor]
    leaves: dict[str, Tensor]
    memory: Callable[[], dict[str, Tensor]] = dict
    forget: Callable[[], object] = lambda: None
    order: Tensor | None = None

    @property
    def gradient_of(self) -> list[Tensor]:
        return list(self.leaves.values())

    def arranged(self, grad: Tensor) -> Tensor:
        """A tensor of the common samples in this way's order."""
        return grad if self.order is None else grad[self.order]

    def restored(self, values: Tensor) -> Tensor:
        """A tensor of this way's samples in the common order."""
        return values if self.order is None else values[self.order.argsort()]


@dataclass(frozen=True)
class Trial:
    """A row: float32 data, and makers of our way, the plain layer's and the public ones.

    The first public way is the judge in float64, and the peer beside which we are judged in
    float32. ``numbers`` is how many values a channel has.
    """

    variant: str
    shape: tuple[int, ...]
    detail: str
    numbers: int
    data: Callable[[], Data]
    ours: Callable[[Data], Way]
    plain: Callable[[Data], Way]
    public: dict[str, Callable[[Data], Way]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.variant} {'x'.join(map(str, self.shape))} {self.detail}"

    @property
    def facts(self) -> Row:
        return {
            "variant": self.variant,
            "shape": list(self.shape),
            "detail": self.detail,
            "dtype": "float32",
            "mib": torch.Size(self.shape).numel() * 4 / 2**20,
            "public": list(self.public),
        }


def wide(data: Data) -> Data:
    """The same numbers in float64."""
    return {name: t.double() if t.is_floating_point() else t for name, t in data.items()}


def results(way: Way, grad: Tensor) -> dict[str, Tensor]:
    """One training step of a way as new."""
    way.forget()
    output = way.forward()
    gradients = torch.autograd.grad(output, way.gradient_of, way.arranged(grad))
    found = {f"grad_{name}": g for name, g in zip(way.leaves, gradients, strict=True)}
    found["grad_input"] = way.restored(found["grad_input"])
    found["output"] = way.restored(output.detach())
    return found | {name: value.clone() for name, value in way.memory().items()}


def make_row(trial: Trial, context: Context) -> Row:
    """Check, then time; a row in which any way is wrong is not timed."""
    data = trial.data()
    ways = {"ours": trial.ours(data), "plain": trial.plain(data)}
    ways |= {name: make(data) for name, make in trial.public.items()}

    errors = _errors(trial, data, ways)
    facts = {**trial.facts, "errors": errors}
    reason = wrong(errors, list(trial.public), trial.numbers)
    if reason:
        return wrong_row(trial.key, facts, reason)

    sides = [training_side(name, way, way.arranged(data["grad"])) for name, way in ways.items()]
    facts["peak_mib"] = peaks(sides)
    timing = measure(sides, QUICK if context.quick else PLAN, after_round=context.tick)
    return timed_row(trial.key, facts, timing)


def _errors(trial: Trial, data: Data, ways: dict[str, Way]) -> dict[str, dict[str, float]]:
    """Of every way but the plain layer, which computes something else."""
    exact = wide(data)
    judge = next(iter(trial.public.values()))
    expected = results(judge(exact), exact["grad"])
    return {
        name: compare(results(way, data["grad"]), expected)
        for name, way in ways.items() if name != "plain"
    }  # fmt: skip


def wrong(errors: dict[str, dict[str, float]], public: list[str], numbers: int) -> str:
    """What is wrong, in words: ours beyond twice the first peer's error, or a peer.

    Of the peers only the same computation is asked: an error up to the root of a rounding.
    """
    same = torch.finfo(torch.float32).eps ** 0.5
    reasons = [excess(errors["ours"], allowed(errors[public[0]], numbers))]
    for name in public:
        found = excess(errors[name], dict.fromkeys(errors[name], same))
        reasons.append(f"{name} computes something else: {found}" if found else "")
    return "; ".join(filter(None, reasons))


def peaks(sides) -> dict[str, float]:
    """MiB of tensors in a step that is not the first."""
    return {side.name: round(peak_tensors(side.call), 4) for side in sides}
