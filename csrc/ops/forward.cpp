#include <cmath>

#include "ops.h"
#include "parallel.h"

namespace bn {
namespace {

// Owns what the pointers of ForwardArgs point to.
struct Forward {
  Tensor input;
  OptionalTensor residual, mask, weight, bias;
  ForwardArgs args{};

  Forward(const Tensor& x, const OptionalTensor& mask_) : input(dense(x)) {
    args.shape = kernel_shape(input);
    mask = position_mask(mask_, args.shape);
    args.input = input.const_data_ptr();
    args.mask = static_cast<const uint8_t*>(data(mask));
    args.count = count_positions(mask, args.shape);
    args.parallel = torch_parallel();
  }

  ScalarType stats() const { return stats_type(input); }
  Tensor allocate_stats() const { return allocate(args.shape.c, stats()); }

  void elementwise(const OptionalTensor& weight_, const OptionalTensor& bias_,
                   const OptionalTensor& residual_, int64_t activation, double slope) {
    weight = per_channel(weight_, args.shape.c, stats(), "weight");
    bias = per_channel(bias_, args.shape.c, stats(), "bias");
    if (residual_) residual = aligned(*residual_, input, "residual");
    args.weight = data(weight);
    args.bias = data(bias);
    args.residual = data(residual);
    args.activation = int(activation);
    args.slope = slope;
    args.apply = true;
  }

  void run(void* output) {
    args.output = output;
    kernels(kernel_dtype(input)).forward(args);
  }
};

Tensors4 measure_and_apply(Forward& f, double eps, void* output) {
  Tensor mean = f.allocate_stats(), var = f.allocate_stats(), invstd = f.allocate_stats();
  f.args.mean = mean.mutable_data_ptr();
  f.args.var = var.mutable_data_ptr();
  f.args.invstd = invstd.mutable_data_ptr();
  f.args.eps = eps;
  f.args.measure = true;
  f.run(output);
  return {mean, var, invstd, allocate_scalar(f.args.count)};
}

void apply_with(Forward& f, const Tensor& mean, const Tensor& invstd, void* output) {
  f.args.mean = const_cast<void*>(mean.const_data_ptr());
  f.args.invstd = const_cast<void*>(invstd.const_data_ptr());
  f.run(output);
}

template <class A>
void invert(const void* var, double eps, void* invstd, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c)
    static_cast<A*>(invstd)[c] = A(1.0 / std::sqrt(double(static_cast<const A*>(var)[c]) + eps));
}

void apply_running(Forward& f, const Tensor& running_mean, const Tensor& running_var, double eps,
                   void* output) {
  const int64_t channels = f.args.shape.c;
  const Tensor mean = per_channel(running_mean, channels, f.stats(), "running_mean");
  const Tensor var = per_channel(running_var, channels, f.stats(), "running_var");
  const Tensor invstd = f.allocate_stats();
  if (f.stats() == ScalarType::Double)
    invert<double>(var.const_data_ptr(), eps, invstd.mutable_data_ptr(), channels);
  else
    invert<float>(var.const_data_ptr(), eps, invstd.mutable_data_ptr(), channels);
  apply_with(f, mean, invstd, output);
}

// In place, the kernel writes into the dense tensor; a strided input gets its values copied back.
void write_back(const Forward& f, const Tensor& input) {
  if (f.input.const_data_ptr() == input.const_data_ptr()) return;
  Tensor target = input;
  torch::stable::copy_(target, f.input);
}

}  // namespace

Tensors5 batch_norm_train(const Tensor& input, const OptionalTensor& weight,
                          const OptionalTensor& bias, const OptionalTensor& residual,
                          const OptionalTensor& mask, double eps, int64_t activation,
                          double slope) {
  Forward f(input, mask);
  f.elementwise(weight, bias, residual, activation, slope);
  Tensor output = allocate_like(f.input);
  auto [mean, var, invstd, count] = measure_and_apply(f, eps, output.mutable_data_ptr());
  return {output, mean, var, invstd, count};
}

Tensors4 batch_norm_train_(const Tensor& input, const OptionalTensor& weight,
                           const OptionalTensor& bias, const OptionalTensor& residual,
                           const OptionalTensor& mask, double eps, int64_t activation,
                           double slope) {
  Forward f(input, mask);
  f.elementwise(weight, bias, residual, activation, slope);
  Tensors4 stats = measure_and_apply(f, eps, f.input.mutable_data_ptr());
  write_back(f, input);
  return stats;
}

Tensor batch_norm_eval(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                       const OptionalTensor& weight, const OptionalTensor& bias,
                       const OptionalTensor& residual, const OptionalTensor& mask, double eps,
                       int64_t activation, double slope) {
  Forward f(input, mask);
  f.elementwise(weight, bias, residual, activation, slope);
  Tensor output = allocate_like(f.input);
  apply_running(f, running_mean, running_var, eps, output.mutable_data_ptr());
  return output;
}

void batch_norm_eval_(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                      const OptionalTensor& weight, const OptionalTensor& bias,
                      const OptionalTensor& residual, const OptionalTensor& mask, double eps,
                      int64_t activation, double slope) {
  Forward f(input, mask);
  f.elementwise(weight, bias, residual, activation, slope);
  apply_running(f, running_mean, running_var, eps, f.input.mutable_data_ptr());
  write_back(f, input);
}

Tensors3 batch_norm_stats(const Tensor& input, const OptionalTensor& mask) {
  Forward f(input, mask);
  Tensor mean = f.allocate_stats(), var = f.allocate_stats();
  f.args.mean = mean.mutable_data_ptr();
  f.args.var = var.mutable_data_ptr();
  f.args.measure = true;
  f.run(nullptr);
  return {mean, var, allocate_scalar(f.args.count)};
}

Tensor batch_norm_apply(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                        const OptionalTensor& weight, const OptionalTensor& bias,
                        const OptionalTensor& residual, const OptionalTensor& mask,
                        int64_t activation, double slope) {
  Forward f(input, mask);
  f.elementwise(weight, bias, residual, activation, slope);
  Tensor output = allocate_like(f.input);
  const int64_t channels = f.args.shape.c;
  apply_with(f, per_channel(mean, channels, f.stats(), "mean"),
             per_channel(invstd, channels, f.stats(), "invstd"), output.mutable_data_ptr());
  return output;
}

}  // namespace bn
