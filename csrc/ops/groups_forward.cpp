#include <cmath>

#include "groups.h"
#include "ops.h"

namespace bn {
namespace {

// Moments of the groups from those of their runs (Chan, Golub & LeVeque 1979), in double.
template <class A>
void merge_runs(const Runs& runs, const std::vector<double>& moments, int64_t channels, double eps,
                A* mean, A* var, A* invstd) {
  std::vector<double> merged(size_t(runs.groups * channels * 2), 0.0);
  std::vector<int64_t> seen(size_t(runs.groups), 0);
  for (size_t r = 0; r < runs.runs.size(); ++r) {
    const Run& run = runs.runs[r];
    if (run.count == 0) continue;
    double* into = merged.data() + run.group * channels * 2;
    const double* from = moments.data() + int64_t(r) * channels * 2;
    int64_t& before = seen[size_t(run.group)];
    const double share = double(run.count) / double(before + run.count);
    for (int64_t c = 0; c < channels; ++c) {
      const double delta = from[2 * c] - into[2 * c];
      // The first run is taken as it is: infinities must not meet a factor 0.
      into[2 * c] = before ? into[2 * c] + delta * share : from[2 * c];
      into[2 * c + 1] = before ? into[2 * c + 1] + (from[2 * c + 1] - into[2 * c + 1]) * share +
                                     delta * delta * share * (1.0 - share)
                               : from[2 * c + 1];
    }
    before += run.count;
  }
  for (int64_t i = 0; i < runs.groups * channels; ++i) {
    mean[i] = A(merged[size_t(2 * i)]);
    var[i] = A(merged[size_t(2 * i + 1)]);
    invstd[i] = A(1.0 / std::sqrt(merged[size_t(2 * i + 1)] + eps));
  }
}

template <class A>
void fill_empty_groups(const Runs& runs, int64_t channels, double eps, A* mean, A* var, A* invstd) {
  for (int64_t g = 0; g < runs.groups; ++g) {
    if (runs.counts[size_t(g)] != 0) continue;
    for (int64_t i = g * channels; i < (g + 1) * channels; ++i) {
      mean[i] = var[i] = A(0);
      invstd[i] = A(1.0 / std::sqrt(eps));
    }
  }
}

Tensor counts_tensor(const Runs& runs) {
  Tensor result = allocate(runs.groups, ScalarType::Long);
  int64_t* out = static_cast<int64_t*>(result.mutable_data_ptr());
  for (int64_t g = 0; g < runs.groups; ++g) out[g] = runs.counts[size_t(g)];
  return result;
}

// The kernel call of one run after the other: pointers into shared tensors, moved along.
struct GroupForward : Grouped {
  OptionalTensor residual;
  ForwardArgs whole{};

  GroupForward(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
               const OptionalTensor& residual_, const OptionalTensor& mask_, const Tensor& index_,
               int64_t groups, const OptionalTensor& rows_, int64_t activation, double slope)
      : Grouped(x, weight, bias, mask_, index_, groups, rows_) {
    if (residual_) residual = aligned(*residual_, input, "residual");
    fill(whole, activation, slope);
    whole.residual = data(residual);
  }

  ForwardArgs at(const Run& run) const {
    ForwardArgs args = moved_to(run, whole);
    args.var = row_of(whole.var, run.group, row_bytes);
    return args;
  }

  void fused() {
    each_run(runs, elements(), [&](int64_t i, Parallel parallel) {
      ForwardArgs args = at(runs.runs[size_t(i)]);
      args.measure = args.apply = true;
      args.parallel = parallel;
      kernels(kernel_dtype(input)).forward(args);
    });
  }

  // Statistics know no rows: their runs are longer.
  template <class A>
  void measure() {
    const Runs of_groups(index, runs.groups, std::nullopt, 1, mask, shape);
    const bool direct = of_groups.whole;
    std::vector<double> moments(direct ? 0 : of_groups.runs.size() * size_t(shape.c) * 2);
    each_run(of_groups, elements(), [&](int64_t i, Parallel parallel) {
      ForwardArgs args = at(of_groups.runs[size_t(i)]);
      if (!direct) {
        args.mean = args.var = args.invstd = nullptr;
        args.moments = moments.data() + i * shape.c * 2;
      }
      args.measure = true;
      args.parallel = parallel;
      kernels(kernel_dtype(input)).forward(args);
    });
    if (!direct)
      merge_runs<A>(of_groups, moments, shape.c, whole.eps, static_cast<A*>(whole.mean),
                    static_cast<A*>(whole.var), static_cast<A*>(whole.invstd));
  }

  void apply() {
    each_run(runs, elements(), [&](int64_t i, Parallel parallel) {
      ForwardArgs args = at(runs.runs[size_t(i)]);
      args.apply = true;
      args.parallel = parallel;
      kernels(kernel_dtype(input)).forward(args);
    });
  }
};

}  // namespace

Tensors5 batch_norm_groups_train(const Tensor& input, const OptionalTensor& weight,
                                 const OptionalTensor& bias, const OptionalTensor& residual,
                                 const OptionalTensor& mask, const Tensor& index, int64_t groups,
                                 const OptionalTensor& rows, double eps, int64_t activation,
                                 double slope) {
  GroupForward f(input, weight, bias, residual, mask, index, groups, rows, activation, slope);
  const auto order = f.runs.order_together(f.sample_bytes);
  if (!order.empty()) {
    auto [output, mean, var, invstd, count] = batch_norm_groups_train(
        gather(f.input, order), weight, bias, gather(f.residual, order), gather(f.mask, order),
        gather(f.index, order), groups, gather(f.rows, order), eps, activation, slope);
    return {scatter(output, order), mean, var, invstd, count};
  }

  const int64_t channels = f.shape.c;
  Tensor output = allocate_like(f.input);
  Tensor mean = allocate_table(groups, channels, f.stats);
  Tensor var = allocate_table(groups, channels, f.stats);
  Tensor invstd = allocate_table(groups, channels, f.stats);
  f.whole.output = output.mutable_data_ptr();
  f.whole.mean = mean.mutable_data_ptr();
  f.whole.var = var.mutable_data_ptr();
  f.whole.invstd = invstd.mutable_data_ptr();
  f.whole.eps = eps;

  with_accumulator(f.stats, [&](auto zero) {
    using A = decltype(zero);
    if (f.runs.whole) {
      f.fused();
    } else {
      f.measure<A>();
      f.apply();
    }
    fill_empty_groups<A>(f.runs, channels, eps, static_cast<A*>(f.whole.mean),
                         static_cast<A*>(f.whole.var), static_cast<A*>(f.whole.invstd));
  });
  return {output, mean, var, invstd, counts_tensor(f.runs)};
}

Tensor batch_norm_groups_apply(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                               const OptionalTensor& weight, const OptionalTensor& bias,
                               const OptionalTensor& residual, const OptionalTensor& mask,
                               const Tensor& index, const OptionalTensor& rows, int64_t activation,
                               double slope) {
  const int64_t groups = mean.dim() == 2 ? mean.size(0) : 0;
  GroupForward f(input, weight, bias, residual, mask, index, groups, rows, activation, slope);
  const auto order = f.runs.order_together(f.sample_bytes);
  if (!order.empty()) {
    const Tensor output = batch_norm_groups_apply(
        gather(f.input, order), mean, invstd, weight, bias, gather(f.residual, order),
        gather(f.mask, order), gather(f.index, order), gather(f.rows, order), activation, slope);
    return scatter(output, order);
  }

  const Tensor m = table(mean, groups, f.shape.c, f.stats, "mean");
  const Tensor i = table(invstd, groups, f.shape.c, f.stats, "invstd");
  Tensor output = allocate_like(f.input);
  f.whole.output = output.mutable_data_ptr();
  f.whole.mean = const_cast<void*>(m.const_data_ptr());
  f.whole.invstd = const_cast<void*>(i.const_data_ptr());
  f.apply();
  return output;
}

Tensors3 batch_norm_groups_merge(const Tensor& mean, const Tensor& var, const Tensor& count) {
  STD_TORCH_CHECK(mean.dim() == 2, "batch_norm_groups: mean must be (G, C). Got ", mean.dim(),
                  " dimensions. Use the results of batch_norm_groups_train.");
  const int64_t groups = mean.size(0), channels = mean.size(1);
  const ScalarType type = mean.scalar_type();
  STD_TORCH_CHECK(count.numel() == groups && count.scalar_type() == ScalarType::Long,
                  "batch_norm_groups: count must be int64 with one value per group. Got ",
                  count.numel(), " values for ", groups,
                  " groups. Use the count of the same call.");
  const Tensor means = table(mean, groups, channels, type, "mean");
  const Tensor vars = table(var, groups, channels, type, "var");
  const Tensor counts = torch::stable::contiguous(count);
  const int64_t* n = static_cast<const int64_t*>(counts.const_data_ptr());
  int64_t total = 0;
  for (int64_t g = 0; g < groups; ++g) total += n[g];

  Tensor whole = allocate(channels, type), whole_var = allocate(channels, type);
  with_accumulator(type, [&](auto zero) {
    using A = decltype(zero);
    const A* m = static_cast<const A*>(means.const_data_ptr());
    const A* v = static_cast<const A*>(vars.const_data_ptr());
    std::vector<double> sum(size_t(channels), 0.0), squares(size_t(channels), 0.0);
    for (int64_t g = 0; g < groups; ++g) {
      if (n[g] == 0) continue;
      const double share = double(n[g]) / double(total);
      for (int64_t c = 0; c < channels; ++c) sum[c] += share * double(m[g * channels + c]);
    }
    for (int64_t g = 0; g < groups; ++g) {
      if (n[g] == 0) continue;
      const double share = double(n[g]) / double(total);
      for (int64_t c = 0; c < channels; ++c) {
        const double apart = double(m[g * channels + c]) - sum[c];
        squares[c] += share * (double(v[g * channels + c]) + apart * apart);
      }
    }
    A* mean_out = static_cast<A*>(whole.mutable_data_ptr());
    A* var_out = static_cast<A*>(whole_var.mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) mean_out[c] = A(sum[c]), var_out[c] = A(squares[c]);
  });
  return {whole, whole_var, allocate_scalar(total)};
}

}  // namespace bn
