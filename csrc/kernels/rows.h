// The matrix layouts: (N, C) and NHWC, and planes too small to be runs. Few rows: a task owns a
// tile of columns, measures it and applies it while it is in the cache. Many rows: tasks own blocks
// of rows, partial sums are merged in a fixed order. The choice depends on the shape alone.
#pragma once

#include "channels.h"
#include "columns.h"

namespace bn::BN_ISA {

constexpr int64_t kSmallPlane = 100;
constexpr int64_t kTileColumns = 64;
// Down many narrow pieces of rows, loads and stores meet at equal page offsets: no faster than
// reading twice in order, and unsteady.
constexpr int64_t kMaxTileRows = 512;
constexpr int64_t kFoldedColumns = 64;
constexpr int64_t kMaxFoldedChannels = 128;

// How the tensor reads as a matrix. `group` adjacent columns form a channel (small planes), or
// `fold` rows of C channels are laid side by side to fill vectors; `tail` elements of the last,
// incomplete row remain then.
struct Matrix {
  int64_t rows, cols, tail, group, channels;

  // Small planes gain by columns when there are enough rows to pay for arrays of column sums:
  // measured, from n = s / 3 on forward, and from s / 6 on backward, whose passes do more per row.
  static bool fits(const Shape& s, bool masked, int64_t share) {
    return s.layout == Layout::kRows ||
           (s.s < kSmallPlane && s.n >= 4 && s.n * share >= s.s && !masked);
  }

  Matrix(const Shape& s, bool masked) : tail(0), group(1), channels(s.c) {
    if (s.layout == Layout::kPlanes) {
      rows = s.n, cols = s.c * s.s, group = s.s;
      return;
    }
    int64_t fold = 1;
    if (!masked && channels < kMaxFoldedChannels)
      while (channels * fold % 16 != 0 || channels * fold < kFoldedColumns) fold *= 2;
    const int64_t positions = s.n * s.s;
    if (fold > positions) fold = larger(1, positions);
    rows = positions / fold, cols = channels * fold;
    tail = (positions % fold) * channels;
  }

  bool folded() const { return group == 1 && cols != channels; }
  int64_t elements() const { return rows * cols + tail; }

  // Columns per tile, a whole number of channels; 0: too many rows, use blocks of rows.
  int64_t tile(int64_t bytes_per_element, int threads) const {
    if (folded() || (group == 1 && rows > kMaxTileRows) ||
        rows * kTileColumns * bytes_per_element > kCacheBytes)
      return 0;
    const int64_t unit = group > 1 ? group * larger(1, kTileColumns / group) : kTileColumns;
    int64_t units = larger(1, kCacheBytes / (rows * unit * bytes_per_element + 1));
    while (units > 1 && ceil_div(cols, unit * units) < 4 * threads) units /= 2;
    return unit * units;
  }

  // By the shape alone: at most 64 blocks, and partial sums that stay small beside the tensor.
  int64_t rows_per_block() const {
    const int64_t most = larger(4, smaller(64, 32768 / larger(1, cols)));
    const int64_t least = ceil_div(16 * 1024, larger(1, cols));
    return ceil_div(larger(ceil_div(rows, most), least), kRowGroup) * kRowGroup;
  }
};

// Per-column arrays of one tile, or of the whole matrix.
template <class A>
struct ColumnArrays {
  int64_t padded;
  Scratch<A> values;
  explicit ColumnArrays(int64_t cols)
      : padded(ceil_div(cols + kLanes<A>, kLanes<A>) * kLanes<A>), values(5 * padded) {
    values.zero(5 * padded);
  }
  A* operator[](int i) const { return values.get() + i * padded; }
};

// Eight partial sums, so that additions need not wait for each other.
inline double sum_of(const double* values, int64_t n) {
  double partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) partial[j] += values[i + j];
  for (; i < n; ++i) partial[i % 8] += values[i];
  for (int width = 4; width >= 1; width /= 2)
    for (int j = 0; j < width; ++j) partial[j] += partial[j + width];
  return partial[0];
}

// Adjacent columns of a matrix, a whole number of channels.
struct Tile {
  int64_t begin, cols;
  int64_t group, channels, first_channel;  // as in Matrix, of this tile

  Tile(const Matrix& m, int64_t begin_, int64_t cols_)
      : begin(begin_),
        cols(cols_),
        group(m.group),
        channels(m.folded() ? m.channels : cols_ / m.group),
        first_channel(begin_ / m.group) {}

  bool is_column_per_channel() const { return channels == cols; }

  // Column totals of channel c, counted within the tile.
  double total_of(int64_t c, const double* values) const {
    if (group > 1) return sum_of(values + c * group, group);
    double result = 0;
    for (int64_t q = c; q < cols; q += channels) result += values[q];
    return result;
  }

  // Gives every column of channel c the same value.
  template <class A>
  void spread(int64_t c, A value, A* array) const {
    if (group > 1)
      for (int64_t q = c * group; q < (c + 1) * group; ++q) array[q] = value;
    else
      for (int64_t q = c; q < cols; q += channels) array[q] = value;
  }

  template <class A>
  void spread(int64_t c, const Affine<A>& f, const ColumnArrays<A>& a) const {
    spread(c, f.mean, a[0]);
    spread(c, f.scale, a[1]);
    spread(c, f.shift, a[2]);
  }
};

// body(first element, strip) for the rows [begin, end) of a tile, and the tail after the last row.
template <class F>
BN_INLINE void strips(const Matrix& m, const Tile& tile, const uint8_t* mask, int64_t begin,
                      int64_t end, F body) {
  const int64_t first = begin * m.cols + tile.begin;
  if (end > begin)
    body(first, Strip{end - begin, tile.cols, m.cols, mask ? mask + begin : nullptr});
  if (m.tail && end == m.rows) body(m.rows * m.cols, Strip{1, m.tail, m.cols, nullptr});
}

template <class T>
struct RowsForward {
  using A = Acc<T>;
  const ForwardArgs& args;
  const Matrix m;
  const T* x;
  ApplyColumnsFn<T> apply_fn;

  explicit RowsForward(const ForwardArgs& a)
      : args(a),
        m(a.shape, a.mask != nullptr),
        x(static_cast<const T*>(a.input)),
        apply_fn(choose_apply_columns<T>(a)) {}

  void sums(const Tile& tile, int64_t begin, int64_t end, const A* shift, double* sum,
            double* squares) const {
    strips(m, tile, args.mask, begin, end,
           [&](int64_t first, const Strip& s) { column_sums(s, x + first, shift, sum, squares); });
  }

  void apply(const Tile& tile, int64_t begin, int64_t end, const ColumnArrays<A>& a) const {
    const T* residual = static_cast<const T*>(args.residual);
    strips(m, tile, args.mask, begin, end, [&](int64_t first, const Strip& s) {
      const ApplyRun<T> run = {x + first,       residual ? residual + first : nullptr,
                               nullptr,         static_cast<T*>(args.output) + first,
                               args.activation, A(args.slope)};
      apply_fn(s, run, {a[0], a[1], a[2]});
    });
  }

  // A shift per channel, near its mean, spread over the channel's columns.
  void guess_shifts(const Tile& tile, A* shift, double* sum, int64_t padded) const {
    const int64_t enough = ceil_div(32, tile.cols / tile.channels);
    // Of a single row, some of many channels would be far from their means.
    const int64_t rows = smaller(m.rows, smaller(enough, larger(4, m.rows / 8)));
    for (int64_t q = 0; q < padded; ++q) shift[q] = A(0);
    if (m.rows > 0) sums(tile, 0, rows, shift, sum, sum + padded);
    int64_t real = rows;
    if (args.mask)
      for (int64_t r = real = 0; r < rows; ++r) real += args.mask[r];
    const double count = double(real * (tile.cols / tile.channels));
    if (tile.is_column_per_channel() && count > 0) {
      for (int64_t c = 0; c < tile.cols; ++c) shift[c] = A(sum[c] / count);
      return;
    }
    for (int64_t c = 0; c < tile.channels; ++c)
      tile.spread(c, count > 0 ? A(tile.total_of(c, sum) / count) : A(0), shift);
  }

  // From column sums to statistics and coefficients. True: some shift was poor, and now is good.
  bool finish(const Tile& tile, const double* sum, const double* squares, A* shift,
              const ColumnArrays<A>& a, bool last) const {
    if (tile.is_column_per_channel()) {
      Scratch<double> moments(2 * a.padded);
      double *mean = moments.get(), *var = moments.get() + a.padded;
      const bool poor = moments_of_channels(tile.cols, shift, sum, squares, args.count, mean, var);
      if (poor && !last) {
        for (int64_t c = 0; c < tile.cols; ++c) shift[c] = A(mean[c]);
        return true;
      }
      write_statistics_of_channels(args, tile.first_channel, tile.cols, mean, var, a[0], a[1],
                                   a[2]);
      return false;
    }
    bool again = false;
    for (int64_t c = 0; c < tile.channels; ++c) {
      const A k = shift[c * tile.group];
      const Moments moment =
          moments(k, tile.total_of(c, sum), tile.total_of(c, squares), args.count);
      if (!last && poorly_shifted(k, moment)) {
        again = true;
        tile.spread(c, A(moment.mean), shift);
        continue;
      }
      tile.spread(c, write_statistics<A>(args, tile.first_channel + c, moment), a);
    }
    return again;
  }

  // Measures all rows of a tile in this thread.
  void measure_tile(const Tile& tile, const ColumnArrays<A>& a) const {
    Scratch<double> sum(2 * a.padded);
    A* shift = a[3];
    sum.zero(2 * a.padded);
    guess_shifts(tile, shift, sum.get(), a.padded);
    for (int pass = 0; pass < 2; ++pass) {
      sum.zero(2 * a.padded);
      sums(tile, 0, m.rows, shift, sum.get(), sum.get() + a.padded);
      if (!finish(tile, sum.get(), sum.get() + a.padded, shift, a, pass == 1)) break;
    }
  }

  void tiles(int64_t width) const {
    auto task = [&](int64_t i) {
      const Tile tile(m, i * width, smaller(width, m.cols - i * width));
      const ColumnArrays<A> a(tile.cols);
      measure_tile(tile, a);
      if (args.apply) apply(tile, 0, m.rows, a);
    };
    parallel_for(args.parallel, m.elements(), ceil_div(m.cols, width), task);
  }

  void blocks() const {
    const Tile all(m, 0, m.cols);
    const ColumnArrays<A> a(m.cols);
    const int64_t step = m.rows_per_block(), blocks = larger(1, ceil_div(m.rows, step));
    const int64_t width = 2 * a.padded;
    Scratch<double> partial(blocks * width);
    A* shift = a[3];
    partial.zero(width);
    guess_shifts(all, shift, partial.get(), a.padded);
    for (int pass = 0; pass < 2; ++pass) {
      partial.zero(blocks * width);
      auto measure = [&](int64_t i) {
        double* mine = partial.get() + i * width;
        sums(all, i * step, smaller(m.rows, (i + 1) * step), shift, mine, mine + a.padded);
      };
      parallel_for(args.parallel, m.elements(), blocks, measure);
      for (int64_t i = 1; i < blocks; ++i)
        for (int64_t q = 0; q < width; ++q) partial[q] += partial[i * width + q];
      if (!finish(all, partial.get(), partial.get() + a.padded, shift, a, pass == 1)) break;
    }
    if (args.apply) apply_blocks(a);
  }

  void apply_blocks(const ColumnArrays<A>& a) const {
    const Tile all(m, 0, m.cols);
    const int64_t step = m.rows_per_block(), blocks = larger(1, ceil_div(m.rows, step));
    auto task = [&](int64_t i) {
      const int64_t block = blocks - 1 - i;  // backwards: what was read last is still in the cache
      apply(all, block * step, smaller(m.rows, (block + 1) * step), a);
    };
    parallel_for(args.parallel, m.elements(), blocks, task);
  }

  void run() const {
    if (args.measure) {
      const int64_t width = m.tile(sizeof(T), args.parallel.threads);
      return width ? tiles(width) : blocks();
    }
    const ColumnArrays<A> a(m.cols);
    const Tile all(m, 0, m.cols);
    for (int64_t c = 0; c < m.channels; ++c) all.spread(c, read_statistics<A>(args, c), a);
    apply_blocks(a);
  }
};

template <class T>
struct RowsBackward {
  using A = Acc<T>;
  const BackwardArgs& args;
  const Matrix m;
  GradColumnFns<T> fns, second_pass;
  bool reuse_g;  // the second pass reads g from grad_residual instead of computing it again

  explicit RowsBackward(const BackwardArgs& a) : args(a), m(a.shape, a.mask != nullptr) {
    fns = choose_grad_columns<T>(a.activation, pre_source(a));
    reuse_g = a.reduce && a.grad_residual && a.activation == kRelu;
    second_pass = reuse_g ? choose_grad_columns<T>(kIdentity, kFromInput) : fns;
  }

  GradRun<T> run_at(int64_t first) const {
    const T* aux = static_cast<const T*>(args.output ? args.output : args.residual);
    return {static_cast<const T*>(args.grad_output) + first,
            static_cast<const T*>(args.input) + first,
            aux ? aux + first : nullptr,
            nullptr,
            args.grad_residual ? static_cast<T*>(args.grad_residual) + first : nullptr,
            args.grad_input ? static_cast<T*>(args.grad_input) + first : nullptr,
            pre_source(args),
            args.activation,
            A(args.slope)};
  }

  void reduce(const Tile& tile, int64_t begin, int64_t end, const ColumnArrays<A>& a, double* sum,
              double* products) const {
    strips(m, tile, args.mask, begin, end, [&](int64_t first, const Strip& s) {
      GradRun<T> run = run_at(first);
      if (args.training) run.dx = nullptr;
      if (args.training && !reuse_g) run.g = nullptr;  // the second pass writes it
      fns.reduce(s, run, {a[0], a[1], a[2]}, sum, products);
    });
  }

  void input_grad(const Tile& tile, int64_t begin, int64_t end, const ColumnArrays<A>& a) const {
    strips(m, tile, args.mask, begin, end, [&](int64_t first, const Strip& s) {
      GradRun<T> run = run_at(first);
      if (reuse_g) {
        run.dy = run.g;
        run.g = nullptr;
      }
      second_pass.input_grad(s, run, {a[0], a[1], a[2]}, {a[3], a[4]});
    });
  }

  void set_affine(const Tile& tile, const ColumnArrays<A>& a) const {
    if (tile.is_column_per_channel())
      return read_statistics_of_channels(args, tile.first_channel, tile.cols, a[0], a[1], a[2]);
    for (int64_t c = 0; c < tile.channels; ++c)
      tile.spread(c, read_statistics<A>(args, tile.first_channel + c), a);
  }

  void set_gradient(const Tile& tile, const ColumnArrays<A>& a) const {
    if (tile.is_column_per_channel())
      return gradients_of_channels(args, tile.first_channel, tile.cols, a[1], a[3], a[4]);
    for (int64_t c = 0; c < tile.channels; ++c) {
      const Gradient<A> d = gradient<A>(args, tile.first_channel + c);
      tile.spread(c, d.slope, a[3]);
      tile.spread(c, d.offset, a[4]);
    }
  }

  void finish(const Tile& tile, const double* sum, const double* products) const {
    if (tile.is_column_per_channel())
      return write_sums_of_channels<A>(args, tile.first_channel, tile.cols, sum, products);
    for (int64_t c = 0; c < tile.channels; ++c)
      write_sums<A>(args, tile.first_channel + c, tile.total_of(c, sum),
                    tile.total_of(c, products));
  }

  void tiles(int64_t width) const {
    auto task = [&](int64_t i) {
      const Tile tile(m, i * width, smaller(width, m.cols - i * width));
      const ColumnArrays<A> a(tile.cols);
      Scratch<double> sum(2 * a.padded);
      sum.zero(2 * a.padded);
      set_affine(tile, a);
      reduce(tile, 0, m.rows, a, sum.get(), sum.get() + a.padded);
      finish(tile, sum.get(), sum.get() + a.padded);
      if (!args.apply || !args.training) return;
      set_gradient(tile, a);
      input_grad(tile, 0, m.rows, a);
    };
    parallel_for(args.parallel, m.elements(), ceil_div(m.cols, width), task);
  }

  void blocks() const {
    const Tile all(m, 0, m.cols);
    const ColumnArrays<A> a(m.cols);
    const int64_t step = m.rows_per_block(), blocks = larger(1, ceil_div(m.rows, step));
    const int64_t width = 2 * a.padded;
    Scratch<double> partial(blocks * width);
    partial.zero(blocks * width);
    set_affine(all, a);
    auto task = [&](int64_t i) {
      double* mine = partial.get() + i * width;
      reduce(all, i * step, smaller(m.rows, (i + 1) * step), a, mine, mine + a.padded);
    };
    parallel_for(args.parallel, m.elements(), blocks, task);
    for (int64_t i = 1; i < blocks; ++i)
      for (int64_t q = 0; q < width; ++q) partial[q] += partial[i * width + q];
    finish(all, partial.get(), partial.get() + a.padded);
    if (args.apply && args.training) apply_blocks(a);
  }

  void apply_blocks(const ColumnArrays<A>& a) const {
    const Tile all(m, 0, m.cols);
    const int64_t step = m.rows_per_block(), blocks = larger(1, ceil_div(m.rows, step));
    set_gradient(all, a);
    auto task = [&](int64_t i) {
      const int64_t block = blocks - 1 - i;
      input_grad(all, block * step, smaller(m.rows, (block + 1) * step), a);
    };
    parallel_for(args.parallel, m.elements(), blocks, task);
  }

  void run() const {
    if (args.reduce) {
      const int64_t width = m.tile(2 * sizeof(T), args.parallel.threads);
      return width ? tiles(width) : blocks();
    }
    const ColumnArrays<A> a(m.cols);
    set_affine(Tile(m, 0, m.cols), a);
    apply_blocks(a);
  }
};

}  // namespace bn::BN_ISA
