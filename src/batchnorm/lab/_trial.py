"""One trial: everything that decides its numbers, and the numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Measure", "MeasureTogether", "Outcome", "Trial", "Value"]

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Trial:
    """One arm of an experiment, at one setting, from one seed.

    Args:
        experiment: its name.
        arm: key of the experiment's arms.
        dataset: name of the data.
        digest: SHA-256 of the data, so that other data is another trial.
        seed: of everything random.
        settings: what else was chosen, by name.

    Example:
        >>> Trial("bias", "with", "digits", "0c1d", 0, {"lr": 0.1})["lr"]
        0.1
    """

    experiment: str
    arm: str
    dataset: str
    digest: str
    seed: int
    settings: Mapping[str, Value] = field(hash=False)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __str__(self) -> str:
        chosen = ", ".join(f"{name}={value}" for name, value in self.settings.items())

        return f"{self.experiment}, {self.arm}, {self.dataset}, {chosen}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    Args:
        measured: numbers by name; a list for a curve.
        seconds: processor time; a share of it where trials run together.
    """

    measured: dict[str, Any]
    seconds: float


Measure = Callable[[Trial, Any], Mapping[str, Any]]
MeasureTogether = Callable[[Sequence[Trial], Any], Sequence[Mapping[str, Any]]]
