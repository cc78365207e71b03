#include "ops.h"
#include "parallel.h"

namespace bn {
namespace {

// Owns what the pointers of BackwardArgs point to.
struct Backward {
  Tensor input, grad_output, mean, invstd;
  OptionalTensor weight, bias, residual, output, mask;
  BackwardArgs args{};

  Backward(const Tensor& grad_output_, const Tensor& input_, const OptionalTensor& weight_,
           const OptionalTensor& bias_, const Tensor& mean_, const Tensor& invstd_,
           const OptionalTensor& residual_, const OptionalTensor& output_,
           const OptionalTensor& mask_, int64_t activation, double slope)
      : input(dense(input_)), grad_output(aligned(grad_output_, input, "grad_output")) {
    args.shape = kernel_shape(input);
    const int64_t c = args.shape.c;
    const ScalarType type = stats_type(input);
    mean = per_channel(mean_, c, type, "mean");
    invstd = per_channel(invstd_, c, type, "invstd");
    weight = per_channel(weight_, c, type, "weight");
    bias = per_channel(bias_, c, type, "bias");
    if (residual_) residual = aligned(*residual_, input, "residual");
    if (output_) output = aligned(*output_, input, "output");
    mask = position_mask(mask_, args.shape);
    args.grad_output = grad_output.const_data_ptr();
    args.input = input.const_data_ptr();
    args.residual = data(residual);
    args.output = data(output);
    args.mask = static_cast<const uint8_t*>(data(mask));
    args.mean = mean.const_data_ptr();
    args.invstd = invstd.const_data_ptr();
    args.weight = data(weight);
    args.bias = data(bias);
    args.activation = int(activation);
    args.slope = slope;
    args.count = count_positions(mask, args.shape);
    args.training = true;
    args.parallel = torch_parallel();
  }

  Tensor allocate_sum() const { return allocate(args.shape.c, stats_type(input)); }

  Tensor allocate_grad_residual(bool needed) {
    if (!needed) return allocate(0, input.scalar_type());
    Tensor result = allocate_like(input);
    args.grad_residual = result.mutable_data_ptr();
    return result;
  }

  Tensor allocate_grad_input() {
    Tensor result = allocate_like(input);
    args.grad_input = result.mutable_data_ptr();
    args.apply = true;
    return result;
  }

  void run() { kernels(kernel_dtype(input)).backward(args); }
};

Tensors4 fused(Backward& b, bool training, bool need_grad_residual) {
  Tensor sum_dy = b.allocate_sum(), sum_dy_xhat = b.allocate_sum();
  Tensor grad_input = b.allocate_grad_input();
  Tensor grad_residual = b.allocate_grad_residual(need_grad_residual);
  b.args.sum_dy = sum_dy.mutable_data_ptr();
  b.args.sum_dy_xhat = sum_dy_xhat.mutable_data_ptr();
  b.args.reduce = true;
  b.args.training = training;
  b.run();
  return {grad_input, sum_dy_xhat, sum_dy, grad_residual};
}

}  // namespace

Tensors4 batch_norm_train_backward(const Tensor& grad_output, const Tensor& input,
                                   const OptionalTensor& weight, const OptionalTensor& bias,
                                   const Tensor& mean, const Tensor& invstd,
                                   const OptionalTensor& residual, const OptionalTensor& output,
                                   const OptionalTensor& mask, int64_t activation, double slope,
                                   bool need_grad_residual) {
  Backward b(grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation,
             slope);
  return fused(b, true, need_grad_residual);
}

Tensors4 batch_norm_eval_backward(const Tensor& grad_output, const Tensor& input,
                                  const OptionalTensor& weight, const OptionalTensor& bias,
                                  const Tensor& mean, const Tensor& invstd,
                                  const OptionalTensor& residual, const OptionalTensor& output,
                                  const OptionalTensor& mask, int64_t activation, double slope,
                                  bool need_grad_residual) {
  Backward b(grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation,
             slope);
  return fused(b, false, need_grad_residual);
}

Tensors2 batch_norm_backward_reduce(const Tensor& grad_output, const Tensor& input,
                                    const OptionalTensor& weight, const OptionalTensor& bias,
                                    const Tensor& mean, const Tensor& invstd,
                                    const OptionalTensor& residual, const OptionalTensor& output,
                                    const OptionalTensor& mask, int64_t activation, double slope) {
  Backward b(grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation,
             slope);
  Tensor sum_dy = b.allocate_sum(), sum_dy_xhat = b.allocate_sum();
  b.args.sum_dy = sum_dy.mutable_data_ptr();
  b.args.sum_dy_xhat = sum_dy_xhat.mutable_data_ptr();
  b.args.reduce = true;
  b.run();
  return {sum_dy, sum_dy_xhat};
}

Tensors2 batch_norm_backward_apply(const Tensor& grad_output, const Tensor& input,
                                   const OptionalTensor& weight, const OptionalTensor& bias,
                                   const Tensor& mean, const Tensor& invstd, const Tensor& sum_dy,
                                   const Tensor& sum_dy_xhat, const Tensor& count,
                                   const OptionalTensor& residual, const OptionalTensor& output,
                                   const OptionalTensor& mask, int64_t activation, double slope,
                                   bool need_grad_residual) {
  Backward b(grad_output, input, weight, bias, mean, invstd, residual, output, mask, activation,
             slope);
  STD_TORCH_CHECK(count.numel() == 1 && count.scalar_type() == ScalarType::Long,
                  "batch_norm: count must be one int64. Got ", count.numel(),
                  " values. Use BatchStats.count.");
  const int64_t c = b.args.shape.c;
  const Tensor dy = per_channel(sum_dy, c, stats_type(b.input), "sum_dy");
  const Tensor dy_xhat = per_channel(sum_dy_xhat, c, stats_type(b.input), "sum_dy_xhat");
  b.args.sum_dy = const_cast<void*>(dy.const_data_ptr());
  b.args.sum_dy_xhat = const_cast<void*>(dy_xhat.const_data_ptr());
  b.args.count = *static_cast<const int64_t*>(count.const_data_ptr());
  Tensor grad_input = b.allocate_grad_input();
  Tensor grad_residual = b.allocate_grad_residual(need_grad_residual);
  b.run();
  return {grad_input, grad_residual};
}

}  // namespace bn
