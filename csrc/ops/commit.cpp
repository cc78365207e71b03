#include <dlfcn.h>

#include <cmath>

#include "ops.h"

namespace bn {
namespace {

// A (C,) float32 or float64 tensor read and written as double; one value stands for all channels.
class Values {
 public:
  Values(const Tensor& tensor, int64_t channels, const char* name)
      : data_(tensor.mutable_data_ptr()),
        wide_(tensor.scalar_type() == ScalarType::Double),
        stride_(tensor.dim() == 0 ? 0 : tensor.stride(0)) {
    STD_TORCH_CHECK(
        tensor.numel() == channels && (wide_ || tensor.scalar_type() == ScalarType::Float),
        "batch_norm_commit_: ", name, " must hold one float32 or float64 per channel. Got ",
        tensor.numel(), " values for ", channels, " channels. Keep running statistics in float32.");
  }
  double get(int64_t c) const {
    return wide_ ? static_cast<const double*>(data_)[c * stride_]
                 : double(static_cast<const float*>(data_)[c * stride_]);
  }
  void set(int64_t c, double value) const {
    if (wide_)
      static_cast<double*>(data_)[c * stride_] = value;
    else
      static_cast<float*>(data_)[c * stride_] = float(value);
  }

 private:
  void* data_;
  bool wide_;
  int64_t stride_;
};

// Whether a backward is running: a forward inside it is a recomputation by activation
// checkpointing, whose batch has been counted. Layers ask before they come here, but compiled code
// cannot. The question has no stable ABI: without this symbol of libtorch the answer is no.
bool inside_backward() {
  using TaskId = int (*)();
  static const auto task_id = [] {
    void* torch = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
    void* symbol =
        torch ? dlsym(torch, "_ZN5torch8autograd25get_current_graph_task_idEv") : nullptr;
    return reinterpret_cast<TaskId>(symbol);
  }();
  return task_id != nullptr && task_id() != -1;
}

int64_t* integers(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long && tensor.is_contiguous(),
                  "batch_norm_commit_: ", name, " must be contiguous int64. Got ",
                  torch::headeronly::toString(tensor.scalar_type()), ". Use the layer's buffers.");
  return static_cast<int64_t*>(tensor.mutable_data_ptr());
}

}  // namespace

void batch_norm_commit_(const Tensor& running_mean, const Tensor& running_var,
                        const Tensor& num_batches_tracked, const Tensor& num_nonfinite,
                        const Tensor& mean, const Tensor& var, const Tensor& count,
                        std::optional<double> momentum) {
  if (inside_backward()) return;
  const int64_t channels = running_mean.numel();
  const Values old_mean(running_mean, channels, "running_mean");
  const Values old_var(running_var, channels, "running_var");
  const Values new_mean(mean, channels, "mean"), new_var(var, channels, "var");
  int64_t* batches = integers(num_batches_tracked, "num_batches_tracked");
  int64_t* nonfinite = integers(num_nonfinite, "num_nonfinite");
  const int64_t* counts = integers(count, "count");
  const int64_t count_stride = count.numel() == 1 ? 0 : 1;
  STD_TORCH_CHECK((count_stride == 0 || count.numel() == channels) &&
                      num_nonfinite.numel() == channels && num_batches_tracked.numel() == 1,
                  "batch_norm_commit_: count must hold 1 or C values, num_nonfinite C, "
                  "num_batches_tracked 1. Got ",
                  count.numel(), ", ", num_nonfinite.numel(), ", ", num_batches_tracked.numel(),
                  ", C=", channels, ". Use the layer's buffers.");

  bool seen = false;
  for (int64_t c = 0; c < count.numel(); ++c) seen = seen || counts[c] > 0;
  if (!seen) return;
  ++*batches;
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t n = counts[c * count_stride];
    if (n == 0) continue;
    if (!std::isfinite(new_mean.get(c)) || !std::isfinite(new_var.get(c))) {
      ++nonfinite[c];
      continue;
    }
    if (n == 1) continue;
    const double unbiased = new_var.get(c) * (double(n) / double(n - 1));
    const double m = momentum ? *momentum : 1.0 / std::fmax(1.0, double(*batches - nonfinite[c]));
    old_mean.set(c, (1.0 - m) * old_mean.get(c) + m * new_mean.get(c));
    old_var.set(c, (1.0 - m) * old_var.get(c) + m * unbiased);
  }
}

std::string cpu_capability_op() {
  return cpu_capability();
}

}  // namespace bn
