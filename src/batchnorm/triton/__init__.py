"""The operators in Triton: names, arguments and results of ``batchnorm.reference``.

For CUDA and ROCm, and for the CPU in Triton's interpreter. Not imported by ``import batchnorm``.
"""

from ._backward import batch_norm_backward_apply as batch_norm_backward_apply
from ._backward import batch_norm_backward_reduce as batch_norm_backward_reduce
from ._backward import batch_norm_eval_backward as batch_norm_eval_backward
from ._backward import batch_norm_train_backward as batch_norm_train_backward
from ._commit import batch_norm_commit_ as batch_norm_commit_
from ._forward import batch_norm_apply as batch_norm_apply
from ._forward import batch_norm_eval as batch_norm_eval
from ._forward import batch_norm_eval_ as batch_norm_eval_
from ._forward import batch_norm_stats as batch_norm_stats
from ._forward import batch_norm_train as batch_norm_train
from ._forward import batch_norm_train_ as batch_norm_train_

__all__ = [
    "batch_norm_apply",
    "batch_norm_backward_apply",
    "batch_norm_backward_reduce",
    "batch_norm_commit_",
    "batch_norm_eval",
    "batch_norm_eval_",
    "batch_norm_eval_backward",
    "batch_norm_stats",
    "batch_norm_train",
    "batch_norm_train_",
    "batch_norm_train_backward",
]
