// SPDX-License-Identifier: MIT
// What a thread does with the rows in its registers, whichever kernel loaded them. It reduces them
// to one transition per column; once the state before them is known, it scans them.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cc/engine/cells/activations.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/kernels/windows.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// The biases of a gated cell's inputs, for the columns of a thread.
template <typename Cell, typename A, int kVector>
struct ThreadBiases {
  A values[Cell::kInputs][kVector];

  template <typename T>
  __device__ void Load(const Arrays<Cell, T>& arrays, int64_t column, bool exists) {
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      if (!Cell::HasBias(k)) continue;
      const float* const biases = arrays.gated.biases[k];
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        values[k][v] = biases == nullptr || !exists ? A(0) : biases[column + v];
      }
    }
  }
  // Adds the biases to the inputs in [first, end).
  __device__ void AddTo(A (&in)[Cell::kInputs], int first, int end, int v) const {
#pragma unroll
    for (int k = first; k < end; ++k) {
      if (Cell::HasBias(k)) in[k] += values[k][v];
    }
  }
};
struct NoBiases {};

// Keeps a step of a gated cell from Reduce to Scan.
template <typename T>
class KeptStep {
 public:
  __device__ void Keep(Transition<float> step) { step_ = step; }
  __device__ Transition<float> Get() const { return step_; }

 private:
  Transition<float> step_;
};

// Half the size of the general KeptStep, so that a thread can have twice the rows. Rounds the
// impulse, and the smaller of the decay and its complement, to the 8 bits that all inputs have.
// This affects only states within the thread's rows: the state before them and the last state are
// as exact as ever.
template <>
class KeptStep<__nv_bfloat16> {
 public:
  __device__ void Keep(Transition<float> step) {
    const float decay = step.decay < 0.5f ? step.decay : -(1.0f - step.decay);  // 1 becomes -0.
    pair_ = Pack<__nv_bfloat16, 2>::Of({step.impulse, decay});
  }
  __device__ Transition<float> Get() const {
    const auto pair = pair_.Rematerialize();
    const float decay = pair.Get(1);
    return {std::signbit(decay) ? 1.0f + decay : decay, pair.Get(0)};
  }

 private:
  Pack<__nv_bfloat16, 2> pair_;
};

// kRows consecutive steps, in processing order, of kVector neighbouring columns. kFull: all exist;
// otherwise the first `count` do, and the others' values are not used.
template <typename Cell, typename T, int kVector, int kRows>
struct ThreadRows {
  using A = Accumulator<T>;
  using Pack = gpu::Pack<T, kVector>;
  using M = std::conditional_t<std::is_same_v<T, __nv_bfloat16>, CoarseMath, Math<float>>;
  static_assert(kRows <= kWarp, "a bit and a lane for each row");

  Pack values[Cell::kInputs][kRows];
  int count;
  unsigned masked;  // Bit i is set if row i is masked.
  std::conditional_t<Cell::kGated, ThreadBiases<Cell, A, kVector>, NoBiases> biases;

  // The steps of a gated cell cost more to compute again than to keep.
  static constexpr bool kKeepsSteps = Cell::kGated && !Cell::kIsGradient;
  struct NoSteps {};
  struct Steps {
    KeptStep<T> values[kRows][kVector];
  };
  std::conditional_t<kKeepsSteps, Steps, NoSteps> steps;

  // Call once, before Scan. Works row by row, so that the unpacked values of a row need not stay in
  // registers.
  template <bool kFull>
  __device__ void Reduce(Transition<A> (&own)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) own[v] = Transition<A>::Identity();
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        if (IsMasked(row)) {
          if constexpr (kStepsWhereMasked) {
            if (kFull || row < count) own[v] = Compose(own[v], StepMasked(row, v));
          }
          continue;
        }
        A in[Cell::kInputs];
#pragma unroll
        for (int k = 0; k < Cell::kStepInputs; ++k) in[k] = values[k][row].Get(v);
        if constexpr (Cell::kGated) biases.AddTo(in, 0, Cell::kStepInputs, v);
        const Transition<A> step = Cell::template Step<M>(in);
        if constexpr (kKeepsSteps) steps.values[row][v].Keep(step);
        const bool first = row == 0 && !Cell::kGated;
        const Transition<A> longer = first ? step : Compose(own[v], step);
        if (kFull || row < count) own[v] = longer;
      }
    }
  }

  // Advances the state over the rows and writes their outputs, from `first_row` and `column` on.
  template <bool kFull>
  __device__ void Scan(const Windows<Cell, T>& windows, int64_t first_row, int64_t column,
                       A (&state)[kVector]) const {
    T* to[Cell::kOutputs];
    int64_t row_bytes[Cell::kOutputs];
#pragma unroll
    for (int k = 0; k < Cell::kOutputs; ++k) {
      to[k] = windows.Output(k, first_row, column);
      row_bytes[k] = windows.OutputRowBytes(k);
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (!kFull && row >= count) break;
      A results[Cell::kOutputs][kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        A out[Cell::kOutputs];
        if (IsMasked(row)) {
          if constexpr (kStepsWhereMasked) state[v] = StepMasked(row, v).Apply(state[v]);
          if constexpr (Cell::kGated) Cell::EmitMasked(state[v], out);
        } else {
          A in[Cell::kInputs];
          constexpr int kFirst = kKeepsSteps ? Cell::kStepInputs : 0;  // Emit needs no others.
#pragma unroll
          for (int k = kFirst; k < Cell::kInputs; ++k)
            in[k] = values[k][row].Rematerialize().Get(v);
          if constexpr (Cell::kGated) biases.AddTo(in, kFirst, Cell::kInputs, v);
          const A before = state[v];
          if constexpr (kKeepsSteps) {
            state[v] = steps.values[row][v].Get().Apply(before);
          } else {
            state[v] = Cell::template Step<M>(in).Apply(before);
          }
          Cell::template Emit<M>(in, before, state[v], out);
        }
#pragma unroll
        for (int k = 0; k < Cell::kOutputs; ++k) results[k][v] = out[k];
      }
#pragma unroll
      for (int k = 0; k < Cell::kOutputs; ++k) {
        if (windows.IsWanted(k)) *reinterpret_cast<Pack*>(to[k]) = Pack::Of(results[k]);
        to[k] = AdvanceRow(to[k], row_bytes[k]);
      }
    }
  }

 private:
  static constexpr bool StepsWhereMasked() {
    if constexpr (Cell::kGated) return Cell::kStepsWhereMasked;
    return false;
  }
  static constexpr bool kStepsWhereMasked = StepsWhereMasked();

  __device__ Transition<A> StepMasked(int row, int v) const {
    return Cell::StepMasked(values[Cell::kDH][row].Get(v));
  }
  __device__ bool IsMasked(int row) const { return Cell::kGated && (masked >> row & 1) != 0; }
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_
