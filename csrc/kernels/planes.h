// The (N, C, S) layout. Many channels: a task owns a block of channels, measures it and applies it
// while it is in the cache. Few channels: tasks own ranges of positions, partial sums are merged in
// a fixed order. Which of the two depends on the shape alone, so that bits do not depend on
// threads.
#pragma once

#include "runs.h"

namespace bn::BN_ISA {

constexpr int64_t kFewChannels = 8;
constexpr int64_t kMaxBlock = 32;
constexpr int64_t kGridElements = 32 * 1024;

// Channels per task, so that `bytes_per_element` * their size fits the cache and all threads work.
inline int64_t channel_block(const Shape& shape, int64_t bytes_per_element, int threads) {
  const int64_t bytes = larger(1, shape.n * shape.s * bytes_per_element);
  int64_t block = larger(1, smaller(kCacheBytes / bytes, kMaxBlock));
  while (block > 1 && ceil_div(shape.c, block) < 4 * threads) block /= 2;
  return block;
}

// The tensor as rows (n, c) of S elements, cut into tasks: several rows each, or parts of one row.
struct Grid {
  int64_t rows, length, rows_per_task, parts, part;

  explicit Grid(const Shape& shape) : rows(shape.n * shape.c), length(shape.s) {
    rows_per_task = larger(1, kGridElements / larger(1, length));
    parts = rows_per_task > 1 ? 1 : larger(1, ceil_div(length, kGridElements));
    part = ceil_div(ceil_div(length, parts), 64) * 64;
    parts = larger(1, ceil_div(length, larger(1, part)));
  }
  int64_t tasks() const { return ceil_div(rows, rows_per_task) * parts; }

  // body(row, first, size) for each run of the task.
  template <class F>
  BN_INLINE void runs(int64_t task, F body) const {
    const int64_t first = (task % parts) * part;
    const int64_t size = smaller(part, length - first);
    const int64_t begin = (task / parts) * rows_per_task;
    const int64_t end = smaller(rows, begin + rows_per_task);
    for (int64_t row = begin; row < end; ++row) body(row, first, size);
  }
};

// add(row, first, size, totals) for every run of the grid, then merged(c, total, other total) for
// every channel: partial sums of the tasks, merged in a fixed order.
template <class A, class Add, class Merged>
void grid_totals(const Grid& grid, const Shape& shape, const Parallel& parallel, Add add,
                 Merged merged) {
  const int64_t C = shape.c, tasks = grid.tasks();
  Scratch<double> partial(larger(1, tasks * C * 2));
  partial.zero(tasks * C * 2);
  auto task = [&](int64_t i) {
    grid.runs(i, [&](int64_t row, int64_t first, int64_t size) {
      LaneTotals<A> totals = {};
      add(row, first, size, totals);
      double* mine = partial.get() + (i * C + row % C) * 2;
      mine[0] += total<A>(totals[0]);
      mine[1] += total<A>(totals[1]);
    });
  };
  parallel_for(parallel, shape.n * C * shape.s, tasks, task);
  for (int64_t c = 0; c < C; ++c) {
    double sum = 0, other = 0;
    for (int64_t i = 0; i < tasks; ++i) {
      sum += partial[(i * C + c) * 2];
      other += partial[(i * C + c) * 2 + 1];
    }
    merged(c, sum, other);
  }
}

template <class T>
struct PlanesForward {
  using A = Acc<T>;
  const ForwardArgs& args;
  const Shape shape;
  const T* x;
  ApplyRunFn<T> apply_fn;

  explicit PlanesForward(const ForwardArgs& a)
      : args(a),
        shape(a.shape),
        x(static_cast<const T*>(a.input)),
        apply_fn(choose_apply_run<T>(a)) {}

  const uint8_t* mask_at(int64_t n, int64_t first) const {
    return args.mask ? args.mask + n * shape.s + first : nullptr;
  }

  void add(int64_t row, int64_t first, int64_t size, A shift, LaneTotals<A>& totals) const {
    const T* run = x + row * shape.s + first;
    if (args.mask)
      add_run<T, true>(run, mask_at(row / shape.c, first), size, shift, totals);
    else
      add_run<T, false>(run, nullptr, size, shift, totals);
  }

  void apply(int64_t row, int64_t first, int64_t size, const Affine<A>& a) const {
    const int64_t at = row * shape.s + first;
    const T* residual = static_cast<const T*>(args.residual);
    const ApplyRun<T> run = {x + at,
                             residual ? residual + at : nullptr,
                             mask_at(row / shape.c, first),
                             static_cast<T*>(args.output) + at,
                             args.activation,
                             A(args.slope)};
    apply_fn(run, size, a);
  }

  Moments measure_again(int64_t c, double shift) const {
    LaneTotals<A> totals = {};
    for (int64_t n = 0; n < shape.n; ++n) add(n * shape.c + c, 0, shape.s, A(shift), totals);
    return moments(A(shift), total<A>(totals[0]), total<A>(totals[1]), args.count);
  }

  void channels(int64_t begin, int64_t end) const {
    LaneTotals<A> totals[kMaxBlock] = {};
    A shifts[kMaxBlock];
    Affine<A> coefficients[kMaxBlock];
    const int64_t block = end - begin;
    for (int64_t c = 0; c < block; ++c)
      shifts[c] = guess_shift(x + (begin + c) * shape.s, mask_at(0, 0), shape.n ? shape.s : 0);
    for (int64_t n = 0; n < shape.n; ++n)
      for (int64_t c = 0; c < block; ++c)
        add(n * shape.c + begin + c, 0, shape.s, shifts[c], totals[c]);
    for (int64_t c = 0; c < block; ++c) {
      Moments m = moments(shifts[c], total<A>(totals[c][0]), total<A>(totals[c][1]), args.count);
      if (poorly_shifted(shifts[c], m)) m = measure_again(begin + c, m.mean);
      coefficients[c] = write_statistics<A>(args, begin + c, m);
    }
    if (!args.apply) return;
    // Backwards: what was read last is still in the cache.
    for (int64_t n = shape.n - 1; n >= 0; --n)
      for (int64_t c = block - 1; c >= 0; --c)
        apply(n * shape.c + begin + c, 0, shape.s, coefficients[c]);
  }

  void many_channels() const {
    const int64_t block = channel_block(shape, sizeof(T), args.parallel.threads);
    auto task = [&](int64_t i) { channels(i * block, smaller(shape.c, (i + 1) * block)); };
    parallel_for(args.parallel, shape.n * shape.c * shape.s, ceil_div(shape.c, block), task);
  }

  void grid_moments(const Grid& grid, const A* shifts, Moments* result) const {
    grid_totals<A>(
        grid, shape, args.parallel,
        [&](int64_t row, int64_t first, int64_t size, LaneTotals<A>& totals) {
          add(row, first, size, shifts[row % shape.c], totals);
        },
        [&](int64_t c, double sum, double squares) {
          result[c] = moments(shifts[c], sum, squares, args.count);
        });
  }

  void few_channels() const {
    const Grid grid(shape);
    A shifts[kFewChannels];
    Moments m[kFewChannels];
    Affine<A> coefficients[kFewChannels];
    for (int64_t c = 0; c < shape.c; ++c)
      shifts[c] = guess_shift(x + c * shape.s, mask_at(0, 0), shape.n ? shape.s : 0);
    grid_moments(grid, shifts, m);
    bool again = false;
    for (int64_t c = 0; c < shape.c; ++c) again = again || poorly_shifted(shifts[c], m[c]);
    if (again) {
      for (int64_t c = 0; c < shape.c; ++c) shifts[c] = A(m[c].mean);
      grid_moments(grid, shifts, m);
    }
    for (int64_t c = 0; c < shape.c; ++c) coefficients[c] = write_statistics<A>(args, c, m[c]);
    if (args.apply) apply_grid(grid, coefficients);
  }

  void apply_grid(const Grid& grid, const Affine<A>* coefficients) const {
    auto task = [&](int64_t i) {
      grid.runs(i, [&](int64_t row, int64_t first, int64_t size) {
        apply(row, first, size, coefficients[row % shape.c]);
      });
    };
    parallel_for(args.parallel, shape.n * shape.c * shape.s, grid.tasks(), task);
  }

  void run() const {
    if (args.measure) return shape.c < kFewChannels ? few_channels() : many_channels();
    Scratch<Affine<A>> coefficients(larger(1, shape.c));
    for (int64_t c = 0; c < shape.c; ++c) coefficients[c] = read_statistics<A>(args, c);
    apply_grid(Grid(shape), coefficients.get());
  }
};

template <class T>
struct PlanesBackward {
  using A = Acc<T>;
  const BackwardArgs& args;
  const Shape shape;
  GradRunFns<T> fns, second_pass;
  bool reuse_g;  // the second pass reads g from grad_residual instead of computing it again

  explicit PlanesBackward(const BackwardArgs& a) : args(a), shape(a.shape) {
    fns = choose_grad_run<T>(a.activation, pre_source(a), a.mask != nullptr);
    reuse_g = a.reduce && a.grad_residual && a.activation == kRelu && !a.mask;
    second_pass = reuse_g ? choose_grad_run<T>(kIdentity, kFromInput, false) : fns;
  }

  GradRun<T> run_at(int64_t row, int64_t first) const {
    const int64_t at = row * shape.s + first;
    const T* aux = static_cast<const T*>(args.output ? args.output : args.residual);
    return {static_cast<const T*>(args.grad_output) + at,
            static_cast<const T*>(args.input) + at,
            aux ? aux + at : nullptr,
            args.mask ? args.mask + (row / shape.c) * shape.s + first : nullptr,
            args.grad_residual ? static_cast<T*>(args.grad_residual) + at : nullptr,
            args.grad_input ? static_cast<T*>(args.grad_input) + at : nullptr,
            pre_source(args),
            args.activation,
            A(args.slope)};
  }

  void reduce(int64_t row, int64_t first, int64_t size, LaneTotals<A>& totals) const {
    GradRun<T> run = run_at(row, first);
    if (args.training) run.dx = nullptr;
    if (args.training && !reuse_g) run.g = nullptr;  // the second pass writes it
    fns.reduce(run, size, read_statistics<A>(args, row % shape.c), totals);
  }

  void input_grad(int64_t row, int64_t first, int64_t size, const Gradient<A>& d) const {
    GradRun<T> run = run_at(row, first);
    if (reuse_g) {
      run.dy = run.g;
      run.g = nullptr;
    }
    second_pass.input_grad(run, size, read_statistics<A>(args, row % shape.c), d);
  }

  void channels(int64_t begin, int64_t end) const {
    LaneTotals<A> totals[kMaxBlock] = {};
    Gradient<A> gradients[kMaxBlock];
    for (int64_t n = 0; n < shape.n; ++n)
      for (int64_t c = begin; c < end; ++c) reduce(n * shape.c + c, 0, shape.s, totals[c - begin]);
    for (int64_t c = begin; c < end; ++c) {
      write_sums<A>(args, c, total<A>(totals[c - begin][0]), total<A>(totals[c - begin][1]));
      gradients[c - begin] = gradient<A>(args, c);
    }
    if (!args.apply || !args.training) return;
    for (int64_t n = shape.n - 1; n >= 0; --n)
      for (int64_t c = end - 1; c >= begin; --c)
        input_grad(n * shape.c + c, 0, shape.s, gradients[c - begin]);
  }

  void many_channels() const {
    const int64_t block = channel_block(shape, 2 * sizeof(T), args.parallel.threads);
    auto task = [&](int64_t i) { channels(i * block, smaller(shape.c, (i + 1) * block)); };
    parallel_for(args.parallel, shape.n * shape.c * shape.s, ceil_div(shape.c, block), task);
  }

  void few_channels() const {
    const Grid grid(shape);
    grid_totals<A>(
        grid, shape, args.parallel,
        [&](int64_t row, int64_t first, int64_t size, LaneTotals<A>& totals) {
          reduce(row, first, size, totals);
        },
        [&](int64_t c, double sum, double products) { write_sums<A>(args, c, sum, products); });
    if (args.apply && args.training) apply_grid(grid);
  }

  void apply_grid(const Grid& grid) const {
    Scratch<Gradient<A>> gradients(larger(1, shape.c));
    for (int64_t c = 0; c < shape.c; ++c) gradients[c] = gradient<A>(args, c);
    auto task = [&](int64_t i) {
      grid.runs(i, [&](int64_t row, int64_t first, int64_t size) {
        input_grad(row, first, size, gradients[row % shape.c]);
      });
    };
    parallel_for(args.parallel, shape.n * shape.c * shape.s, grid.tasks(), task);
  }

  void run() const {
    if (args.reduce) return shape.c < kFewChannels ? few_channels() : many_channels();
    apply_grid(Grid(shape));
  }
};

}  // namespace bn::BN_ISA
