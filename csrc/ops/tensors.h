// From tensors to the kernels' arguments: checks, layouts, dtypes, allocation.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace bn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

Dtype kernel_dtype(const Tensor& input);
// float64 for float64 tensors, float32 otherwise.
ScalarType stats_type(const Tensor& input);

// The tensor itself when it is dense in (N, C, *) or channels-last order, else a contiguous copy.
Tensor dense(const Tensor& input);
// The shape of a dense tensor as the kernels see it.
Shape kernel_shape(const Tensor& dense_input);
// `other` in the strides of `like`, copied if need be; checks shape and dtype.
Tensor aligned(const Tensor& other, const Tensor& like, const char* name);

// Uninitialised, in the strides of `like`.
Tensor allocate_like(const Tensor& like);
Tensor allocate(int64_t size, ScalarType type);
Tensor allocate_scalar(int64_t value);

// A (C,) tensor of the statistics' dtype; checks its size.
Tensor per_channel(const Tensor& tensor, int64_t channels, ScalarType type, const char* name);
OptionalTensor per_channel(const OptionalTensor& tensor, int64_t channels, ScalarType type,
                           const char* name);

// One byte per position, contiguous (N, *spatial).
OptionalTensor position_mask(const OptionalTensor& mask, const Shape& shape);
int64_t count_positions(const OptionalTensor& mask, const Shape& shape);

inline const void* data(const OptionalTensor& tensor) {
  return tensor ? tensor->const_data_ptr() : nullptr;
}

}  // namespace bn
