"""Layers: parameters, buffers and mode around ``batchnorm.ops``; no arithmetic of their own."""

from ._batchnorm import BatchNorm1d as BatchNorm1d
from ._batchnorm import BatchNorm2d as BatchNorm2d
from ._batchnorm import BatchNorm3d as BatchNorm3d
from ._ghost import GhostBatchNorm1d as GhostBatchNorm1d
from ._ghost import GhostBatchNorm2d as GhostBatchNorm2d
from ._ghost import GhostBatchNorm3d as GhostBatchNorm3d
from ._policy import OnSingle as OnSingle
from ._ramp import Ramp as Ramp
from ._renorm import BatchRenorm1d as BatchRenorm1d
from ._renorm import BatchRenorm2d as BatchRenorm2d
from ._renorm import BatchRenorm3d as BatchRenorm3d
from ._sequence import SequenceBatchNorm as SequenceBatchNorm
from ._sync import SyncBatchNorm as SyncBatchNorm
from ._updates import accumulate as accumulate
from ._updates import set_updates as set_updates
from ._updates import skip_updates as skip_updates
from ._whitened import WhitenedBatchNorm1d as WhitenedBatchNorm1d
from ._whitened import WhitenedBatchNorm2d as WhitenedBatchNorm2d
from ._whitened import WhitenedBatchNorm3d as WhitenedBatchNorm3d
from .recurrent import BatchNormGRU as BatchNormGRU
from .recurrent import BatchNormLSTM as BatchNormLSTM
from .recurrent import RecurrentBatchNorm as RecurrentBatchNorm
