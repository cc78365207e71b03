// What happens per channel between the passes: from shifted sums to mean and variance, from
// statistics to the coefficients of the elementwise passes. Scratch memory and parallel loops.
#pragma once

#include <cstdlib>

#include "activation.h"

namespace bn::BN_ISA {

// Bytes of input that one task reads twice: they should survive in the second-level cache.
constexpr int64_t kCacheBytes = 448 * 1024;
// Below this many elements a parallel region costs more than it saves.
constexpr int64_t kSerialElements = 24 * 1024;

template <class F>
void parallel_for(const Parallel& parallel, int64_t elements, int64_t tasks, F& body) {
  if (tasks <= 1 || parallel.threads <= 1 || elements < kSerialElements) {
    for (int64_t i = 0; i < tasks; ++i) body(i);
    return;
  }
  parallel.run(tasks, [](void* context, int64_t i) { (*static_cast<F*>(context))(i); }, &body);
}

// An uninitialised array that frees itself; no library template (see vec.h).
template <class E>
class Scratch {
 public:
  explicit Scratch(int64_t size) : data_(static_cast<E*>(std::malloc(size_t(size) * sizeof(E)))) {
    if (data_ == nullptr) __builtin_trap();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  E* get() const { return data_; }
  E& operator[](int64_t i) const { return data_[i]; }
  void zero(int64_t size) { __builtin_memset(data_, 0, size_t(size) * sizeof(E)); }

 private:
  E* data_;
};

struct Moments {
  double mean, var;
};

// Sums of (x - shift) and (x - shift)^2 over count elements. NaN stays NaN.
inline Moments moments(double shift, double sum, double sum_of_squares, int64_t count) {
  if (count == 0) return {0.0, 0.0};
  const double offset = sum / double(count);
  const double var = sum_of_squares / double(count) - offset * offset;
  return {shift + offset, var < 0.0 ? 0.0 : var};
}

// The float sums of squares lose (mean - shift)^2 / var of their precision: beyond this, a second
// pass with a better shift.
inline bool poorly_shifted(double shift, const Moments& m) {
  const double offset = m.mean - shift;
  return offset * offset > 4.0 * m.var;
}

// y = (x - mean) * scale + shift, where shift also carries what rounding took from the mean.
template <class A>
struct Affine {
  A mean, scale, shift;
};

template <class A>
Affine<A> affine(const ForwardArgs& args, int64_t c, double mean, double invstd) {
  const double weight = args.weight ? static_cast<const A*>(args.weight)[c] : 1.0;
  const double bias = args.bias ? static_cast<const A*>(args.bias)[c] : 0.0;
  const double scale = weight * invstd;
  const double residue = mean - double(A(mean));  // NaN or infinite when the mean is
  return {A(mean), A(scale), A(bias - residue * scale)};
}

template <class A>
Affine<A> write_statistics(const ForwardArgs& args, int64_t c, const Moments& m) {
  const double invstd = 1.0 / __builtin_sqrt(m.var + args.eps);
  if (args.mean) static_cast<A*>(args.mean)[c] = A(m.mean);
  if (args.var) static_cast<A*>(args.var)[c] = A(m.var);
  if (args.invstd) static_cast<A*>(args.invstd)[c] = A(invstd);
  if (args.moments) {
    args.moments[2 * c] = m.mean;
    args.moments[2 * c + 1] = m.var;
  }
  return affine<A>(args, c, m.mean, invstd);
}

template <class A>
Affine<A> read_statistics(const ForwardArgs& args, int64_t c) {
  return affine<A>(args, c, static_cast<const A*>(args.mean)[c],
                   static_cast<const A*>(args.invstd)[c]);
}

template <class A>
Affine<A> read_statistics(const BackwardArgs& args, int64_t c) {
  const A mean = static_cast<const A*>(args.mean)[c];
  const A scale = (args.weight ? static_cast<const A*>(args.weight)[c] : A(1)) *
                  static_cast<const A*>(args.invstd)[c];
  return {mean, scale, args.bias ? static_cast<const A*>(args.bias)[c] : A(0)};
}

// grad_input = g * scale + (x - mean) * slope + offset.
template <class A>
struct Gradient {
  A mean, scale, slope, offset;
};

template <class A>
void write_sums(const BackwardArgs& args, int64_t c, double sum_g, double sum_g_centered) {
  const double invstd = static_cast<const A*>(args.invstd)[c];
  static_cast<A*>(args.sum_dy)[c] = A(sum_g);
  static_cast<A*>(args.sum_dy_xhat)[c] = A(sum_g_centered * invstd);
}

template <class A>
Gradient<A> gradient(const BackwardArgs& args, int64_t c) {
  const Affine<A> a = read_statistics<A>(args, c);
  if (!args.training || args.count == 0) return {a.mean, a.scale, A(0), A(0)};
  const double invstd = static_cast<const A*>(args.invstd)[c];
  const double scale = args.weighted_sums ? invstd : double(a.scale);
  const double count = double(args.count);
  const double sum_dy = static_cast<const A*>(args.sum_dy)[c];
  const double sum_dy_xhat = static_cast<const A*>(args.sum_dy_xhat)[c];
  return {a.mean, a.scale, A(-scale * invstd * sum_dy_xhat / count), A(-scale * sum_dy / count)};
}

// Where the activation's argument comes from in a backward pass.
enum PreSource : int {
  kFromInput = 0,
  kFromInputAndResidual = 1,
  kFromOutput = 2,
  kAnySource = -1
};

inline int pre_source(const BackwardArgs& args) {
  if (args.output) return kFromOutput;
  return args.residual ? kFromInputAndResidual : kFromInput;
}

}  // namespace bn::BN_ISA
