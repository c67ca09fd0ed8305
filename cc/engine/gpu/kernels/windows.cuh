// SPDX-License-Identifier: MIT
// Addresses of the rows of step arrays. Arrays of a gated cell may be windows of wider rows, each
// with a stride of its own. Arrays of other cells share one stride, and the compiler sees that.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_WINDOWS_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_WINDOWS_CUH_

#include <cstdint>

#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

struct FlagsOfRow {
  bool masked, reset;
};

// Rows are counted over outer x steps, columns over inner.
template <typename Cell, typename T>
struct Windows {
  const Problem& problem;
  const Arrays<Cell, T>& arrays;

  __device__ const T* Input(int k, int64_t row, int64_t column) const {
    return arrays.inputs[k] + row * InputStride(k) + column;
  }
  __device__ T* Output(int k, int64_t row, int64_t column) const {
    return arrays.outputs[k] + row * OutputStride(k) + column;
  }
  __device__ bool IsWanted(int output) const {
    return !Cell::kGated || arrays.outputs[output] != nullptr;
  }

  // From row to row, in processing order.
  __device__ int64_t InputRowBytes(int k) const { return RowBytes(InputStride(k)); }
  __device__ int64_t OutputRowBytes(int k) const { return RowBytes(OutputStride(k)); }

  // Those of the row `lane` rows after `row`, in processing order, if it is one of the next
  // `count`.
  __device__ FlagsOfRow Flags(int64_t row, int64_t count, int lane) const {
    FlagsOfRow found{false, false};
    if constexpr (Cell::kGated || Cell::kFlags) {
      const auto& [mask, resets] = arrays.flags;
      const int64_t at = problem.reverse ? row - lane : row + lane;
      if (mask != nullptr && lane < count) found.masked = !mask[at];
      if constexpr (Cell::kFlags) {
        if (resets != nullptr && lane < count) found.reset = resets[at];
      }
    }
    return found;
  }

 private:
  __device__ int64_t InputStride(int k) const {
    if constexpr (Cell::kGated) {
      return arrays.gated.input_strides[k];
    } else {
      return problem.inner;
    }
  }
  __device__ int64_t OutputStride(int k) const {
    if constexpr (Cell::kGated) {
      return arrays.gated.output_strides[k];
    } else {
      return problem.inner;
    }
  }
  __device__ int64_t RowBytes(int64_t stride) const {
    return (problem.reverse ? -stride : stride) * static_cast<int64_t>(sizeof(T));
  }
};

// Whether all rows of all step arrays, except a broadcast one, and the boundary are aligned to
// `bytes`.
template <typename Cell, typename T>
bool RowsAreAligned(const Problem& problem, const Arrays<Cell, T>& arrays, size_t bytes) {
  uintptr_t bits = problem.inner * sizeof(T);
  for (int k = 0; k < Cell::kInputs; ++k) {
    if (k != Cell::kBroadcast) bits |= reinterpret_cast<uintptr_t>(arrays.inputs[k]);
  }
  for (const T* output : arrays.outputs) bits |= reinterpret_cast<uintptr_t>(output);
  if constexpr (Cell::kGated) {
    for (int64_t stride : arrays.gated.input_strides) bits |= stride * sizeof(T);
    for (int64_t stride : arrays.gated.output_strides) bits |= stride * sizeof(T);
  }
  return (bits | reinterpret_cast<uintptr_t>(arrays.boundary)) % bytes == 0;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_WINDOWS_CUH_
