// Passes over a matrix whose columns belong to channels: the inner loops of the (N, C) and NHWC
// layouts, and of planes too small to be runs (7x7), whose S columns per channel are merged after.
#pragma once

#include "runs.h"

namespace bn::BN_ISA {

constexpr int64_t kRowGroup = 64;  // rows added up in float registers before the double totals
constexpr int64_t kApplyRows = 16;
constexpr int64_t kPrefetchRows = 2;  // the hardware does not follow wide rows down a column

// Some rows of the matrix; every per-column array is padded with zeros to whole vectors.
struct Strip {
  int64_t rows, cols, stride;
  const uint8_t* mask;  // one byte per row; null: all real
};

template <class T, int kVectors>
BN_INLINE void prefetch(const T* p) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  for (int64_t i = 0; i < kVectors * kLanes<Acc<T>>; i += kLine) __builtin_prefetch(p + i);
}

template <class T, int kVectors, bool kPartial>
BN_INLINE void column_sums_block(const Strip& s, const T* x, int64_t row, int64_t rows, int64_t q,
                                 const Acc<T>* shift, double* sums, double* squares) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rest = s.cols - q;
  Vec<A> k[kVectors], sum[kVectors] = {}, square[kVectors] = {};
  for (int u = 0; u < kVectors; ++u) k[u] = load(shift + q + u * L);
  for (int64_t r = row; r < row + rows; ++r) {
    if (s.mask && !s.mask[r]) continue;
    const T* p = x + r * s.stride + q;
    prefetch<T, kVectors>(p + kPrefetchRows * s.stride);
#pragma GCC unroll 8
    for (int u = 0; u < kVectors; ++u) {
      Vec<A> d = load_lanes<kPartial>(p + u * L, rest) - k[u];
      if constexpr (kPartial) d = first_lanes<A>(rest) ? d : Vec<A>{};
      sum[u] += d;
      square[u] += d * d;
    }
  }
  for (int u = 0; u < kVectors; ++u) {
    add_lanes<A>(sums + q + u * L, sum[u]);
    add_lanes<A>(squares + q + u * L, square[u]);
  }
}

// sums[q] += x - shift[q], squares[q] += (x - shift[q])^2.
template <class T>
void column_sums(const Strip& s, const T* x, const Acc<T>* shift, double* sums, double* squares) {
  constexpr int64_t L = kLanes<Acc<T>>;
  constexpr int kWide = kVectorBytes == 64 ? 8 : 4;  // 3 * kWide registers
  for (int64_t row = 0; row < s.rows; row += kRowGroup) {
    const int64_t rows = smaller(kRowGroup, s.rows - row);
    int64_t q = 0;
    for (; q + kWide * L <= s.cols; q += kWide * L)
      column_sums_block<T, kWide, false>(s, x, row, rows, q, shift, sums, squares);
    for (; q + 2 * L <= s.cols; q += 2 * L)
      column_sums_block<T, 2, false>(s, x, row, rows, q, shift, sums, squares);
    for (; q + L <= s.cols; q += L)
      column_sums_block<T, 1, false>(s, x, row, rows, q, shift, sums, squares);
    if (q < s.cols) column_sums_block<T, 1, true>(s, x, row, rows, q, shift, sums, squares);
  }
}

template <class T>
BN_INLINE void zero_row(T* y, int64_t cols) {
  __builtin_memset(y, 0, size_t(cols) * sizeof(T));
}

// Per-column coefficients of y = (x - mean) * scale + shift.
template <class A>
struct ColumnAffine {
  const A *mean, *scale, *shift;
};

// A few columns, some rows: the coefficients stay in registers.
template <class T, int kAct, bool kResidual, int kVectors, bool kPartial>
BN_INLINE void apply_block(const Strip& s, const ApplyRun<T>& run, int64_t row, int64_t rows,
                           int64_t q, const ColumnAffine<Acc<T>>& a) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rest = s.cols - q;
  Vec<A> mean[kVectors], scale[kVectors], shift[kVectors];
  for (int u = 0; u < kVectors; ++u) {
    mean[u] = load(a.mean + q + u * L);
    scale[u] = load(a.scale + q + u * L);
    shift[u] = load(a.shift + q + u * L);
  }
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t at = r * s.stride + q;
    if (s.mask && !s.mask[r]) {
      zero_row(run.y + at, smaller(rest, kVectors * L));
      continue;
    }
#pragma GCC unroll 4
    for (int u = 0; u < kVectors; ++u) {
      const int64_t i = at + u * L;
      Vec<A> v = (load_lanes<kPartial>(run.x + i, rest) - mean[u]) * scale[u] + shift[u];
      if (kResidual && run.residual) v += load_lanes<kPartial>(run.residual + i, rest);
      store_lanes<kPartial>(run.y + i, activate<kAct, A>(run.activation, run.slope, v), rest);
    }
  }
}

template <class T, int kAct, bool kResidual>
void apply_columns(const Strip& s, const ApplyRun<T>& run, const ColumnAffine<Acc<T>>& affine) {
  constexpr int64_t L = kLanes<Acc<T>>;
  const ApplyRun<T> r = run;
  const ColumnAffine<Acc<T>> a = affine;
  for (int64_t row = 0; row < s.rows; row += kApplyRows) {
    const int64_t rows = smaller(kApplyRows, s.rows - row);
    int64_t q = 0;
    for (; q + 4 * L <= s.cols; q += 4 * L)
      apply_block<T, kAct, kResidual, 4, false>(s, r, row, rows, q, a);
    for (; q + L <= s.cols; q += L)
      apply_block<T, kAct, kResidual, 1, false>(s, r, row, rows, q, a);
    if (q < s.cols) apply_block<T, kAct, kResidual, 1, true>(s, r, row, rows, q, a);
  }
}

template <class T>
using ApplyColumnsFn = void (*)(const Strip&, const ApplyRun<T>&, const ColumnAffine<Acc<T>>&);

template <class T>
ApplyColumnsFn<T> choose_apply_columns(const ForwardArgs& args) {
  if (args.activation == kIdentity)
    return args.residual ? apply_columns<T, kIdentity, true> : apply_columns<T, kIdentity, false>;
  if (args.activation == kRelu)
    return args.residual ? apply_columns<T, kRelu, true> : apply_columns<T, kRelu, false>;
  return apply_columns<T, kAny, true>;
}

// ---- backward
// --------------------------------------------------------------------------------------

template <class T, int kAct, int kSource, int kVectors, bool kPartial>
BN_INLINE void reduce_columns_block(const Strip& s, const GradRun<T>& run, int64_t row,
                                    int64_t rows, int64_t q, const ColumnAffine<Acc<T>>& a,
                                    double* sums, double* products) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rest = s.cols - q;
  Vec<A> sum[kVectors] = {}, product[kVectors] = {}, mean[kVectors], scale[kVectors], g, centered;
  Vec<A> shift[kVectors];
  for (int u = 0; u < kVectors; ++u) {
    mean[u] = load(a.mean + q + u * L);
    scale[u] = load(a.scale + q + u * L);
    shift[u] = load(a.shift + q + u * L);
  }
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t at = r * s.stride + q;
    if (s.mask && !s.mask[r]) {
      if (run.g) zero_row(run.g + at, smaller(rest, kVectors * L));
      if (run.dx) zero_row(run.dx + at, smaller(rest, kVectors * L));
      continue;
    }
    prefetch<T, kVectors>(run.dy + at + kPrefetchRows * s.stride);
    prefetch<T, kVectors>(run.x + at + kPrefetchRows * s.stride);
#pragma GCC unroll 4
    for (int u = 0; u < kVectors; ++u) {
      load_gradient<T, kAct, kSource, false, kPartial>(run, at + u * L, rest, mean[u], scale[u],
                                                       shift[u], g, centered);
      sum[u] += g;
      product[u] += g * centered;
      if (run.g) store_lanes<kPartial>(run.g + at + u * L, g, rest);
      if (run.dx) store_lanes<kPartial>(run.dx + at + u * L, g * scale[u], rest);
    }
  }
  for (int u = 0; u < kVectors; ++u) {
    add_lanes<A>(sums + q + u * L, sum[u]);
    add_lanes<A>(products + q + u * L, product[u]);
  }
}

// sums[q] += g, products[q] += g * (x - mean[q]).
template <class T, int kAct, int kSource>
void reduce_columns(const Strip& s, const GradRun<T>& run, const ColumnAffine<Acc<T>>& a,
                    double* sums, double* products) {
  constexpr int64_t L = kLanes<Acc<T>>;
  const GradRun<T> g = run;
  for (int64_t row = 0; row < s.rows; row += kRowGroup) {
    const int64_t rows = smaller(kRowGroup, s.rows - row);
    int64_t q = 0;
    for (; q + 4 * L <= s.cols; q += 4 * L)
      reduce_columns_block<T, kAct, kSource, 4, false>(s, g, row, rows, q, a, sums, products);
    for (; q + L <= s.cols; q += L)
      reduce_columns_block<T, kAct, kSource, 1, false>(s, g, row, rows, q, a, sums, products);
    if (q < s.cols)
      reduce_columns_block<T, kAct, kSource, 1, true>(s, g, row, rows, q, a, sums, products);
  }
}

// Per-column coefficients of grad_input = g * scale + (x - mean) * slope + offset.
template <class A>
struct ColumnGradient {
  const A *slope, *offset;
};

template <class T, int kAct, int kSource, int kVectors, bool kPartial>
BN_INLINE void input_grad_block(const Strip& s, const GradRun<T>& run, int64_t row, int64_t rows,
                                int64_t q, const ColumnAffine<Acc<T>>& a,
                                const ColumnGradient<Acc<T>>& d) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const int64_t rest = s.cols - q;
  Vec<A> mean[kVectors], scale[kVectors], shift[kVectors], slope[kVectors], offset[kVectors];
  for (int u = 0; u < kVectors; ++u) {
    mean[u] = load(a.mean + q + u * L);
    scale[u] = load(a.scale + q + u * L);
    shift[u] = load(a.shift + q + u * L);
    slope[u] = load(d.slope + q + u * L);
    offset[u] = load(d.offset + q + u * L);
  }
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t at = r * s.stride + q;
    if (s.mask && !s.mask[r]) {
      zero_row(run.dx + at, smaller(rest, kVectors * L));
      if (run.g) zero_row(run.g + at, smaller(rest, kVectors * L));
      continue;
    }
#pragma GCC unroll 4
    for (int u = 0; u < kVectors; ++u) {
      Vec<A> g, centered;
      load_gradient<T, kAct, kSource, false, kPartial>(run, at + u * L, rest, mean[u], scale[u],
                                                       shift[u], g, centered);
      const Vec<A> dx = g * scale[u] + (centered * slope[u] + offset[u]);
      store_lanes<kPartial>(run.dx + at + u * L, dx, rest);
      if (run.g) store_lanes<kPartial>(run.g + at + u * L, g, rest);
    }
  }
}

template <class T, int kAct, int kSource>
void input_grad_columns(const Strip& s, const GradRun<T>& run, const ColumnAffine<Acc<T>>& affine,
                        const ColumnGradient<Acc<T>>& gradient) {
  constexpr int64_t L = kLanes<Acc<T>>;
  const GradRun<T> r = run;
  const ColumnAffine<Acc<T>> a = affine;
  const ColumnGradient<Acc<T>> d = gradient;
  for (int64_t row = 0; row < s.rows; row += kApplyRows) {
    const int64_t rows = smaller(kApplyRows, s.rows - row);
    int64_t q = 0;
    for (; q + 4 * L <= s.cols; q += 4 * L)
      input_grad_block<T, kAct, kSource, 4, false>(s, r, row, rows, q, a, d);
    for (; q + L <= s.cols; q += L)
      input_grad_block<T, kAct, kSource, 1, false>(s, r, row, rows, q, a, d);
    if (q < s.cols) input_grad_block<T, kAct, kSource, 1, true>(s, r, row, rows, q, a, d);
  }
}

template <class T>
struct GradColumnFns {
  void (*reduce)(const Strip&, const GradRun<T>&, const ColumnAffine<Acc<T>>&, double*, double*);
  void (*input_grad)(const Strip&, const GradRun<T>&, const ColumnAffine<Acc<T>>&,
                     const ColumnGradient<Acc<T>>&);
};

template <class T, int kAct, int kSource>
constexpr GradColumnFns<T> grad_column_fns() {
  return {reduce_columns<T, kAct, kSource>, input_grad_columns<T, kAct, kSource>};
}

template <class T>
GradColumnFns<T> choose_grad_columns(int activation, int source) {
  if (activation == kIdentity) return grad_column_fns<T, kIdentity, kFromInput>();
  if (activation == kRelu && source == kFromInput) return grad_column_fns<T, kRelu, kFromInput>();
  if (activation == kRelu && source == kFromOutput) return grad_column_fns<T, kRelu, kFromOutput>();
  return grad_column_fns<T, kAny, kAnySource>();
}

}  // namespace bn::BN_ISA
