"""Rows beside those of the layers: the run, numbers of the user, alerts."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from ._alerts import Alert
from ._schema import FORMAT, Row
from ._table import finite

__all__ = ["alert_rows", "run_row", "scalar_rows"]


def run_row(name: str, model: nn.Module, every: int, ranks: int) -> Row:
    """The first row of a recording."""
    try:
        own = version("batchnorm")
    except PackageNotFoundError:
        own = ""

    return {
        "type": "run",
        "format": FORMAT,
        "name": name,
        "model": type(model).__name__,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "batchnorm": own,
        "torch": str(torch.__version__),
        "every": every,
        "ranks": ranks,
    }


def scalar_rows(
    values: Mapping[str, float | Tensor], optimizers: Iterable[Any], step: int, seconds: float
) -> list[Row]:
    """Numbers that were logged, and learning rates."""
    rates = [float(group["lr"]) for o in optimizers for group in o.param_groups if "lr" in group]
    rates = list(dict.fromkeys(rates))
    named = {f"lr/{at}" if at else "lr": rate for at, rate in enumerate(rates)}
    for name, value in values.items():
        named[name] = float(value)

    return [
        {
            "type": "scalar",
            "step": step,
            "seconds": round(seconds, 3),
            "name": name,
            "value": finite(value),
        }
        for name, value in named.items()
    ]


def alert_rows(alerts: Iterable[Alert], seconds: float) -> list[Row]:
    """One row per alert."""
    return [
        {
            "type": "alert",
            "step": alert.step,
            "seconds": round(seconds, 3),
            "path": alert.path,
            "code": alert.code,
            "name": alert.name,
            "severity": alert.severity,
            "message": alert.message,
            "remedy": alert.remedy,
            "measured": json.dumps(alert.measured, default=str),
        }
        for alert in alerts
    ]
