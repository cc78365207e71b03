"""Every operator's schema, once: the same names exist with and without the native library.

Shapes and dtypes: ``input``, ``residual``, ``output``, ``grad_output`` are ``(N, C, *)`` of one
float dtype; ``weight`` and ``bias`` are ``(C,)`` of any float dtype; means, variances, invstds and
sums are ``(C,)`` in float32 (float64 for float64 input); ``mask`` is bool ``(N, *)``, contiguous;
``count`` is int64 ``()``. What each operator computes is written in ``batchnorm.reference`` under
the same name. Results keep the input's layout: contiguous, or channels-last in memory; any other
input gives a contiguous result.

In operators on groups ``index`` is int64 ``(N,)``, the group of each sample in any order;
statistics are ``(G, C)`` and ``count`` is ``(G,)``. ``rows`` is int64 ``(N,)``, the row of each
sample in ``weight`` and ``bias``, which then are ``(R, C)``.
"""

import torch

__all__ = ["LIBRARY", "NAMESPACE", "SCHEMAS"]

NAMESPACE = "batchnorm"

_AFFINE = "Tensor? weight, Tensor? bias"
_EXTRAS = "Tensor? residual, Tensor? mask"
_SAVED = "Tensor? residual, Tensor? output, Tensor? mask"
_ACT = "int activation, float slope"

_TRAIN = f"{_AFFINE}, {_EXTRAS}, float eps, {_ACT}"
_EVAL = f"Tensor running_mean, Tensor running_var, {_AFFINE}, {_EXTRAS}, float eps, {_ACT}"
_BACKWARD = f"Tensor grad_output, Tensor input, {_AFFINE}, Tensor mean, Tensor invstd"
_GRADS = "(Tensor grad_input, Tensor grad_weight, Tensor grad_bias, Tensor grad_residual)"
_GROUPS = "Tensor index, SymInt groups, Tensor? rows"

SCHEMAS: dict[str, str] = {
    "batch_norm_train": f"(Tensor input, {_TRAIN}) -> "
    "(Tensor output, Tensor mean, Tensor var, Tensor invstd, Tensor count)",
    "batch_norm_train_": f"(Tensor(a!) input, {_TRAIN}) -> "
    "(Tensor mean, Tensor var, Tensor invstd, Tensor count)",
    "batch_norm_train_backward": f"({_BACKWARD}, {_SAVED}, {_ACT}, bool need_grad_residual) -> "
    f"{_GRADS}",
    "batch_norm_eval": f"(Tensor input, {_EVAL}) -> Tensor",
    "batch_norm_eval_": f"(Tensor(a!) input, {_EVAL}) -> ()",
    "batch_norm_eval_backward": f"({_BACKWARD}, {_SAVED}, {_ACT}, bool need_grad_residual) -> "
    f"{_GRADS}",
    "batch_norm_stats": "(Tensor input, Tensor? mask) -> (Tensor mean, Tensor var, Tensor count)",
    "batch_norm_apply": f"(Tensor input, Tensor mean, Tensor invstd, {_AFFINE}, {_EXTRAS}, {_ACT})"
    " -> Tensor",
    "batch_norm_backward_reduce": f"({_BACKWARD}, {_SAVED}, {_ACT}) -> "
    "(Tensor sum_dy, Tensor sum_dy_xhat)",
    "batch_norm_backward_apply": f"({_BACKWARD}, Tensor sum_dy, Tensor sum_dy_xhat, Tensor count, "
    f"{_SAVED}, {_ACT}, bool need_grad_residual) -> (Tensor grad_input, Tensor grad_residual)",
    "batch_norm_groups_train": f"(Tensor input, {_AFFINE}, {_EXTRAS}, {_GROUPS}, float eps, {_ACT})"
    " -> (Tensor output, Tensor mean, Tensor var, Tensor invstd, Tensor count)",
    "batch_norm_groups_merge": "(Tensor mean, Tensor var, Tensor count) -> "
    "(Tensor mean, Tensor var, Tensor count)",
    "batch_norm_groups_apply": f"(Tensor input, Tensor mean, Tensor invstd, {_AFFINE}, {_EXTRAS}, "
    f"Tensor index, Tensor? rows, {_ACT}) -> Tensor",
    "batch_norm_groups_backward": f"({_BACKWARD}, Tensor count, {_SAVED}, Tensor index, "
    f"Tensor? rows, {_ACT}, bool training, bool need_grad_residual) -> {_GRADS}",
    "batch_norm_commit_": "(Tensor(a!) running_mean, Tensor(b!) running_var, "
    "Tensor(c!) num_batches_tracked, Tensor(d!) num_nonfinite, Tensor mean, Tensor var, "
    "Tensor count, float? momentum) -> ()",
}

# Held for the life of the process: its end would take the operators away.
LIBRARY = torch.library.Library(NAMESPACE, "DEF")

for _name, _signature in SCHEMAS.items():
    LIBRARY.define(_name + _signature, tags=(torch.Tag.pt2_compliant_tag,))

# Which instruction set the kernels chose; only the native library answers.
LIBRARY.define("cpu_capability() -> str")
