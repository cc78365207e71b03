"""Results as files, each there as a whole or not at all."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ._study import Study
from ._whole import write_whole

__all__ = ["finite", "save", "write_json"]


def write_json(value: object, path: Path) -> None:
    """Write `value`; a number that is not finite becomes null."""
    text = json.dumps(finite(value), indent=1, allow_nan=False)
    write_whole(path, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))


def finite(value: object) -> object:
    """The same for JSON: None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def save(studies: Iterable[Study], folder: Path) -> list[Path]:
    """Write every study to a folder of its name.

    Args:
        studies: what was run.
        folder: gets ``NAME/trials.parquet`` (a row per trial), ``NAME/verdicts.parquet`` (a row
            per claim and dataset) and ``NAME/result.json`` (all of it, and how it was made).

    Returns:
        The files.
    """
    written = []
    for study in studies:
        place = folder / study.experiment.name
        frames = {"trials": study.trials, "verdicts": study.verdicts}
        for name, frame in frames.items():
            write_whole(place / f"{name}.parquet", frame.write_parquet)
        write_json(_record(study), place / "result.json")
        written += [*(place / f"{name}.parquet" for name in frames), place / "result.json"]

    return written


def _record(study: Study) -> dict[str, object]:
    experiment = study.experiment

    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "about": experiment.about,
        "arms": dict(experiment.arms),
        "measured": dict(experiment.measured),
        "budget": study.budget,
        "seeds": study.grid.seeds,
        "settings": dict(study.grid.settings),
        "by_dataset": {name: dict(own) for name, own in study.grid.by_dataset.items()},
        "datasets": dict(study.datasets),
        "left_out": dict(study.left_out),
        "claims": [asdict(claim) for claim in study.claims],
        "environment": asdict(study.environment),
        "reused": study.reused,
        "seconds": study.seconds,
        "trials": study.trials.to_dicts(),
    }
