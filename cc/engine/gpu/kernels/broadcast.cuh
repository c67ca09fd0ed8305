// SPDX-License-Identifier: MIT
// Broadcast decays on a GPU. Few of them are different, so threads load them straight from memory,
// through the caches, whichever way the other inputs take.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_BROADCAST_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_BROADCAST_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

// Where the decays of a thread's columns lie. Steps count in processing order.
template <typename Cell, typename T, int kVector>
struct DecayColumns {
  DecayColumns() = default;

  // columns: how many of the thread's columns exist, from `column` on, which counts over inner.
  __device__ DecayColumns(const Problem& problem, const Arrays<Cell, T>& arrays, int64_t outer,
                          int64_t column, int columns) {
    const BroadcastIndex& index = arrays.broadcast;
    const int64_t first_step = problem.reverse ? problem.steps - 1 : 0;
    const T* const first = arrays.inputs[Cell::kBroadcast] + index.outer.Offset(outer) +
                           first_step * index.step_stride;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      at[v] = first + index.inner.Offset(v < columns ? column + v : 0);
    }
    stride = problem.reverse ? -index.step_stride : index.step_stride;
  }

  // Those from `step` on, instead of from the first step on.
  __device__ DecayColumns From(int64_t step) const {
    DecayColumns later = *this;
#pragma unroll
    for (int v = 0; v < kVector; ++v) later.at[v] += step * stride;
    return later;
  }

  // Loads the decays of the first `count` rows.
  template <int kRows>
  __device__ void Load(int count, Pack<T, kVector> (&rows)[kRows]) const {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row >= count) break;
      T values[kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) values[v] = at[v][row * stride];
      memcpy(rows[row].words, values, sizeof(values));
    }
  }

  const T* at[kVector];
  int64_t stride;  // From step to step.
};

// ---- Where ThreadRows has broadcast decays ----

// Among the values of the other inputs.
struct DecaysAreValues {};

// In memory: a thread loads each one whenever it needs it. Rows that are skipped have the decay 1.
template <typename Cell, typename T, int kVector>
class DecaysInMemory {
 public:
  using A = Accumulator<T>;

  __device__ void Set(const DecayColumns<Cell, T, kVector>& columns) { columns_ = columns; }
  // A bit for each row.
  __device__ void Skip(unsigned skipped) { skipped_ = skipped; }
  __device__ A Get(int row, int v) const {
    // The empty asm makes the compiler compute addresses again, not keep them in registers.
    unsigned skipped = skipped_;
    int64_t stride = columns_.stride;
    asm volatile("" : "+r"(skipped), "+l"(stride));
    return (skipped >> row & 1) != 0 ? A(1) : A(columns_.at[v][row * stride]);
  }

 private:
  DecayColumns<Cell, T, kVector> columns_;
  unsigned skipped_;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_BROADCAST_CUH_
