#include "groups.h"
#include "ops.h"

namespace bn {
namespace {

struct GroupBackward : Grouped {
  Tensor grad_output, mean, invstd;
  OptionalTensor residual, output;
  BackwardArgs whole{};

  GroupBackward(const Tensor& grad_output_, const Tensor& input_, const OptionalTensor& weight,
                const OptionalTensor& bias, const Tensor& mean_, const Tensor& invstd_,
                const OptionalTensor& residual_, const OptionalTensor& output_,
                const OptionalTensor& mask_, const Tensor& index_, const OptionalTensor& rows_,
                int64_t activation, double slope)
      : Grouped(input_, weight, bias, mask_, index_, mean_.dim() == 2 ? mean_.size(0) : 0, rows_),
        grad_output(aligned(grad_output_, input, "grad_output")),
        mean(table(mean_, runs.groups, shape.c, stats, "mean")),
        invstd(table(invstd_, runs.groups, shape.c, stats, "invstd")) {
    if (residual_) residual = aligned(*residual_, input, "residual");
    if (output_) output = aligned(*output_, input, "output");
    fill(whole, activation, slope);
    whole.grad_output = grad_output.const_data_ptr();
    whole.residual = data(residual);
    whole.output = data(output);
    whole.mean = mean.const_data_ptr();
    whole.invstd = invstd.const_data_ptr();
  }

  BackwardArgs at(const Run& run) const {
    BackwardArgs args = moved_to(run, whole);
    args.grad_output = row_of(whole.grad_output, run.first, sample_bytes);
    args.grad_input = row_of(whole.grad_input, run.first, sample_bytes);
    args.grad_residual = row_of(whole.grad_residual, run.first, sample_bytes);
    return args;
  }

  // Sums of every run, and the input's gradient too where a run holds its whole group.
  void reduce(void* sum_dy, void* sum_dy_xhat, bool training, bool apply) {
    each_run(runs, elements(), [&](int64_t i, Parallel parallel) {
      BackwardArgs args = at(runs.runs[size_t(i)]);
      args.sum_dy = row_of(sum_dy, i, row_bytes);
      args.sum_dy_xhat = row_of(sum_dy_xhat, i, row_bytes);
      args.reduce = true;
      args.apply = apply;
      args.training = training;
      if (!apply) args.grad_input = args.grad_residual = nullptr;
      args.parallel = parallel;
      kernels(kernel_dtype(input)).backward(args);
    });
  }

  void input_grad(void* group_dy, void* group_dy_xhat) {
    each_run(runs, elements(), [&](int64_t i, Parallel parallel) {
      const Run& run = runs.runs[size_t(i)];
      BackwardArgs args = at(run);
      args.sum_dy = row_of(group_dy, run.group, row_bytes);
      args.sum_dy_xhat = row_of(group_dy_xhat, run.group, row_bytes);
      args.count = runs.counts[size_t(run.group)];
      args.apply = args.training = args.weighted_sums = true;
      args.parallel = parallel;
      kernels(kernel_dtype(input)).backward(args);
    });
  }
};

// target[key of the run] += weight of the run * its sums; a null weight is 1.
template <class A, class Key>
void add_up(const Runs& runs, int64_t channels, const A* sums, const A* weight, int64_t rows,
            Key key, A* target) {
  std::vector<double> totals(size_t(rows * channels), 0.0);
  for (size_t r = 0; r < runs.runs.size(); ++r) {
    double* into = totals.data() + key(runs.runs[r]) * channels;
    const A* from = sums + int64_t(r) * channels;
    const A* w = weight ? weight + runs.runs[r].row * channels : nullptr;
    for (int64_t c = 0; c < channels; ++c) into[c] += (w ? double(w[c]) : 1.0) * double(from[c]);
  }
  for (int64_t i = 0; i < rows * channels; ++i) target[i] = A(totals[size_t(i)]);
}

}  // namespace

Tensors4 batch_norm_groups_backward(const Tensor& grad_output, const Tensor& input,
                                    const OptionalTensor& weight, const OptionalTensor& bias,
                                    const Tensor& mean, const Tensor& invstd, const Tensor& count,
                                    const OptionalTensor& residual, const OptionalTensor& output,
                                    const OptionalTensor& mask, const Tensor& index,
                                    const OptionalTensor& rows, int64_t activation, double slope,
                                    bool training, bool need_grad_residual) {
  GroupBackward b(grad_output, input, weight, bias, mean, invstd, residual, output, mask, index,
                  rows, activation, slope);
  STD_TORCH_CHECK(count.numel() == b.runs.groups && count.scalar_type() == ScalarType::Long,
                  "batch_norm_groups: count must be int64 with one value per group. Got ",
                  count.numel(), " values for ", b.runs.groups,
                  " groups. Use the count of the same call.");
  const auto order = b.runs.order_together(b.sample_bytes);
  if (!order.empty()) {
    auto [grad_input, grad_weight, grad_bias, grad_residual] = batch_norm_groups_backward(
        gather(b.grad_output, order), gather(b.input, order), weight, bias, mean, invstd, count,
        gather(b.residual, order), gather(b.output, order), gather(b.mask, order),
        gather(b.index, order), gather(b.rows, order), activation, slope, training,
        need_grad_residual);
    return {scatter(grad_input, order), grad_weight, grad_bias,
            need_grad_residual ? scatter(grad_residual, order) : grad_residual};
  }

  const int64_t channels = b.shape.c, total = int64_t(b.runs.runs.size());
  Tensor grad_input = allocate_like(b.input);
  Tensor grad_residual =
      need_grad_residual ? allocate_like(b.input) : allocate(0, b.input.scalar_type());
  b.whole.grad_input = grad_input.mutable_data_ptr();
  b.whole.grad_residual = need_grad_residual ? grad_residual.mutable_data_ptr() : nullptr;
  Tensor run_dy = allocate_table(total, channels, b.stats);
  Tensor run_dy_xhat = allocate_table(total, channels, b.stats);
  const bool in_one_pass = !training || b.runs.whole;
  b.reduce(run_dy.mutable_data_ptr(), run_dy_xhat.mutable_data_ptr(), training, in_one_pass);

  const bool by_row = rows.has_value();
  const int64_t table_rows = b.weights.rows;
  Tensor grad_weight =
      by_row ? allocate_table(table_rows, channels, b.stats) : allocate(channels, b.stats);
  Tensor grad_bias =
      by_row ? allocate_table(table_rows, channels, b.stats) : allocate(channels, b.stats);
  with_accumulator(b.stats, [&](auto zero) {
    using A = decltype(zero);
    const A* dy = static_cast<const A*>(run_dy.const_data_ptr());
    const A* dy_xhat = static_cast<const A*>(run_dy_xhat.const_data_ptr());
    const auto by_weight_row = [](const Run& run) { return run.row; };
    const A* none = nullptr;
    add_up<A>(b.runs, channels, dy, none, table_rows, by_weight_row,
              static_cast<A*>(grad_bias.mutable_data_ptr()));
    add_up<A>(b.runs, channels, dy_xhat, none, table_rows, by_weight_row,
              static_cast<A*>(grad_weight.mutable_data_ptr()));
    if (in_one_pass) return;
    const auto by_group = [](const Run& run) { return run.group; };
    const A* w = static_cast<const A*>(b.whole.weight);
    Tensor group_dy = allocate_table(b.runs.groups, channels, b.stats);
    Tensor group_dy_xhat = allocate_table(b.runs.groups, channels, b.stats);
    add_up<A>(b.runs, channels, dy, w, b.runs.groups, by_group,
              static_cast<A*>(group_dy.mutable_data_ptr()));
    add_up<A>(b.runs, channels, dy_xhat, w, b.runs.groups, by_group,
              static_cast<A*>(group_dy_xhat.mutable_data_ptr()));
    b.input_grad(group_dy.mutable_data_ptr(), group_dy_xhat.mutable_data_ptr());
  });
  return {grad_input, grad_weight, grad_bias, grad_residual};
}

}  // namespace bn
