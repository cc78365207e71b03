"""Batch normalization for PyTorch: a drop-in layer, its statistics, and tools around it."""

from . import functional as functional
from . import ops as ops
from ._types import BatchStats as BatchStats

__version__ = "0.1.0"
