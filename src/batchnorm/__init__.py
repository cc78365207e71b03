"""Batch normalization for PyTorch: a drop-in layer, its statistics, and tools around it."""

import typing as _typing

from . import functional as functional
from ._info import info as info
from ._memory import keep_pages as keep_pages
from ._types import BatchStats as BatchStats
from .layers import BatchNorm1d as BatchNorm1d
from .layers import BatchNorm2d as BatchNorm2d
from .layers import BatchNorm3d as BatchNorm3d
from .layers import BatchNormGRU as BatchNormGRU
from .layers import BatchNormLSTM as BatchNormLSTM
from .layers import BatchRenorm1d as BatchRenorm1d
from .layers import BatchRenorm2d as BatchRenorm2d
from .layers import BatchRenorm3d as BatchRenorm3d
from .layers import DomainBatchNorm1d as DomainBatchNorm1d
from .layers import DomainBatchNorm2d as DomainBatchNorm2d
from .layers import DomainBatchNorm3d as DomainBatchNorm3d
from .layers import GhostBatchNorm1d as GhostBatchNorm1d
from .layers import GhostBatchNorm2d as GhostBatchNorm2d
from .layers import GhostBatchNorm3d as GhostBatchNorm3d
from .layers import Ramp as Ramp
from .layers import RecurrentBatchNorm as RecurrentBatchNorm
from .layers import SequenceBatchNorm as SequenceBatchNorm
from .layers import SplitBatchNorm1d as SplitBatchNorm1d
from .layers import SplitBatchNorm2d as SplitBatchNorm2d
from .layers import SplitBatchNorm3d as SplitBatchNorm3d
from .layers import SyncBatchNorm as SyncBatchNorm
from .layers import WhitenedBatchNorm1d as WhitenedBatchNorm1d
from .layers import WhitenedBatchNorm2d as WhitenedBatchNorm2d
from .layers import WhitenedBatchNorm3d as WhitenedBatchNorm3d
from .layers import accumulate as accumulate
from .layers import domain as domain
from .layers import set_updates as set_updates
from .layers import skip_updates as skip_updates
from .stats import adapt as adapt
from .stats import recalibrate as recalibrate
from .stats import train_eval_gap as train_eval_gap
from .surgery import convert as convert
from .surgery import fold as fold
from .surgery import freeze as freeze
from .surgery import insert as insert
from .surgery import prune_report as prune_report
from .surgery import thaw as thaw
from .watch import watch as watch

if _typing.TYPE_CHECKING:
    from .doctor import diagnose as diagnose

__version__ = "0.1.0"

# Imported when they are first asked for.
_LATER = {"diagnose": "doctor"}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
