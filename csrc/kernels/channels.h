// What happens per channel between the passes, as in channel.h, for adjacent channels at once:
// plain loops that the compiler turns into vectors. With few rows they cost as much as the passes.
#pragma once

#include "channel.h"

namespace bn::BN_ISA {

// Mean and variance from sums of (x - shift) and (x - shift)^2. True: some shift was poor.
template <class A>
bool moments_of_channels(int64_t channels, const A* shift, const double* sum, const double* squares,
                         int64_t count, double* mean, double* var) {
  if (count == 0) {
    for (int64_t c = 0; c < channels; ++c) mean[c] = var[c] = 0.0;
    return false;
  }
  const double n = double(count);
  int poor = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double offset = sum[c] / n;
    const double v = squares[c] / n - offset * offset;
    mean[c] = double(shift[c]) + offset;
    var[c] = v < 0.0 ? 0.0 : v;
  }
  for (int64_t c = 0; c < channels; ++c) {
    const double offset = mean[c] - double(shift[c]);
    poor |= offset * offset > 4.0 * var[c];
  }
  return poor != 0;
}

// write_statistics for the channels from `first` on. `var` becomes 1 / sqrt(var + eps).
template <class A>
void write_statistics_of_channels(const ForwardArgs& args, int64_t first, int64_t channels,
                                  const double* mean, double* var, A* mean_out, A* scale_out,
                                  A* shift_out) {
  if (args.mean) {
    A* out = static_cast<A*>(args.mean) + first;
    for (int64_t c = 0; c < channels; ++c) out[c] = A(mean[c]);
  }
  if (args.var) {
    A* out = static_cast<A*>(args.var) + first;
    for (int64_t c = 0; c < channels; ++c) out[c] = A(var[c]);
  }
  if (args.moments) {
    double* out = args.moments + 2 * first;
    for (int64_t c = 0; c < channels; ++c) out[2 * c] = mean[c], out[2 * c + 1] = var[c];
  }
  if (!args.apply && !args.invstd) return;
  for (int64_t c = 0; c < channels; ++c) var[c] = 1.0 / __builtin_sqrt(var[c] + args.eps);
  if (args.invstd) {
    A* out = static_cast<A*>(args.invstd) + first;
    for (int64_t c = 0; c < channels; ++c) out[c] = A(var[c]);
  }
  const A* weight = args.weight ? static_cast<const A*>(args.weight) + first : nullptr;
  const A* bias = args.bias ? static_cast<const A*>(args.bias) + first : nullptr;
  if (weight)
    for (int64_t c = 0; c < channels; ++c) var[c] *= double(weight[c]);
  for (int64_t c = 0; c < channels; ++c) {
    mean_out[c] = A(mean[c]);
    scale_out[c] = A(var[c]);
    shift_out[c] = A(-(mean[c] - double(A(mean[c]))) * var[c]);
  }
  if (bias)
    for (int64_t c = 0; c < channels; ++c)
      shift_out[c] = A(double(bias[c]) - (mean[c] - double(A(mean[c]))) * var[c]);
}

// read_statistics of a backward for the channels from `first` on.
template <class A>
void read_statistics_of_channels(const BackwardArgs& args, int64_t first, int64_t channels, A* mean,
                                 A* scale, A* shift) {
  const A* mean_in = static_cast<const A*>(args.mean) + first;
  const A* invstd = static_cast<const A*>(args.invstd) + first;
  const A* weight = args.weight ? static_cast<const A*>(args.weight) + first : nullptr;
  const A* bias = args.bias ? static_cast<const A*>(args.bias) + first : nullptr;
  for (int64_t c = 0; c < channels; ++c) mean[c] = mean_in[c], scale[c] = invstd[c];
  if (weight)
    for (int64_t c = 0; c < channels; ++c) scale[c] = weight[c] * invstd[c];
  for (int64_t c = 0; c < channels; ++c) shift[c] = A(0);
  if (bias)
    for (int64_t c = 0; c < channels; ++c) shift[c] = bias[c];
}

template <class A>
void write_sums_of_channels(const BackwardArgs& args, int64_t first, int64_t channels,
                            const double* sum_g, const double* sum_g_centered) {
  const A* invstd = static_cast<const A*>(args.invstd) + first;
  A* sum_dy = static_cast<A*>(args.sum_dy) + first;
  A* sum_dy_xhat = static_cast<A*>(args.sum_dy_xhat) + first;
  for (int64_t c = 0; c < channels; ++c) {
    sum_dy[c] = A(sum_g[c]);
    sum_dy_xhat[c] = A(sum_g_centered[c] * double(invstd[c]));
  }
}

// Slope and offset of gradient(), where `scale` is weight * invstd.
template <class A>
void gradients_of_channels(const BackwardArgs& args, int64_t first, int64_t channels,
                           const A* scale, A* slope, A* offset) {
  if (!args.training || args.count == 0) {
    for (int64_t c = 0; c < channels; ++c) slope[c] = offset[c] = A(0);
    return;
  }
  const A* invstd = static_cast<const A*>(args.invstd) + first;
  const A* sum_dy = static_cast<const A*>(args.sum_dy) + first;
  const A* sum_dy_xhat = static_cast<const A*>(args.sum_dy_xhat) + first;
  const A* factor = args.weighted_sums ? invstd : scale;
  const double count = double(args.count);
  for (int64_t c = 0; c < channels; ++c) {
    const double f = factor[c];
    slope[c] = A(-f * double(invstd[c]) * double(sum_dy_xhat[c]) / count);
    offset[c] = A(-f * double(sum_dy[c]) / count);
  }
}

}  // namespace bn::BN_ISA
