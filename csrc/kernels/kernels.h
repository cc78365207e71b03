// The kernel floor's one header: arguments, table and choice of instruction set. Knows no torch.
#pragma once

#include <cstdint>

namespace bn {

// kPlanes: (N, C, S), S contiguous (NCHW and friends).  kRows: (N*S, C), C contiguous (NHWC, (N,
// C)).
enum class Layout { kPlanes, kRows };

struct Shape {
  Layout layout;
  int64_t n, c, s;
};

enum Activation : int {
  kIdentity = 0,
  kRelu = 1,
  kRelu6 = 2,
  kLeakyRelu = 3,
  kSilu = 4,
  kGelu = 5,
  kGeluTanh = 6,
  kHardswish = 7,
  kElu = 8,
  kSigmoid = 9,
  kTanh = 10,
};

enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3, kDtypes = 4 };

// Runs task(context, i) for i in [0, tasks), in any order, on up to `threads` threads.
struct Parallel {
  void (*run)(int64_t tasks, void (*task)(void* context, int64_t index), void* context);
  int threads;
};

// Pointers to C-sized arrays hold the accumulation type: double for float64 tensors, float
// otherwise. `mask` holds one byte per position (N, S): 1 = real, 0 = padding; null when all are
// real. `count` is the number of real positions per channel.
struct ForwardArgs {
  Shape shape;
  const void* input;
  const void* residual;  // null: none
  const uint8_t* mask;
  void* output;               // may be `input`
  void *mean, *var, *invstd;  // written when measuring; mean and invstd read otherwise
  double* moments;            // (C, 2): mean and variance before they are rounded; null: unwanted
  const void *weight, *bias;  // null: 1 and 0
  double eps;
  int activation;
  double slope;
  int64_t count;
  bool measure;  // phase 1: statistics of the batch
  bool apply;    // phase 4: normalise, scale, shift, add, activate
  Parallel parallel;
};

// The argument of the activation ("pre") comes from `output` when given (its sign and range equal
// those of pre for relu, relu6 and leaky_relu), else from input, plus `residual` when given.
struct BackwardArgs {
  Shape shape;
  const void *grad_output, *input;
  const void *residual, *output;  // null: none
  const uint8_t* mask;
  void* grad_input;     // null in a reduce-only call
  void* grad_residual;  // null: not wanted
  const void *mean, *invstd, *weight, *bias;
  void *sum_dy, *sum_dy_xhat;  // written when reducing, read otherwise
  int activation;
  double slope;
  int64_t count;
  bool reduce;         // sum_dy and sum_dy_xhat
  bool apply;          // grad_input
  bool training;       // false: statistics are constants, grad_input = weight * invstd * g
  bool weighted_sums;  // the sums that are read have the weight in them
  Parallel parallel;
};

struct KernelTable {
  void (*forward)(const ForwardArgs&);
  void (*backward)(const BackwardArgs&);
};

// The widest instruction set that this processor and this build share, found once.
const KernelTable& kernels(Dtype dtype);
const char* cpu_capability();

}  // namespace bn
