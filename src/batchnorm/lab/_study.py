"""What the trials of one experiment add up to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ._experiment import Budget, Experiment, Grid, Question
from ._trial import Outcome, Trial
from .claims import Claim, overall
from .environment import Environment

__all__ = ["Study", "frame_of", "judged"]


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment that was run.

    Args:
        experiment: which.
        budget: its name.
        grid: what was run.
        trials: a row per trial: arm, dataset, seed, settings, what was measured, and ``seconds``
            of processor time.
        claims: with their verdicts.
        datasets: title by name.
        left_out: why a dataset, or an arm of a comparison, is missing, by name.
        environment: machine and software.
        reused: trials that an earlier run had finished.
        seconds: of this run.
    """

    experiment: Experiment
    budget: Budget
    grid: Grid
    trials: pl.DataFrame
    claims: tuple[Claim, ...]
    datasets: Mapping[str, str]
    left_out: dict[str, str]
    environment: Environment
    reused: int
    seconds: float

    @property
    def verdicts(self) -> pl.DataFrame:
        """A row per claim and dataset: statement, verdict, effect and its 95 % interval."""
        return pl.DataFrame(
            [
                {
                    "experiment": self.experiment.name,
                    "statement": claim.statement,
                    "dataset": dataset,
                    "verdict": finding.verdict,
                    "effect": finding.effect.mean,
                    "low": finding.effect.low,
                    "high": finding.effect.high,
                    "size": finding.size,
                    "seeds": finding.effect.count,
                    "evidence": finding.evidence,
                    "source": claim.source,
                }
                for claim in self.claims
                for dataset, finding in claim.findings.items()
            ]
        )


def frame_of(outcomes: Iterable[tuple[Trial, Outcome]]) -> pl.DataFrame:
    """A row per trial."""
    rows: list[dict[str, Any]] = [
        {"arm": trial.arm, "dataset": trial.dataset, "seed": trial.seed}
        | dict(trial.settings)
        | outcome.measured
        | {"seconds": outcome.seconds}
        for trial, outcome in outcomes
    ]

    return pl.DataFrame(rows, infer_schema_length=None)


def judged(question: Question, frame: pl.DataFrame, datasets: Mapping[str, str]) -> Claim:
    """The claim with what every dataset says about it.

    Args:
        question: the claim.
        frame: a row per trial.
        datasets: title by name.
    """
    findings = {
        name: question.judge(frame.filter(pl.col("dataset") == name))
        for name in frame["dataset"].unique(maintain_order=True)
    }
    agreed = len({found.verdict for found in findings.values()}) == 1
    evidence = (
        f"{datasets[name]}{'' if agreed else f' ({found.verdict})'}: {found.evidence}."
        for name, found in findings.items()
    )

    return Claim(
        statement=question.statement,
        verdict=overall(findings),
        evidence=" ".join(evidence),
        rule=question.rule,
        source=question.source,
        published=question.published,
        findings=findings,
    )
