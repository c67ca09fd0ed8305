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
#include "cc/engine/gpu/kernels/broadcast.cuh"
#include "cc/engine/gpu/kernels/output_sums.cuh"
#include "cc/engine/gpu/kernels/windows.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// The biases of a gated cell's inputs, for the columns of a thread.
template <typename Cell, typename A, int kVector>
struct ThreadBiases {
  A values[Cell::kInputs][kVector];

  // columns: how many exist, from `column` on.
  template <typename T>
  __device__ void Load(const Arrays<Cell, T>& arrays, int64_t column, int columns) {
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      if (!Cell::HasBias(k)) continue;
      const float* const biases = arrays.gated.biases[k];
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        values[k][v] = biases == nullptr || v >= columns ? A(0) : biases[column + v];
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

// Holds, between Reduce and Scan, the transition from the state before a thread's rows to the state
// after one of them. For bfloat16 arrays it is rounded to bfloat16, which halves its size, so that
// a thread can have twice the rows. That affects only states within the thread's rows: the state
// before them and the last state are computed from floats.
template <typename T>
class KeptTransition {
 public:
  __device__ void Keep(Transition<float> transition) { transition_ = transition; }
  __device__ Transition<float> Get() const { return transition_; }

 private:
  Transition<float> transition_;
};

template <>
class KeptTransition<__nv_bfloat16> {
 public:
  __device__ void Keep(Transition<float> transition) {
    pair_ = Pack<__nv_bfloat16, 2>::Of({transition.decay, transition.impulse});
  }
  __device__ Transition<float> Get() const {
    const auto pair = pair_.Rematerialize();
    return {pair.Get(0), pair.Get(1)};
  }

 private:
  Pack<__nv_bfloat16, 2> pair_;
};

// kRows consecutive steps, in processing order, of kVector neighbouring columns. kAligned: the
// packs that Scan writes are aligned in memory, so that all columns of a thread exist if its first
// does. Decays: where the decays are; see broadcast.cuh.
template <typename Cell, typename T, int kVector, int kRows, bool kAligned,
          typename Decays = DecaysAreValues>
struct ThreadRows {
  using A = Accumulator<T>;
  using Pack = gpu::Pack<T, kVector>;
  using M =
      std::conditional_t<std::is_same_v<T, __nv_bfloat16>, CoarseMath,
                         std::conditional_t<std::is_same_v<T, __half>, NarrowMath, Math<float>>>;
  static_assert(kRows <= kWarp, "a bit and a lane for each row");

  static constexpr bool kDecaysInMemory = !std::is_same_v<Decays, DecaysAreValues>;
  static_assert(Cell::kBroadcast <= 0, "broadcast decays are the first input");

  Pack values[Cell::kInputs][kRows];  // Of inputs from kDecaysInMemory on.
  Decays decays;
  // A bit for each row, set by Skip if the cell has flags.
  unsigned skipped;  // Whether the row is masked or does not exist.
  unsigned resets;   // Whether the row is a reset.
  int count;         // Rows to write; 0 if the thread's columns do not exist.
  int columns;  // That exist, from the thread's first one on. Only Scan uses it, if not kAligned.
  std::conditional_t<Cell::kGated, ThreadBiases<Cell, A, kVector>, NoBiases> biases;

  // Computing the transitions of a gated cell again would cost more than keeping them.
  static constexpr bool kKeeps = Cell::kGated && !Cell::kIsGradient;
  struct Nothing {};
  struct Transitions {
    KeptTransition<T> values[kRows][kVector];
  };
  std::conditional_t<kKeeps, Transitions, Nothing> kept;

  // Replaces the inputs of rows that are masked or do not exist, so that these rows do not change
  // the state. Call once all rows are loaded; rows that do not exist are zeros. flags: those of the
  // row with the lane's number. All lanes of the warp call together.
  __device__ void Skip(int64_t rows_left, FlagsOfRow flags) {
    unsigned skip = rows_left >= kRows ? 0 : rows_left <= 0 ? ~0u : ~0u << rows_left;
    if constexpr (Cell::kGated || Cell::kFlags) skip |= __ballot_sync(~0u, flags.masked);
    if constexpr (Cell::kFlags) {
      skipped = skip;
      resets = __ballot_sync(~0u, flags.reset);
    }
    if constexpr (kDecaysInMemory) decays.Skip(skip);
    if constexpr (Cell::kFlags && Cell::kLookahead >= 0) {  // The state before a reset.
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (IsReset(row)) values[Cell::kLookahead][row] = Pack{};
      }
    }
    if (skip == 0) return;
#pragma unroll
    for (int k = kDecaysInMemory; k < Cell::kInputs; ++k) {
      if (Cell::WhereMasked(k) == Masked::kKept) continue;
      const Pack masked = Pack::Filled(ValueOf(Cell::WhereMasked(k)));
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if ((skip >> row & 1) != 0) values[k][row] = masked;
      }
    }
  }

  // Call once, before Scan.
  __device__ void Reduce(const typename Cell::Functions& functions, Transition<A> (&own)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) own[v] = Transition<A>::Identity();
#pragma unroll
    for (int first = 0; first < kRows; first += kAtOnce) {
      constexpr int kCount = kAtOnce * kVector;
      A in[Cell::kInputs][kCount];
      Unpack<0, Cell::kStepInputs>(first, in);
      Transition<A> computed[kCount];
      Step(functions, in, computed);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int row = first + i / kVector, v = i % kVector;
        if (!Cell::kIsGradient && IsReset(row)) own[v] = Transition<A>::Zero();
        const bool is_first = row == 0 && !Cell::kFlags;
        own[v] = is_first ? computed[i] : Compose(own[v], computed[i]);
        if (Cell::kIsGradient && IsReset(row)) own[v] = Transition<A>::Zero();
        if constexpr (kKeeps) kept.values[row][v].Keep(own[v]);
      }
    }
  }

  // Advances the state over the rows and writes their outputs, from `first_row` and `column` on.
  // Adds the outputs to `sums`.
  __device__ void Scan(const typename Cell::Functions& functions, const Windows<Cell, T>& windows,
                       int64_t first_row, int64_t column, A (&state)[kVector],
                       OutputSums<Cell, kVector>& sums) const {
    T* to[Cell::kOutputs];
    int64_t row_bytes[Cell::kOutputs];
#pragma unroll
    for (int k = 0; k < Cell::kOutputs; ++k) {
      to[k] = windows.Output(k, first_row, column);
      row_bytes[k] = windows.OutputRowBytes(k);
    }
    // The other cells do so little that a test for each row would count.
    if (!Cell::kGated && count == kRows && (!Cell::kFlags || skipped == 0)) {
      ScanRows<true>(functions, windows, to, row_bytes, state, sums);
    } else {
      ScanRows<false>(functions, windows, to, row_bytes, state, sums);
    }
  }

 private:
  __device__ bool IsReset(int row) const { return Cell::kFlags && (resets >> row & 1) != 0; }
  __device__ bool IsSkipped(int row) const { return (skipped >> row & 1) != 0; }

  // Rows that are computed together: enough to hide latencies, few enough for the registers.
  static constexpr int kAtOnce = !Cell::kGated ? 1 : (Cell::kIsGradient ? 4 : 8) / kVector;
  static_assert(kRows % kAtOnce == 0);

  // Cells without gates are written for one element.
  template <int kCount>
  __device__ static void Step(const typename Cell::Functions& functions,
                              const A (&in)[Cell::kInputs][kCount],
                              Transition<A> (&computed)[kCount]) {
    if constexpr (Cell::kGated) {
      Cell::template Step<M>(functions, in, computed);
    } else {
      for (int i = 0; i < kCount; ++i) {
        A one[Cell::kInputs];
        for (int k = 0; k < Cell::kStepInputs; ++k) one[k] = in[k][i];
        computed[i] = Cell::template Step<M>(one);
      }
    }
  }
  template <int kCount>
  __device__ static void Emit(const typename Cell::Functions& functions,
                              const A (&in)[Cell::kInputs][kCount], const A (&before)[kCount],
                              const A (&after)[kCount], A (&out)[Cell::kOutputs][kCount]) {
    if constexpr (Cell::kGated) {
      Cell::template Emit<M>(functions, in, before, after, out);
    } else {
      for (int i = 0; i < kCount; ++i) {
        A one[Cell::kInputs], results[Cell::kOutputs];
        for (int k = 0; k < Cell::kInputs; ++k) one[k] = in[k][i];
        Cell::template Emit<M>(one, before[i], after[i], results);
        for (int k = 0; k < Cell::kOutputs; ++k) out[k][i] = results[k];
      }
    }
  }

  // The inputs in [kFirst, kEnd) of several rows.
  template <int kFirst, int kEnd, int kCount>
  __device__ void Unpack(int first_row, A (&in)[Cell::kInputs][kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      A one[Cell::kInputs];
#pragma unroll
      for (int k = kFirst; k < kEnd; ++k) {
        if (kDecaysInMemory && k == Cell::kBroadcast) continue;
        one[k] = values[k][first_row + i / kVector].Rematerialize().Get(i % kVector);
      }
      if constexpr (kDecaysInMemory)
        one[Cell::kBroadcast] = decays.Get(first_row + i / kVector, i % kVector);
      if constexpr (Cell::kGated) biases.AddTo(one, kFirst, kEnd, i % kVector);
#pragma unroll
      for (int k = kFirst; k < kEnd; ++k) in[k][i] = one[k];
    }
  }

  // kFull: all rows are written, and none is masked.
  template <bool kFull>
  __device__ void ScanRows(const typename Cell::Functions& functions,
                           const Windows<Cell, T>& windows, T* (&to)[Cell::kOutputs],
                           const int64_t (&row_bytes)[Cell::kOutputs], A (&state)[kVector],
                           [[maybe_unused]] OutputSums<Cell, kVector>& sums) const {
    A latest[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) latest[v] = state[v];
    // Bits of the rows that have forgotten the state before them all: from the first reset on.
    [[maybe_unused]] const unsigned forgotten = Cell::kFlags ? ~(resets - 1) | resets : 0;
#pragma unroll
    for (int first = 0; first < kRows; first += kAtOnce) {
      constexpr int kCount = kAtOnce * kVector;
      A in[Cell::kInputs][kCount], before[kCount], after[kCount], out[Cell::kOutputs][kCount];
      Unpack<kKeeps ? Cell::kStepInputs : 0, Cell::kInputs>(first, in);
      Transition<A> computed[kCount];
      if constexpr (!kKeeps) Step(functions, in, computed);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int row = first + i / kVector, v = i % kVector;
        before[i] = !Cell::kIsGradient && IsReset(row) ? A(0) : latest[v];
        if constexpr (kKeeps) {
          const Transition<A> all = kept.values[row][v].Get();
          after[i] =
              Cell::kFlags && (forgotten >> row & 1) != 0 ? all.impulse : all.Apply(state[v]);
        } else {
          after[i] = computed[i].Apply(before[i]);
        }
        if (Cell::kIsGradient && IsReset(row)) after[i] = A(0);
        latest[v] = after[i];
      }
      Emit(functions, in, before, after, out);
#pragma unroll
      for (int row = 0; row < kAtOnce; ++row) {
#pragma unroll
        for (int k = 0; k < Cell::kOutputs; ++k) {
          A results[kVector];
#pragma unroll
          for (int v = 0; v < kVector; ++v) results[v] = out[k][row * kVector + v];
          const bool exists = kFull || first + row < count;
          if constexpr (Cell::kFlags && !Cell::kGated && Cell::kIsGradient && !kFull) {
#pragma unroll
            for (int v = 0; v < kVector; ++v) {
              if (IsSkipped(first + row)) results[v] = A(0);
            }
          }
          if constexpr (kSumsOutputs<Cell>) {
#pragma unroll
            for (int v = 0; v < kVector; ++v) sums.Add(k, v, exists ? results[v] : 0.0f);
          }
          const bool wanted = exists && windows.IsWanted(k);
          if (wanted) StorePack(to[k], Pack::Of(results), kAligned, columns);
          to[k] = AdvanceRow(to[k], row_bytes[k]);
        }
      }
    }
#pragma unroll
    for (int v = 0; v < kVector; ++v) state[v] = latest[v];
  }
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_THREAD_ROWS_CUH_
