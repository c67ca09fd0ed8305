// SPDX-License-Identifier: MIT
// Sums of the columns of a matrix: the gradient of a bias. The shape alone fixes the order of
// addition: first the rows of each chunk, then the chunks.
#ifndef TF_PLR_ENGINE_COLUMN_SUMS_H_
#define TF_PLR_ENGINE_COLUMN_SUMS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/types.h"

namespace tf_plr {

// The first `width` columns of rows that are `stride` elements apart.
template <typename T>
struct ColumnSums {
  const T* matrix;
  int64_t rows, width, stride;
  float* sums;

  static constexpr int64_t kMinChunkRows = 64, kMaxChunks = 128;
  int64_t chunk_rows() const {
    return std::max(kMinChunkRows, (rows + kMaxChunks - 1) / kMaxChunks);
  }
  int64_t chunks() const { return (rows + chunk_rows() - 1) / chunk_rows(); }
  // Room for the sums of all chunks.
  size_t workspace_bytes() const { return chunks() * width * sizeof(float); }
};

namespace cpu {
// Half, BFloat16 or float. Returns null, or what went wrong.
template <typename T>
const char* Sum(const ColumnSums<T>& sums, const Workers& workers);
}  // namespace cpu

namespace gpu {
// Half, BFloat16 or float; on a cudaStream_t. Returns null, or what went wrong.
template <typename T>
const char* Sum(const ColumnSums<T>& sums, void* workspace, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_COLUMN_SUMS_H_
