// The operators' CPU implementations; schemas and meanings: src/batchnorm/ops/_schemas.py.
#pragma once

#include <string>
#include <tuple>

#include "tensors.h"

namespace bn {

using Tensors2 = std::tuple<Tensor, Tensor>;
using Tensors3 = std::tuple<Tensor, Tensor, Tensor>;
using Tensors4 = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Tensors5 = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Tensors5 batch_norm_train(const Tensor& input, const OptionalTensor& weight,
                          const OptionalTensor& bias, const OptionalTensor& residual,
                          const OptionalTensor& mask, double eps, int64_t activation, double slope);
Tensors4 batch_norm_train_(const Tensor& input, const OptionalTensor& weight,
                           const OptionalTensor& bias, const OptionalTensor& residual,
                           const OptionalTensor& mask, double eps, int64_t activation,
                           double slope);
Tensor batch_norm_eval(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                       const OptionalTensor& weight, const OptionalTensor& bias,
                       const OptionalTensor& residual, const OptionalTensor& mask, double eps,
                       int64_t activation, double slope);
void batch_norm_eval_(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                      const OptionalTensor& weight, const OptionalTensor& bias,
                      const OptionalTensor& residual, const OptionalTensor& mask, double eps,
                      int64_t activation, double slope);
Tensors3 batch_norm_stats(const Tensor& input, const OptionalTensor& mask);
Tensor batch_norm_apply(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                        const OptionalTensor& weight, const OptionalTensor& bias,
                        const OptionalTensor& residual, const OptionalTensor& mask,
                        int64_t activation, double slope);

Tensors4 batch_norm_train_backward(const Tensor& grad_output, const Tensor& input,
                                   const OptionalTensor& weight, const OptionalTensor& bias,
                                   const Tensor& mean, const Tensor& invstd,
                                   const OptionalTensor& residual, const OptionalTensor& output,
                                   const OptionalTensor& mask, int64_t activation, double slope,
                                   bool need_grad_residual);
Tensors4 batch_norm_eval_backward(const Tensor& grad_output, const Tensor& input,
                                  const OptionalTensor& weight, const OptionalTensor& bias,
                                  const Tensor& mean, const Tensor& invstd,
                                  const OptionalTensor& residual, const OptionalTensor& output,
                                  const OptionalTensor& mask, int64_t activation, double slope,
                                  bool need_grad_residual);
Tensors2 batch_norm_backward_reduce(const Tensor& grad_output, const Tensor& input,
                                    const OptionalTensor& weight, const OptionalTensor& bias,
                                    const Tensor& mean, const Tensor& invstd,
                                    const OptionalTensor& residual, const OptionalTensor& output,
                                    const OptionalTensor& mask, int64_t activation, double slope);
Tensors2 batch_norm_backward_apply(const Tensor& grad_output, const Tensor& input,
                                   const OptionalTensor& weight, const OptionalTensor& bias,
                                   const Tensor& mean, const Tensor& invstd, const Tensor& sum_dy,
                                   const Tensor& sum_dy_xhat, const Tensor& count,
                                   const OptionalTensor& residual, const OptionalTensor& output,
                                   const OptionalTensor& mask, int64_t activation, double slope,
                                   bool need_grad_residual);

void batch_norm_commit_(const Tensor& running_mean, const Tensor& running_var,
                        const Tensor& num_batches_tracked, const Tensor& num_nonfinite,
                        const Tensor& mean, const Tensor& var, const Tensor& count,
                        std::optional<double> momentum);

Tensors5 batch_norm_groups_train(const Tensor& input, const OptionalTensor& weight,
                                 const OptionalTensor& bias, const OptionalTensor& residual,
                                 const OptionalTensor& mask, const Tensor& index, int64_t groups,
                                 const OptionalTensor& rows, double eps, int64_t activation,
                                 double slope);
Tensors3 batch_norm_groups_merge(const Tensor& mean, const Tensor& var, const Tensor& count);
Tensor batch_norm_groups_apply(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                               const OptionalTensor& weight, const OptionalTensor& bias,
                               const OptionalTensor& residual, const OptionalTensor& mask,
                               const Tensor& index, const OptionalTensor& rows, int64_t activation,
                               double slope);
Tensors4 batch_norm_groups_backward(const Tensor& grad_output, const Tensor& input,
                                    const OptionalTensor& weight, const OptionalTensor& bias,
                                    const Tensor& mean, const Tensor& invstd, const Tensor& count,
                                    const OptionalTensor& residual, const OptionalTensor& output,
                                    const OptionalTensor& mask, const Tensor& index,
                                    const OptionalTensor& rows, int64_t activation, double slope,
                                    bool training, bool need_grad_residual);

std::string cpu_capability_op();

}  // namespace bn
