#include "groups.h"

#include <cstring>
#include <utility>

namespace bn {

Tensor allocate_table(int64_t rows, int64_t columns, ScalarType type) {
  const int64_t sizes[] = {rows, columns}, strides[] = {columns, 1};
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      2, sizes, strides, static_cast<int32_t>(type), aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Tensor table(const Tensor& t, int64_t rows, int64_t channels, ScalarType type, const char* name) {
  STD_TORCH_CHECK(t.dim() == 2 && t.size(0) == rows && t.size(1) == channels,
                  "batch_norm_groups: ", name, " must have one row per group and one column per ",
                  "channel. Got ", t.dim(), " dimensions and ", t.numel(), " values for (", rows,
                  ", ", channels, "). Use the results of the same call.");
  if (t.scalar_type() == type && t.is_contiguous()) return t;
  return torch::stable::contiguous(torch::stable::to(t, type));
}

int64_t bytes_of(ScalarType type) {
  return type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : 2;
}

OptionalTensor contiguous(const OptionalTensor& tensor) {
  if (!tensor) return std::nullopt;
  return torch::stable::contiguous(*tensor);
}

Weights::Weights(const OptionalTensor& weight_, const OptionalTensor& bias_, bool by_row,
                 int64_t channels, ScalarType type) {
  if (!by_row) {
    weight = per_channel(weight_, channels, type, "weight");
    bias = per_channel(bias_, channels, type, "bias");
    return;
  }
  STD_TORCH_CHECK(weight_ || bias_,
                  "batch_norm_groups: rows need a weight or a bias to choose from. Got neither. ",
                  "Pass rows=None.");
  const Tensor& any = weight_ ? *weight_ : *bias_;
  rows = any.dim() == 2 ? any.size(0) : 0;
  if (weight_) weight = table(*weight_, rows, channels, type, "weight");
  if (bias_) bias = table(*bias_, rows, channels, type, "bias");
}

namespace {

const int64_t* indices(const Tensor& t, int64_t samples, const char* name) {
  STD_TORCH_CHECK(t.dim() == 1 && t.size(0) == samples && t.scalar_type() == ScalarType::Long,
                  "batch_norm_groups: ", name, " must be int64 with one value per sample. Got ",
                  t.numel(), " values for ", samples, " samples. Use a LongTensor of shape (N,).");
  return static_cast<const int64_t*>(t.const_data_ptr());
}

void check_range(const int64_t* values, int64_t samples, int64_t end, const char* name) {
  for (int64_t i = 0; i < samples; ++i)
    STD_TORCH_CHECK(values[i] >= 0 && values[i] < end, "batch_norm_groups: ", name,
                    " must lie in [0, ", end, "). Got ", values[i], " for sample ", i,
                    ". Pass labels of the groups that there are.");
}

}  // namespace

Runs::Runs(const Tensor& index, int64_t groups_, const OptionalTensor& rows, int64_t row_count,
           const OptionalTensor& mask, const Shape& shape)
    : groups(groups_) {
  const int64_t* group = indices(index, shape.n, "index");
  check_range(group, shape.n, groups, "index");
  const int64_t* row = nullptr;
  if (rows) {
    row = indices(*rows, shape.n, "rows");
    check_range(row, shape.n, row_count, "rows");
  }

  const uint8_t* real = static_cast<const uint8_t*>(data(mask));
  std::vector<int64_t> members(size_t(groups), 0);
  counts.assign(size_t(groups), 0);
  for (int64_t n = 0; n < shape.n;) {
    Run run = {n, 0, group[n], row ? row[n] : 0, 0};
    while (n < shape.n && group[n] == run.group && (!row || row[n] == run.row)) ++n;
    run.size = n - run.first;
    if (real)
      for (int64_t i = run.first * shape.s; i < n * shape.s; ++i) run.count += real[i];
    else
      run.count = run.size * shape.s;
    runs.push_back(run);
    ++members[size_t(run.group)];
    counts[size_t(run.group)] += run.count;
  }
  for (int64_t g = 0; g < groups; ++g) whole = whole && members[size_t(g)] <= 1;
}

Grouped::Grouped(const Tensor& input_, const OptionalTensor& weight, const OptionalTensor& bias,
                 const OptionalTensor& mask_, const Tensor& index_, int64_t groups,
                 const OptionalTensor& rows_)
    : input(dense(input_)),
      index(torch::stable::contiguous(index_)),
      mask(position_mask(mask_, kernel_shape(input))),
      rows(contiguous(rows_)),
      shape(kernel_shape(input)),
      stats(stats_type(input)),
      weights(weight, bias, rows_.has_value(), shape.c, stats),
      runs(index, groups, rows, weights.rows, mask, shape),
      sample_bytes(shape.c * shape.s * bytes_of(input.scalar_type())),
      row_bytes(shape.c * bytes_of(stats)) {}

std::vector<int64_t> Runs::order_together(int64_t sample_bytes) const {
  // Measured: the kernel calls of a run cost about as much as moving 16 KiB there and back.
  constexpr int64_t kSmallSample = 16 * 1024;
  if (whole || sample_bytes > kSmallSample) return {};
  std::vector<const Run*> sorted;
  for (const Run& run : runs) sorted.push_back(&run);
  const auto key = [](const Run* run) { return std::make_pair(run->group, run->row); };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Run* a, const Run* b) { return key(a) < key(b); });
  size_t joined = 1;
  for (size_t i = 1; i < sorted.size(); ++i) joined += key(sorted[i]) != key(sorted[i - 1]);
  if (2 * joined > sorted.size()) return {};

  std::vector<int64_t> order;
  for (const Run* run : sorted)
    for (int64_t i = 0; i < run->size; ++i) order.push_back(run->first + i);
  return order;
}

namespace {

// copy(to, from, bytes of a sample, its number in the order, where it lies) for every sample.
template <class Copy>
Tensor moved(const Tensor& samples, const std::vector<int64_t>& order, Copy copy) {
  constexpr int64_t kTaskBytes = 64 * 1024;
  Tensor result = allocate_like(samples);
  const int64_t n = int64_t(order.size());
  const int64_t bytes = samples.numel() / n * int64_t(samples.element_size());
  const int64_t block = std::max<int64_t>(1, kTaskBytes / std::max<int64_t>(1, bytes));
  char* to = static_cast<char*>(result.mutable_data_ptr());
  const char* from = static_cast<const char*>(samples.const_data_ptr());
  auto task = [&](int64_t t) {
    for (int64_t i = t * block; i < std::min(n, (t + 1) * block); ++i)
      copy(to, from, bytes, i, order[size_t(i)]);
  };
  for_each_task((n + block - 1) / block, task);
  return result;
}

}  // namespace

Tensor gather(const Tensor& samples, const std::vector<int64_t>& order) {
  return moved(samples, order, [](char* to, const char* from, int64_t size, int64_t i, int64_t at) {
    std::memcpy(to + i * size, from + at * size, size_t(size));
  });
}

OptionalTensor gather(const OptionalTensor& samples, const std::vector<int64_t>& order) {
  if (!samples) return std::nullopt;
  return gather(*samples, order);
}

Tensor scatter(const Tensor& samples, const std::vector<int64_t>& order) {
  return moved(samples, order, [](char* to, const char* from, int64_t size, int64_t i, int64_t at) {
    std::memcpy(to + at * size, from + i * size, size_t(size));
  });
}

}  // namespace bn
