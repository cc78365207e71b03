"""Results as files, each there as a whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from .._errors import explain
from ._record import StudyRecord, record_of
from ._registry import every
from ._study import Study
from ._whole import write_whole

__all__ = ["finite", "load", "long_table", "save", "write_json", "write_tables"]

IDENTITY = ("arm", "dataset", "seed")


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
        write_json(record_of(study).plain(), place / "result.json")
        written += [*(place / f"{name}.parquet" for name in frames), place / "result.json"]

    return written


def load(folder: Path) -> list[StudyRecord]:
    """What :func:`save` wrote, in the order of ``lab list``; others follow by name.

    Raises:
        ValueError: there is nothing, or a file of another version.
    """
    paths = {path.parent.name: path for path in sorted(folder.glob("*/result.json"))}
    ordered = [name for name in every() if name in paths]
    found = [_read(paths[name]) for name in dict.fromkeys([*ordered, *paths])]
    if not found:
        rule, cure = "the folder must hold results", "Run batchnorm lab run first, or name --out"
        raise ValueError(explain("lab report", rule, f"none in '{folder}'", cure))

    return found


def _read(path: Path) -> StudyRecord:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return StudyRecord.read(plain, pl.read_parquet(path.with_name("trials.parquet")))
    except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        rule, cure = "results must be of this version", "Run the experiment again"
        got = f"'{path}' ({type(error).__name__}: {error})"
        raise ValueError(explain("lab report", rule, got, cure)) from None


def write_tables(records: Iterable[StudyRecord], folder: Path) -> list[Path]:
    """Write what all experiments found.

    Args:
        records: the studies.
        folder: gets ``results.parquet`` (:func:`long_table`) and ``results.json`` (claims,
            settings, machine and versions).

    Returns:
        The files.
    """
    records = list(records)
    table, summary = folder / "results.parquet", folder / "results.json"
    write_whole(table, long_table(records).write_parquet)
    write_json([record.summary() for record in records], summary)

    return [table, summary]


def long_table(records: Iterable[StudyRecord]) -> pl.DataFrame:
    """A row for every number that was measured.

    Returns:
        experiment, dataset, arm, seed, settings (JSON), measured (its name), position and part
        (in a curve, and in what stands at a point of it; null elsewhere), value.
    """
    return pl.concat([_numbers(record, name) for record in records for name in _measured(record)])


def _measured(record: StudyRecord) -> list[str]:
    """Columns of numbers."""
    other = {*IDENTITY, *record.settings}
    frame = record.trials.drop(other, strict=False)

    return [name for name, kind in frame.schema.items() if _counts(kind)]


def _counts(kind: pl.DataType) -> bool:
    """Numbers, truth values, or lists of them."""
    if isinstance(kind, pl.List):
        return _counts(kind.inner)  # type: ignore[arg-type]

    return kind.is_numeric() or kind == pl.Boolean


def _numbers(record: StudyRecord, name: str) -> pl.DataFrame:
    settings = [*record.settings]
    chosen = pl.struct(settings).struct.json_encode() if settings else pl.lit("{}")
    frame = record.trials.select(
        pl.lit(record.experiment).alias("experiment"),
        pl.col("dataset", "arm", "seed"),
        chosen.alias("settings"),
        pl.lit(name).alias("measured"),
        pl.col(name).alias("value"),
    )
    for place in ("position", "part"):
        if isinstance(frame.schema["value"], pl.List):
            ranks = pl.int_ranges(pl.col("value").list.len()).alias(place)
            frame = frame.with_columns(ranks).explode(place, "value")
        else:
            frame = frame.with_columns(pl.lit(None).alias(place))

    return frame.select(
        *("experiment", "dataset", "arm", "seed", "settings", "measured"),
        pl.col("position", "part").cast(pl.Int64),
        pl.col("value").cast(pl.Float64),
    )
