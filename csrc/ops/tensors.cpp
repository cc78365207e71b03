#include "tensors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bn {
namespace {

// glibc gives blocks of this size back to the system again and again: every 4 KiB page of a fresh
// output may fault (from 32 MiB on it always does).
constexpr int64_t kReturnedBytes = int64_t(4) << 20;
constexpr uintptr_t kHugePage = uintptr_t(2) << 20;

// Whether walking the dimensions in `order`, innermost last, walks memory without gaps.
bool dense_in_order(const Tensor& t, const std::vector<int64_t>& order) {
  int64_t expected = 1;
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const int64_t size = t.size(*it);
    if (size != 1 && t.stride(*it) != expected) return false;
    expected *= size;
  }
  return true;
}

std::vector<int64_t> channels_last_order(int64_t dim) {
  std::vector<int64_t> order = {0};
  for (int64_t i = 2; i < dim; ++i) order.push_back(i);
  order.push_back(1);
  return order;
}

bool is_channels_last(const Tensor& t) {
  return dense_in_order(t, channels_last_order(t.dim()));
}

bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) != 1 && a.stride(i) != b.stride(i)) return false;
  return true;
}

std::string describe(const Tensor& t) {
  std::string text = "(";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + ") " + torch::headeronly::toString(t.scalar_type());
}

Tensor empty_strided(const Tensor& like) {
  const auto sizes = like.sizes(), strides = like.strides();
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(like.dim(), sizes.data(), strides.data(),
                                                         static_cast<int32_t>(like.scalar_type()),
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// Asks for huge pages before the first touch: 50 faults instead of 25,000 per 100 MB.
void advise_huge_pages(const Tensor& t, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kReturnedBytes) return;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(t.const_data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + uintptr_t(bytes)) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)t, (void)bytes;
#endif
}

int64_t element_size(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return 8;
    case ScalarType::Float:
      return 4;
    default:
      return 2;
  }
}

}  // namespace

Dtype kernel_dtype(const Tensor& input) {
  switch (input.scalar_type()) {
    case ScalarType::Float:
      return kFloat32;
    case ScalarType::Double:
      return kFloat64;
    case ScalarType::BFloat16:
      return kBFloat16;
    case ScalarType::Half:
      return kFloat16;
    default:
      STD_TORCH_CHECK(false,
                      "batch_norm: input must be float16, bfloat16, float32 or float64. Got ",
                      describe(input), ". Convert it with input.float().");
  }
}

ScalarType stats_type(const Tensor& input) {
  return input.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Tensor dense(const Tensor& input) {
  STD_TORCH_CHECK(input.dim() >= 2, "batch_norm: input must have shape (N, C, *). Got ",
                  describe(input), ". Add the missing dimensions.");
  if (input.is_contiguous() || is_channels_last(input)) return input;
  return torch::stable::contiguous(input);
}

Shape kernel_shape(const Tensor& t) {
  const int64_t n = t.size(0), c = t.size(1);
  int64_t s = 1;
  for (int64_t i = 2; i < t.dim(); ++i) s *= t.size(i);
  const bool planes = s != 1 && t.is_contiguous();
  return {planes ? Layout::kPlanes : Layout::kRows, n, c, s};
}

Tensor aligned(const Tensor& other, const Tensor& like, const char* name) {
  bool same = other.dim() == like.dim() && other.scalar_type() == like.scalar_type();
  for (int64_t i = 0; same && i < like.dim(); ++i) same = other.size(i) == like.size(i);
  STD_TORCH_CHECK(same, "batch_norm: ", name, " must have the input's shape and dtype. Got ",
                  describe(other), ", input ", describe(like), ". Expand or convert it first.");
  if (same_strides(other, like)) return other;
  Tensor copy = empty_strided(like);
  torch::stable::copy_(copy, other);
  return copy;
}

Tensor allocate_like(const Tensor& like) {
  Tensor result = empty_strided(like);
  advise_huge_pages(result, like.numel() * element_size(like));
  return result;
}

Tensor allocate(int64_t size, ScalarType type) {
  const int64_t stride = 1;
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      1, &size, &stride, static_cast<int32_t>(type), aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Tensor allocate_scalar(int64_t value) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(0, nullptr, nullptr,
                                                         static_cast<int32_t>(ScalarType::Long),
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  Tensor result(handle);
  *static_cast<int64_t*>(result.mutable_data_ptr()) = value;
  return result;
}

Tensor per_channel(const Tensor& tensor, int64_t channels, ScalarType type, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == channels, "batch_norm: ", name,
                  " must have one value per channel. Got ", describe(tensor), " for ", channels,
                  " channels. Make num_features match the input.");
  if (tensor.scalar_type() == type && tensor.is_contiguous()) return tensor;
  return torch::stable::contiguous(torch::stable::to(tensor, type));
}

OptionalTensor per_channel(const OptionalTensor& tensor, int64_t channels, ScalarType type,
                           const char* name) {
  if (!tensor) return std::nullopt;
  return per_channel(*tensor, channels, type, name);
}

OptionalTensor position_mask(const OptionalTensor& mask, const Shape& shape) {
  if (!mask) return std::nullopt;
  STD_TORCH_CHECK(mask->scalar_type() == ScalarType::Bool && mask->numel() == shape.n * shape.s,
                  "batch_norm: mask must be boolean with one value per position. Got ",
                  describe(*mask), " for ", shape.n * shape.s,
                  " positions. Use a bool tensor of shape (N, *spatial).");
  return torch::stable::contiguous(*mask);
}

int64_t count_positions(const OptionalTensor& mask, const Shape& shape) {
  if (!mask) return shape.n * shape.s;
  const uint8_t* bytes = static_cast<const uint8_t*>(mask->const_data_ptr());
  int64_t count = 0;
  for (int64_t i = 0; i < shape.n * shape.s; ++i) count += bytes[i];
  return count;
}

}  // namespace bn
