"""The oracle: every phase of batch normalization in plain torch, any float dtype.

The judge of every kernel, and what runs where there is no kernel. Nothing here writes into its
arguments; every function can be differentiated, vmapped, compiled and exported by torch.
"""

from ._activations import activate as activate
from ._activations import activation_grad as activation_grad
from ._backward import batch_norm_backward_apply as batch_norm_backward_apply
from ._backward import batch_norm_backward_reduce as batch_norm_backward_reduce
from ._backward import batch_norm_eval_backward as batch_norm_eval_backward
from ._backward import batch_norm_stats_backward as batch_norm_stats_backward
from ._backward import batch_norm_train_backward as batch_norm_train_backward
from ._commit import batch_norm_commit as batch_norm_commit
from ._forward import batch_norm_apply as batch_norm_apply
from ._forward import batch_norm_eval as batch_norm_eval
from ._forward import batch_norm_stats as batch_norm_stats
from ._forward import batch_norm_train as batch_norm_train
from ._groups import batch_norm_groups_apply as batch_norm_groups_apply
from ._groups import batch_norm_groups_backward as batch_norm_groups_backward
from ._groups import batch_norm_groups_commit as batch_norm_groups_commit
from ._groups import batch_norm_groups_merge as batch_norm_groups_merge
from ._groups import batch_norm_groups_stats as batch_norm_groups_stats
from ._groups import batch_norm_groups_train as batch_norm_groups_train
from ._shapes import accumulation_dtype as accumulation_dtype
from ._shapes import select_real as select_real
