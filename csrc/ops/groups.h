// Samples that are normalised in groups, as stretches of consecutive samples that are treated
// alike.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "parallel.h"
#include "tensors.h"

namespace bn {

// Consecutive samples of one group with one row of weight and bias: to a kernel, a batch.
struct Run {
  int64_t first, size, group, row;
  int64_t count;  // real positions per channel
};

struct Runs {
  int64_t groups;
  std::vector<Run> runs;
  std::vector<int64_t> counts;  // real positions per channel of each group
  bool whole = true;            // every group is one run

  // Of contiguous tensors. Throws before anything is written when an index is out of range.
  Runs(const Tensor& index, int64_t groups, const OptionalTensor& rows, int64_t row_count,
       const OptionalTensor& mask, const Shape& shape);

  // The samples in the order of their groups, where copying them together is cheaper than calling
  // kernels on many short runs; else empty.
  std::vector<int64_t> order_together(int64_t sample_bytes) const;
};

// Samples of a dense tensor in another order, and back.
Tensor gather(const Tensor& samples, const std::vector<int64_t>& order);
OptionalTensor gather(const OptionalTensor& samples, const std::vector<int64_t>& order);
Tensor scatter(const Tensor& samples, const std::vector<int64_t>& order);

// Weight and bias: (C,), or (R, C) and a row for each sample.
struct Weights {
  OptionalTensor weight, bias;
  int64_t rows = 1;

  Weights(const OptionalTensor& weight, const OptionalTensor& bias, bool by_row, int64_t channels,
          ScalarType type);
};

Tensor allocate_table(int64_t rows, int64_t columns, ScalarType type);
// A (rows, channels) tensor of the statistics' dtype; checks its size.
Tensor table(const Tensor& tensor, int64_t rows, int64_t channels, ScalarType type,
             const char* name);
int64_t bytes_of(ScalarType type);
OptionalTensor contiguous(const OptionalTensor& tensor);

// Where row (or sample) number `row` of `bytes` each begins; null stays null.
template <class Pointer>
Pointer* row_of(Pointer* base, int64_t row, int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<Pointer>, const char, char>;
  return base ? static_cast<Byte*>(base) + row * bytes : nullptr;
}

// body(a value of the statistics' type).
template <class F>
void with_accumulator(ScalarType type, F body) {
  if (type == ScalarType::Double)
    body(double{});
  else
    body(float{});
}

// body(i) for i in [0, tasks), in any order, on all threads.
template <class F>
void for_each_task(int64_t tasks, F& body) {
  const Parallel all = torch_parallel();
  if (all.threads == 1 || tasks == 1) {
    for (int64_t i = 0; i < tasks; ++i) body(i);
    return;
  }
  all.run(tasks, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &body);
}

inline constexpr Parallel kSerial = {nullptr, 1};

// body(run number, its threads): many runs side by side, or one after the other with all threads
// inside. Which of the two never changes a bit, for no sum crosses a run.
template <class F>
void each_run(const Runs& runs, int64_t elements, F body) {
  constexpr int64_t kSerialElements = 24 * 1024;
  const Parallel all = torch_parallel();
  const int64_t total = int64_t(runs.runs.size());
  if (total < 4 * all.threads || all.threads == 1 || elements < kSerialElements) {
    const Parallel inside = elements < kSerialElements ? kSerial : all;
    for (int64_t i = 0; i < total; ++i) body(i, inside);
    return;
  }
  // Several runs to a task: they may be single samples.
  const int64_t block = std::max<int64_t>(1, total / (16 * all.threads));
  auto task = [&](int64_t t) {
    for (int64_t i = t * block; i < std::min(total, (t + 1) * block); ++i) body(i, kSerial);
  };
  for_each_task((total + block - 1) / block, task);
}

// What a forward and a backward over groups share: the tensors, and where each run lies in them.
struct Grouped {
  Tensor input, index;
  OptionalTensor mask, rows;
  Shape shape;
  ScalarType stats;
  Weights weights;
  Runs runs;
  int64_t sample_bytes, row_bytes;

  Grouped(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
          const OptionalTensor& mask, const Tensor& index, int64_t groups,
          const OptionalTensor& rows);

  int64_t elements() const { return shape.n * shape.c * shape.s; }

  // The fields that every kernel call has, for all samples.
  template <class Args>
  void fill(Args& args, int64_t activation, double slope) const {
    args.input = input.const_data_ptr();
    args.mask = static_cast<const uint8_t*>(data(mask));
    args.weight = data(weights.weight);
    args.bias = data(weights.bias);
    args.activation = int(activation);
    args.slope = slope;
  }

  // The same for one run: pointers moved to its samples, its group and its row.
  template <class Args>
  Args moved_to(const Run& run, const Args& whole) const {
    Args args = whole;
    args.shape = {shape.layout, run.size, shape.c, shape.s};
    args.input = row_of(whole.input, run.first, sample_bytes);
    args.residual = row_of(whole.residual, run.first, sample_bytes);
    args.output = row_of(whole.output, run.first, sample_bytes);
    args.mask = whole.mask ? whole.mask + run.first * shape.s : nullptr;
    args.weight = row_of(whole.weight, run.row, row_bytes);
    args.bias = row_of(whole.bias, run.row, row_bytes);
    args.mean = row_of(whole.mean, run.group, row_bytes);
    args.invstd = row_of(whole.invstd, run.group, row_bytes);
    args.count = run.count;
    return args;
  }
};

}  // namespace bn
