// SPDX-License-Identifier: MIT
// What a thread does with its rows, whichever kernel brought them into its registers: reduce them
// to one transition per column, and, once the state before them is known, scan them.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_

#include <cstdint>

#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// kRows consecutive steps, in processing order, of kVector neighbouring columns. kFull: all exist;
// otherwise the first `count` do, and the others' values are not used.
template <typename Cell, typename T, int kVector, int kRows>
struct ThreadRows {
  using A = Accumulator<T>;
  using Pack = gpu::Pack<T, kVector>;

  Pack values[Cell::kInputs][kRows];
  int count;

  // Of the v-th column.
  template <bool kFull>
  __device__ Transition<A> Reduce(int v) const {
    Transition<A> own = Transition<A>::Identity();
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      A in[Cell::kInputs];
#pragma unroll
      for (int k = 0; k < Cell::kStepInputs; ++k) in[k] = values[k][row].Get(v);
      const Transition<A> longer = row == 0 ? Cell::Step(in) : Compose(own, Cell::Step(in));
      if (kFull || row < count) own = longer;
    }
    return own;
  }

  // Moves the state past the rows, and writes the outputs: those of the first row to `to`, others
  // row_bytes on.
  template <bool kFull>
  __device__ void Scan(T* (&to)[Cell::kOutputs], int64_t row_bytes, A (&state)[kVector]) const {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (!kFull && row >= count) break;
      A results[Cell::kOutputs][kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        A in[Cell::kInputs], out[Cell::kOutputs];
#pragma unroll
        for (int k = 0; k < Cell::kInputs; ++k) in[k] = values[k][row].Reread().Get(v);
        const A before = state[v];
        state[v] = Cell::Step(in).Apply(before);
        Cell::Emit(in, before, state[v], out);
#pragma unroll
        for (int k = 0; k < Cell::kOutputs; ++k) results[k][v] = out[k];
      }
#pragma unroll
      for (int k = 0; k < Cell::kOutputs; ++k) {
        *reinterpret_cast<Pack*>(to[k]) = Pack::Of(results[k]);
        to[k] = AddBytes(to[k], row_bytes);
      }
    }
  }
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_
