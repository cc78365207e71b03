// Passes over one contiguous run of elements of one channel: the inner loops of the (N, C, S)
// layout.
#pragma once

#include "channel.h"

namespace bn::BN_ISA {

// Float lanes are added to the double totals after this many elements at the latest.
constexpr int64_t kFlush = 2048;

// totals[0][lane] += x - shift, totals[1][lane] += (x - shift)^2.
template <class A>
using LaneTotals = double[2][kLanes<A>];

template <class A>
BN_INLINE double total(const double* lanes) {
  double sum = 0;
  for (int i = 0; i < kLanes<A>; ++i) sum += lanes[i];
  return sum;
}

template <class T, bool kMasked>
void add_run(const T* x, const uint8_t* mask, int64_t n, Acc<T> shift, LaneTotals<Acc<T>>& totals) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const Vec<A> k = splat<A>(shift), zero = {};
  for (int64_t i = 0; i < n;) {
    const int64_t end = smaller(n, i + kFlush);
    Vec<A> sum[4] = {}, squares[4] = {};
    for (; i + 4 * L <= end; i += 4 * L) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) {
        Vec<A> d = load(x + i + u * L) - k;
        if constexpr (kMasked) d = mask_lanes<A, false>(mask + i + u * L, L) ? d : zero;
        sum[u] += d;
        squares[u] += d * d;
      }
    }
    for (; i + L <= end; i += L) {
      Vec<A> d = load(x + i) - k;
      if constexpr (kMasked) d = mask_lanes<A, false>(mask + i, L) ? d : zero;
      sum[0] += d;
      squares[0] += d * d;
    }
    if (i < end) {  // only at the end of the run: kFlush is a multiple of every L
      const int64_t rest = end - i;
      Vec<A> d = load_partial(x + i, rest) - k;
      if constexpr (kMasked)
        d = mask_lanes<A, true>(mask + i, rest) ? d : zero;
      else
        d = first_lanes<A>(rest) ? d : zero;
      sum[1] += d;
      squares[1] += d * d;
      i = end;
    }
    add_lanes<A>(totals[0], (sum[0] + sum[1]) + (sum[2] + sum[3]));
    add_lanes<A>(totals[1], (squares[0] + squares[1]) + (squares[2] + squares[3]));
  }
}

// A shift near the mean: the mean of the first real elements of a run.
template <class T>
Acc<T> guess_shift(const T* x, const uint8_t* mask, int64_t n) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  double lanes[kLanes<A>] = {};
  int64_t count = 0;
  for (int64_t i = 0; i < n && count < 32; i += L) {
    const int64_t rest = smaller(L, n - i);
    Vec<A> v = rest == L ? load(x + i) : load_partial(x + i, rest);
    if (mask) v = mask_lanes<A, true>(mask + i, rest) ? v : Vec<A>{};
    for (int64_t j = 0; j < rest; ++j) count += mask ? mask[i + j] : 1;
    add_lanes<A>(lanes, v);
  }
  return count ? A(total<A>(lanes) / double(count)) : A(0);
}

template <class T>
struct ApplyRun {
  const T *x, *residual;
  const uint8_t* mask;
  T* y;
  int activation;
  Acc<T> slope;
};

template <class T, int kAct, bool kResidual, bool kMasked, bool kPartial>
BN_INLINE void apply_vector(const ApplyRun<T>& run, int64_t i, int64_t n, Vec<Acc<T>> mean,
                            Vec<Acc<T>> scale, Vec<Acc<T>> shift) {
  using A = Acc<T>;
  Vec<A> v = (load_lanes<kPartial>(run.x + i, n) - mean) * scale + shift;
  if (kResidual && run.residual) v += load_lanes<kPartial>(run.residual + i, n);
  v = activate<kAct, A>(run.activation, run.slope, v);
  if constexpr (kMasked) v = mask_lanes<A, kPartial>(run.mask + i, n) ? v : Vec<A>{};
  store_lanes<kPartial>(run.y + i, v, n);
}

template <class T, int kAct, bool kResidual, bool kMasked>
void apply_run(const ApplyRun<T>& run, int64_t n, const Affine<Acc<T>>& a) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const Vec<A> mean = splat<A>(a.mean), scale = splat<A>(a.scale), shift = splat<A>(a.shift);
  const ApplyRun<T> r = run;
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + L <= n; i += L)
    apply_vector<T, kAct, kResidual, kMasked, false>(r, i, L, mean, scale, shift);
  if (i < n) apply_vector<T, kAct, kResidual, kMasked, true>(r, i, n - i, mean, scale, shift);
}

template <class T>
using ApplyRunFn = void (*)(const ApplyRun<T>&, int64_t, const Affine<Acc<T>>&);

template <class T>
ApplyRunFn<T> choose_apply_run(const ForwardArgs& args) {
  if (args.mask) return apply_run<T, kAny, true, true>;
  if (args.activation == kIdentity)
    return args.residual ? apply_run<T, kIdentity, true, false>
                         : apply_run<T, kIdentity, false, false>;
  if (args.activation == kRelu)
    return args.residual ? apply_run<T, kRelu, true, false> : apply_run<T, kRelu, false, false>;
  return apply_run<T, kAny, true, false>;
}

// ---- backward
// --------------------------------------------------------------------------------------

template <class T>
struct GradRun {
  const T *dy, *x, *aux;  // aux: residual or output, by source
  const uint8_t* mask;
  T *g, *dx;  // where to write g, and dx when statistics are constants; null: nowhere
  int source, activation;
  Acc<T> slope;
};

// g = dy * activation'(pre), 0 at padding, and x - mean, 0 at padding.
template <class T, int kAct, int kSource, bool kMasked, bool kPartial>
BN_INLINE void load_gradient(const GradRun<T>& run, int64_t i, int64_t n, Vec<Acc<T>> mean,
                             Vec<Acc<T>> scale, Vec<Acc<T>> shift, Vec<Acc<T>>& g,
                             Vec<Acc<T>>& centered) {
  using A = Acc<T>;
  g = load_lanes<kPartial>(run.dy + i, n);
  centered = load_lanes<kPartial>(run.x + i, n) - mean;
  if constexpr (kAct != kIdentity) {
    const int source = kSource == kAnySource ? run.source : kSource;
    Vec<A> pre;
    if (source == kFromOutput) {
      pre = load_lanes<kPartial>(run.aux + i, n);
    } else {
      pre = centered * scale + shift;
      if (source == kFromInputAndResidual) pre += load_lanes<kPartial>(run.aux + i, n);
    }
    g = activation_grad<kAct, A>(run.activation, run.slope, pre, g);
  }
  if constexpr (kMasked) {
    const auto real = mask_lanes<A, kPartial>(run.mask + i, n);
    g = real ? g : Vec<A>{};
    centered = real ? centered : Vec<A>{};
  } else if constexpr (kPartial) {
    const auto real = first_lanes<A>(n);
    g = real ? g : Vec<A>{};
    centered = real ? centered : Vec<A>{};
  }
}

template <class T, int kAct, int kSource, bool kMasked>
void reduce_run(const GradRun<T>& run, int64_t n, const Affine<Acc<T>>& a,
                LaneTotals<Acc<T>>& totals) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const Vec<A> mean = splat<A>(a.mean), scale = splat<A>(a.scale), shift = splat<A>(a.shift);
  const GradRun<T> r = run;
  for (int64_t i = 0; i < n;) {
    const int64_t end = smaller(n, i + kFlush);
    Vec<A> sum[2] = {}, products[2] = {}, g, centered;
    for (; i + 2 * L <= end; i += 2 * L) {
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        load_gradient<T, kAct, kSource, kMasked, false>(r, i + u * L, L, mean, scale, shift, g,
                                                        centered);
        sum[u] += g;
        products[u] += g * centered;
        if (r.g) store(r.g + i + u * L, g);
        if (r.dx) store(r.dx + i + u * L, g * scale);
      }
    }
    for (; i < end; i += L) {
      const int64_t rest = smaller(L, end - i);
      if (rest == L)
        load_gradient<T, kAct, kSource, kMasked, false>(r, i, L, mean, scale, shift, g, centered);
      else
        load_gradient<T, kAct, kSource, kMasked, true>(r, i, rest, mean, scale, shift, g, centered);
      sum[0] += g;
      products[0] += g * centered;
      if (r.g) store_partial(r.g + i, g, rest);
      if (r.dx) store_partial(r.dx + i, g * scale, rest);
    }
    i = end;
    add_lanes<A>(totals[0], sum[0] + sum[1]);
    add_lanes<A>(totals[1], products[0] + products[1]);
  }
}

template <class T, int kAct, int kSource, bool kMasked>
void input_grad_run(const GradRun<T>& run, int64_t n, const Affine<Acc<T>>& a,
                    const Gradient<Acc<T>>& d) {
  using A = Acc<T>;
  constexpr int64_t L = kLanes<A>;
  const Vec<A> mean = splat<A>(a.mean), scale = splat<A>(a.scale), shift = splat<A>(a.shift);
  const Vec<A> slope = splat<A>(d.slope), offset = splat<A>(d.offset);
  const GradRun<T> r = run;
  Vec<A> g, centered;
  int64_t i = 0;
#pragma GCC unroll 2
  for (; i + L <= n; i += L) {
    load_gradient<T, kAct, kSource, kMasked, false>(r, i, L, mean, scale, shift, g, centered);
    Vec<A> dx = g * scale + (centered * slope + offset);
    if constexpr (kMasked) dx = mask_lanes<A, false>(r.mask + i, L) ? dx : Vec<A>{};
    store(r.dx + i, dx);
    if (r.g) store(r.g + i, g);
  }
  if (i < n) {
    const int64_t rest = n - i;
    load_gradient<T, kAct, kSource, kMasked, true>(r, i, rest, mean, scale, shift, g, centered);
    Vec<A> dx = g * scale + (centered * slope + offset);
    if constexpr (kMasked) dx = mask_lanes<A, true>(r.mask + i, rest) ? dx : Vec<A>{};
    store_partial(r.dx + i, dx, rest);
    if (r.g) store_partial(r.g + i, g, rest);
  }
}

template <class T>
struct GradRunFns {
  void (*reduce)(const GradRun<T>&, int64_t, const Affine<Acc<T>>&, LaneTotals<Acc<T>>&);
  void (*input_grad)(const GradRun<T>&, int64_t, const Affine<Acc<T>>&, const Gradient<Acc<T>>&);
};

template <class T, int kAct, int kSource, bool kMasked>
constexpr GradRunFns<T> grad_run_fns() {
  return {reduce_run<T, kAct, kSource, kMasked>, input_grad_run<T, kAct, kSource, kMasked>};
}

template <class T>
GradRunFns<T> choose_grad_run(int activation, int source, bool masked) {
  if (masked) return grad_run_fns<T, kAny, kAnySource, true>();
  if (activation == kIdentity) return grad_run_fns<T, kIdentity, kFromInput, false>();
  if (activation == kRelu && source == kFromInput)
    return grad_run_fns<T, kRelu, kFromInput, false>();
  if (activation == kRelu && source == kFromOutput)
    return grad_run_fns<T, kRelu, kFromOutput, false>();
  return grad_run_fns<T, kAny, kAnySource, false>();
}

}  // namespace bn::BN_ISA
