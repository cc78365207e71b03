// CPU implementations of the operators. The schemas are defined in Python
// (src/batchnorm/ops/_schemas.py), where they serve every device, with or without this library.
#include <torch/csrc/stable/library.h>

#include "ops/ops.h"

STABLE_TORCH_LIBRARY_IMPL(batchnorm, CPU, m) {
  m.impl("batch_norm_train", TORCH_BOX(&bn::batch_norm_train));
  m.impl("batch_norm_train_", TORCH_BOX(&bn::batch_norm_train_));
  m.impl("batch_norm_train_backward", TORCH_BOX(&bn::batch_norm_train_backward));
  m.impl("batch_norm_eval", TORCH_BOX(&bn::batch_norm_eval));
  m.impl("batch_norm_eval_", TORCH_BOX(&bn::batch_norm_eval_));
  m.impl("batch_norm_eval_backward", TORCH_BOX(&bn::batch_norm_eval_backward));
  m.impl("batch_norm_stats", TORCH_BOX(&bn::batch_norm_stats));
  m.impl("batch_norm_apply", TORCH_BOX(&bn::batch_norm_apply));
  m.impl("batch_norm_backward_reduce", TORCH_BOX(&bn::batch_norm_backward_reduce));
  m.impl("batch_norm_backward_apply", TORCH_BOX(&bn::batch_norm_backward_apply));
  m.impl("batch_norm_commit_", TORCH_BOX(&bn::batch_norm_commit_));
  m.impl("batch_norm_groups_train", TORCH_BOX(&bn::batch_norm_groups_train));
  m.impl("batch_norm_groups_merge", TORCH_BOX(&bn::batch_norm_groups_merge));
  m.impl("batch_norm_groups_apply", TORCH_BOX(&bn::batch_norm_groups_apply));
  m.impl("batch_norm_groups_backward", TORCH_BOX(&bn::batch_norm_groups_backward));
}

STABLE_TORCH_LIBRARY_IMPL(batchnorm, CompositeExplicitAutograd, m) {
  m.impl("cpu_capability", TORCH_BOX(&bn::cpu_capability_op));
}
