// SPDX-License-Identifier: MIT
// Sums of a gated gradient's outputs over all rows: the gradients with respect to biases. Threads
// sum their rows while they scan them, a block sums its threads, and writes a row of sums. A pass
// over these rows (column_sums.h) ends the sum. Each order is fixed.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_OUTPUT_SUMS_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_OUTPUT_SUMS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

template <typename Cell>
constexpr bool kSumsOutputs = Cell::kGated && Cell::kIsGradient;

// The sums over a thread's rows, for each of its columns and each output that may have a bias: all
// but a highway, which comes last.
template <typename Cell, int kVector, bool kHasAny = kSumsOutputs<Cell>>
struct OutputSums {
  static constexpr int kOutputs = Cell::kOutputs - Cell::kHasHighway;
  static constexpr int kColumns = kWarp * kVector;

  // Those of a block's warps.
  struct Shared {
    float of_warp[kOutputs][kColumns];
  };

  float values[kOutputs][kVector] = {};

  __device__ void Add(int output, int v, float value) {
    if (output < kOutputs) values[output][v] += value;
  }

  __device__ void Put(Shared& shared, int lane) const {
#pragma unroll
    for (int k = 0; k < kOutputs; ++k) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) shared.of_warp[k][lane * kVector + v] = values[k][v];
    }
  }

  // Adds what `warps` warps have put, and writes the sums of columns from `first` on. `threads`
  // threads share the work; this is number `thread`.
  template <typename Gated>
  __device__ static void Write(const Shared* shared, int warps, const Gated& gated, int64_t first,
                               int64_t inner, float* row, int thread, int threads) {
    for (int i = thread; i < kOutputs * kColumns; i += threads) {
      const int k = i / kColumns, column = i % kColumns;
      if (gated.d_bias_offsets[k] < 0 || first + column >= inner) continue;
      float sum = 0;
      for (int warp = 0; warp < warps; ++warp) sum += shared[warp].of_warp[k][column];
      row[gated.d_bias_offsets[k] + first + column] = sum;
    }
  }
};

template <typename Cell, int kVector>
struct OutputSums<Cell, kVector, false> {
  struct Shared {};
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_OUTPUT_SUMS_CUH_
