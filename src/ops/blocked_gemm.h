#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace switchyard {

// Matrix products block by block, so that what follows a product (an activation, a rounding)
// finds its numbers in the cache, and what precedes it (a transposition) is written no further
// than there. The products themselves are LibTorch's brgemm, i.e. oneDNN's micro-kernel: it
// prepares a kernel per shape, so blocks come in few shapes whatever the number of rows is. On
// AVX2, for which oneDNN has none, brgemm calls MKL.
//
// All of it is for float32 and bfloat16; sums are float32. Where the processor does not multiply
// bfloat16, blocks of it are widened to float32 in the cache and multiplied there: its products are
// exact in float32, so the results differ by the order of the sums alone, and cost what those of
// float32 do. A row's result does not depend on the other rows.

inline constexpr int64_t kBlockRows = 64;      // rows of A in a product
inline constexpr int64_t kPanelColumns = 128;  // columns of B in a product
inline constexpr int64_t kInnerRows = 512;     // a share of the rows of a weight gradient's sum
inline constexpr int64_t kTaskRows = 1024;     // a share of a group, for which a panel is packed

/// Whether `dtype` has blocked products: float32 and bfloat16.
bool has_blocked_gemm(at::ScalarType dtype);

/// Whether this processor multiplies bfloat16 (AVX512-BF16, as every processor with AMX has) and
/// LibTorch makes use of it: ATEN_CPU_CAPABILITY=avx2 keeps it from that.
bool multiplies_bfloat16();

/// How many elements of `width` bytes (2, 4) from row to row suit rows of `columns` of them: an odd
/// number of cache lines, so that the rows of a block, read side by side, do not fight over the
/// same few places of the first cache.
constexpr int64_t row_stride(int64_t columns, int64_t width) {
  const int64_t line = 64 / width;
  return ((columns + line - 1) / line | 1) * line;
}

/// A row-major matrix: row i begins at data + i * stride.
template <class scalar_t>
struct MatrixRef {
  const scalar_t* data;
  int64_t rows, columns, stride;

  const scalar_t* row(int64_t i) const { return data + i * stride; }
  MatrixRef rows_from(int64_t first, int64_t count) const {
    return {row(first), count, columns, stride};
  }
  MatrixRef columns_from(int64_t first, int64_t count) const {
    return {data + first, rows, count, stride};
  }
};

template <class scalar_t>
MatrixRef<scalar_t> matrix_ref(const at::Tensor& x) {
  return {x.data_ptr<scalar_t>(), x.size(-2), x.size(-1), x.stride(-2)};
}

/// Room for numbers, not set to anything: it grows, and what it held is lost then.
template <class scalar_t>
class Room {
 public:
  explicit Room(int64_t count = 0) { reserve(count); }

  void reserve(int64_t count) {
    if (count <= count_) return;
    data_.reset(new scalar_t[static_cast<size_t>(count)]);
    count_ = count;
  }
  scalar_t* data() { return data_.get(); }
  const scalar_t* data() const { return data_.get(); }

 private:
  std::unique_ptr<scalar_t[]> data_;
  int64_t count_ = 0;
};

/// Some columns of the right-hand matrix B (K, N) of a product, in the order in which brgemm
/// reads them: for bfloat16 two rows interleaved, or widened.
template <class scalar_t>
class Panel {
 public:
  /// Room for `columns` columns of `depth` rows. The rows beyond, up to a multiple of 32, are
  /// zero where `pack` fills the panel.
  void reshape(int64_t depth, int64_t columns);

  /// Columns [at, at + b.columns) of the panel are b.
  void pack(const MatrixRef<scalar_t>& b, int64_t at = 0);

  /// Columns [at, at + b.rows) of the panel are the rows of b. bfloat16: b.columns is even.
  void pack_transposed(const MatrixRef<scalar_t>& b, int64_t at = 0);

  /// c (rows, columns of the panel) = a @ panel, or += it. `depth`: columns of a, as many as
  /// the panel has rows, or with the zeros that follow them.
  void multiply(const scalar_t* a, int64_t a_stride, int64_t rows, int64_t depth, float* c,
                int64_t c_stride, bool add) const;

  int64_t columns() const { return columns_; }

 private:
  Room<scalar_t> data_;
  Room<float> wide_;  // what is multiplied, where bfloat16 is widened
  int64_t depth_ = 0, columns_ = 0;
};

/// b^T in `out` (b.columns, ...) with `out_stride` elements from row to row.
template <class scalar_t>
void transpose(const MatrixRef<scalar_t>& b, scalar_t* out, int64_t out_stride);

/// Gives the micro-kernel's unit back (AMX) at the end of a task.
void end_of_products();

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// How many of `left` rows are next where `size` are taken at a time: the last share has up to half
/// as many more, since a few rows by themselves would cost as much as `size`: their weights are
/// packed, their gradients read and written for them alone. Shares but the last are `size`, so a
/// cut at a multiple of it does not move the others.
constexpr int64_t next_share(int64_t left, int64_t size) {
  return left > size + size / 2 ? size : left;
}

/// A block of a product's result: rows [row, row + rows) of panel `panel`, in float32.
struct Tile {
  int64_t group, row, rows, panel, columns;
  const float* data;  // kPanelColumns from row to row

  const float* at(int64_t r) const { return data + r * kPanelColumns; }
};

/// Tiles of a @ B_e for the rows of each group e, one after another:
///
///   a          rows sorted by group
///   rows_E     rows of each group
///   panels     panels of each B_e
///   pack       (Panel&, e, p): fills in panel p of B_e, a.columns deep
///   store      (const Tile&): takes the tile; called from several threads
template <class scalar_t, class Pack, class Store>
void for_each_tile(const MatrixRef<scalar_t>& a, const std::vector<int64_t>& rows_E, int64_t panels,
                   const Pack& pack, const Store& store);

/// out_e (M, N) += a_e^T @ b_e for the rows of each group e: the gradient of a weight.
///
///   a (R, M), b (R, N) rows sorted by group;   out (E, M, N) float32
template <class scalar_t>
void add_outer_products(const MatrixRef<scalar_t>& a, const MatrixRef<scalar_t>& b,
                        const std::vector<int64_t>& rows_E, float* out_EMN);

// ---------------------------------------------------------------------------------------------

namespace blocked_gemm {

/// Of the left matrix of a weight gradient, transposed at a time.
inline constexpr int64_t kStripColumns = 256;

/// What one task multiplies by: few enough rows that many threads find work in few groups.
struct Segment {
  int64_t group, begin, rows;
};

inline std::vector<Segment> segments_of(const std::vector<int64_t>& rows_E) {
  std::vector<Segment> segments;
  int64_t begin = 0;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    const int64_t end = begin + rows_E[e];
    for (int64_t rows = 0; begin < end; begin += rows) {
      rows = next_share(end - begin, kTaskRows);
      segments.push_back({static_cast<int64_t>(e), begin, rows});
    }
  }
  return segments;
}

/// The last rows of a group, filled up with zeros: a shape that was met before.
template <class scalar_t>
const scalar_t* filled_up(const MatrixRef<scalar_t>& rows, int64_t count, Room<scalar_t>& room) {
  room.reserve(count * rows.columns);
  for (int64_t r = 0; r < rows.rows; ++r) {
    std::copy_n(rows.row(r), rows.columns, room.data() + r * rows.columns);
  }
  std::fill_n(room.data() + rows.rows * rows.columns, (count - rows.rows) * rows.columns,
              scalar_t(0));
  return room.data();
}

}  // namespace blocked_gemm

template <class scalar_t, class Pack, class Store>
void for_each_tile(const MatrixRef<scalar_t>& a, const std::vector<int64_t>& rows_E, int64_t panels,
                   const Pack& pack, const Store& store) {
  const auto segments = blocked_gemm::segments_of(rows_E);
  const auto S = static_cast<int64_t>(segments.size());
  // Panels outermost: threads then share every group, however uneven the groups are.
  at::parallel_for(0, panels * S, 1, [&](int64_t first, int64_t last) {
    Panel<scalar_t> panel;
    Room<float> tile(kBlockRows * kPanelColumns);
    Room<scalar_t> tail;
    for (int64_t task = first; task < last; ++task) {
      const auto& segment = segments[task % S];
      pack(panel, segment.group, task / S);
      for (int64_t r = 0; r < segment.rows; r += kBlockRows) {
        const int64_t row = segment.begin + r, rows = std::min(kBlockRows, segment.rows - r);
        if (const int64_t padded = round_up(rows, 16); padded == rows) {
          panel.multiply(a.row(row), a.stride, rows, a.columns, tile.data(), kPanelColumns, false);
        } else {
          const scalar_t* filled = blocked_gemm::filled_up(a.rows_from(row, rows), padded, tail);
          panel.multiply(filled, a.columns, padded, a.columns, tile.data(), kPanelColumns, false);
        }
        store(Tile{segment.group, row, rows, task / S, panel.columns(), tile.data()});
      }
    }
    end_of_products();
  });
}

template <class scalar_t>
void add_outer_products(const MatrixRef<scalar_t>& a, const MatrixRef<scalar_t>& b,
                        const std::vector<int64_t>& rows_E, float* out_EMN) {
  const auto E = static_cast<int64_t>(rows_E.size());
  const int64_t M = a.columns, N = b.columns;
  constexpr int64_t kStride = kInnerRows + kInnerRows / 2;  // as long as the longest share
  std::vector<int64_t> begin_E(rows_E.size(), 0);
  for (int64_t e = 1; e < E; ++e) begin_E[e] = begin_E[e - 1] + rows_E[e - 1];
  // Strips of a's columns, in each of which b is packed once: as wide as the second cache allows,
  // and no wider than lets every thread have one.
  const int64_t threads = at::get_num_threads();
  const int64_t strip =
      std::min(blocked_gemm::kStripColumns, round_up((M + threads - 1) / threads, kBlockRows));
  const int64_t strips = (M + strip - 1) / strip;
  // Strips outermost: threads then share every group, however uneven the groups are.
  at::parallel_for(0, strips * E, 1, [&](int64_t first, int64_t last) {
    Panel<scalar_t> panel;
    Room<scalar_t> a_transposed(strip * kStride);
    for (int64_t task = first; task < last; ++task) {
      const int64_t e = task % E, begin = task / E * strip;
      const int64_t width = std::min(strip, M - begin);
      const int64_t end = begin_E[e] + rows_E[e];
      for (int64_t row = begin_E[e], rows = 0; row < end; row += rows) {
        rows = next_share(end - row, kInnerRows);
        const int64_t depth = round_up(rows, 32);
        transpose(a.rows_from(row, rows).columns_from(begin, width), a_transposed.data(), kStride);
        for (int64_t m = 0; m < width && depth > rows; ++m) {
          std::fill_n(a_transposed.data() + m * kStride + rows, depth - rows, scalar_t(0));
        }
        for (int64_t n = 0; n < N; n += kPanelColumns) {
          const int64_t columns = std::min(kPanelColumns, N - n);
          panel.reshape(rows, columns);
          panel.pack(b.rows_from(row, rows).columns_from(n, columns));
          panel.multiply(a_transposed.data(), kStride, width, depth,
                         out_EMN + (e * M + begin) * N + n, N, /*add=*/true);
        }
      }
    }
    end_of_products();
  });
}

}  // namespace switchyard
