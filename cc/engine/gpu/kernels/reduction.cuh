// SPDX-License-Identifier: MIT
// Reduces all steps of each column to one transition, on a GPU. Writes no step.
//
// A block reduces one chunk of the steps. It cuts the chunk into parts, one per thread: consecutive
// steps of one or two columns. The lanes of a warp have neighbouring columns; if rows are shorter
// than a warp, a warp has several parts. A thread loads its rows batch by batch, with all loads of
// a batch in flight at once. Then the block composes its parts, and a second kernel composes the
// chunks, both in processing order.
//
// If the product of the last decays of a gated cell is 0, no step before them matters. So if there
// are many steps, the last ones are reduced first, and a block skips the others if all of its
// columns have forgotten them. For finite values, the results are the same. NaN and infinity in the
// skipped steps have no effect either.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_REDUCTION_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_REDUCTION_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/kernels/thread_rows.cuh"
#include "cc/engine/gpu/kernels/windows.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

// A range of steps, in processing order. Steps from `end` on, if any, are already reduced.
struct Span {
  int64_t first, end;
  bool is_last;  // There are no steps from `end` on.
};

// Whether the state after these steps is independent of the state before them.
__device__ inline bool Forgets(const ColumnTransitions<float>& transitions, int64_t column) {
  return transitions.decays[column] == 0;
}

template <typename CellType, typename Element, int kVectorValue>
class Reduction {
 public:
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;

  static constexpr int kVector = kVectorValue;  // Columns of a lane.
  static constexpr int kThreads = 256;
  static constexpr int kRows = Cell::kGated ? 8 / kVector : 64 / sizeof(A);  // Of a batch.
  static constexpr int kBlocksPerMultiprocessor = 2;
  static constexpr int kSharedBytes = kThreads * kVector * sizeof(Transition<A>);
  // Decays of other cells may exceed 1: a product that has underflowed to 0 could have grown again.
  static constexpr bool kMayForget = Cell::kGated;

  struct Params {
    Problem problem;
    Arrays<Cell, T> arrays;
    int lane_bits;         // A row takes 2^lane_bits lanes: at least its columns, or a warp.
    int64_t column_tiles;  // Of an outer slice.
    bool aligned;          // Whether rows are aligned to packs.
    Span span;
    int64_t part_steps;  // Of a thread.
    int64_t chunks;
    Transition<A>* of_chunks;  // [chunks, columns].
    ColumnTransitions<A> whole;
  };

  // tile: a range of columns, counted over all outer slices.
  __device__ Reduction(const Params& params, Transition<A>* shared, int64_t tile)
      : p_(params),
        thread_(static_cast<int>(threadIdx.x)),
        lanes_(1 << params.lane_bits),
        shared_(shared + thread_ * kVector),
        windows_{params.problem, params.arrays},
        outer_(Divide(tile, params.column_tiles)),
        column_((tile - outer_ * params.column_tiles) * kWarp * kVector +
                (thread_ & (lanes_ - 1)) * kVector),
        columns_(static_cast<int>(min(params.problem.inner - column_, int64_t{kWarp * kVector}))) {}

  __device__ void Run() {
    const int64_t inner = p_.problem.inner, first = outer_ * inner + column_;
    if constexpr (kMayForget) {
      if (!p_.span.is_last && AllForget(first)) return;
    }
    Transition<A> own[kVector];
    ReducePart(own);
    ComposeParts(own);
    if (thread_ >= lanes_) return;
    Transition<A>* const to = p_.of_chunks + blockIdx.y * p_.problem.outer * inner + first;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      if (v < columns_) to[v] = own[v];
    }
  }

 private:
  using Decays = std::conditional_t<(Cell::kBroadcast >= 0), DecaysInMemory<Cell, T, kVector>,
                                    DecaysAreValues>;
  using Rows = ThreadRows<Cell, T, kVector, kRows, /*kAligned=*/true, Decays>;  // Does not Scan.
  using Pack = typename Rows::Pack;

  // Whether all columns of the block have forgotten the steps of this span.
  __device__ bool AllForget(int64_t first) const {
    bool forget = true;
    for (int v = 0; v < min(kVector, columns_); ++v) forget &= Forgets(p_.whole, first + v);
    return __syncthreads_and(forget);
  }

  __device__ void ReducePart(Transition<A> (&own)[kVector]) const {
    const int64_t parts = kThreads >> p_.lane_bits;
    const int64_t part = blockIdx.y * parts + (thread_ >> p_.lane_bits);
    const int64_t first = p_.span.first + part * p_.part_steps;
    const int64_t end = min(first + p_.part_steps, p_.span.end);
    Rows rows;
    if constexpr (Cell::kGated) rows.biases.Load(p_.arrays, column_, columns_);
#pragma unroll
    for (int v = 0; v < kVector; ++v) own[v] = Transition<A>::Identity();
    for (int64_t step = first; step < end; step += kRows) {
      const int64_t left = min(end - step, int64_t{kRows});
      const int64_t row =
          outer_ * p_.problem.steps + (p_.problem.reverse ? p_.problem.steps - 1 - step : step);
      // All lanes of a warp get here together, as they must: a row with flags takes a whole warp.
      const FlagsOfRow flags = windows_.Flags(row, left, thread_ % kWarp);
      rows.count = columns_ > 0 ? static_cast<int>(left) : 0;
      if (rows.count == kRows && p_.aligned) {
        Load<true>(rows, row);
      } else {
        Load<false>(rows, row);
      }
      if constexpr (Rows::kDecaysInMemory) {
        const DecayColumns<Cell, T, kVector> decays(p_.problem, p_.arrays, outer_, column_,
                                                    columns_);
        rows.decays.Set(decays.From(step));
      }
      rows.Skip(left, flags);
      Transition<A> of_rows[kVector];
      rows.Reduce(p_.arrays.gated.functions, of_rows);
#pragma unroll
      for (int v = 0; v < kVector; ++v) own[v] = Compose(own[v], of_rows[v], Cell::kFlags);
    }
  }

  template <bool kFull>
  __device__ void Load(Rows& rows, int64_t first_row) const {
#pragma unroll
    for (int k = 0; k < Cell::kStepInputs; ++k) {
      const bool is_given =
          k != Cell::kBroadcast && k < Cell::StepInputs(p_.arrays.gated.functions);
      const T* from = windows_.Input(k, first_row, column_);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        rows.values[k][row] = Pack{};
        if (is_given && (kFull || row < rows.count)) {
          rows.values[k][row] = LoadPack<kVector>(from, kFull || p_.aligned, columns_);
        }
        from = AdvanceRow(from, windows_.InputRowBytes(k));
      }
    }
  }

  // Composes the parts of each column into the thread of the first part. Each round composes
  // neighbouring parts.
  __device__ void ComposeParts(Transition<A> (&own)[kVector]) const {
    for (int distance = lanes_; distance < kThreads; distance *= 2) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) shared_[v] = own[v];
      __syncthreads();  // Publishes all parts' transitions.
      if ((thread_ & (2 * distance - 1)) < lanes_) {
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          own[v] = Compose(own[v], shared_[distance * kVector + v], Cell::kFlags);
        }
      }
      __syncthreads();  // Everyone has read them.
    }
  }

  const Params& p_;
  const int thread_, lanes_;
  Transition<A>* const shared_;  // This thread's.
  const Windows<Cell, T> windows_;
  const int64_t outer_, column_;  // The first column, within the outer slice.
  const int columns_;             // That exist, from column_ on; 0 or less if none does.
};

template <typename Reduction>
__global__ void __launch_bounds__(Reduction::kThreads, Reduction::kBlocksPerMultiprocessor)
    ReduceChunks(const __grid_constant__ typename Reduction::Params params) {
  extern __shared__ __align__(16) char shared[];
  auto* const parts = reinterpret_cast<Transition<typename Reduction::A>*>(shared);
  const int64_t tiles = params.problem.outer * params.column_tiles;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    Reduction(params, parts, tile).Run();
  }
}

template <typename A>
struct ChunkParams {
  const Transition<A>* of_chunks;
  int64_t chunks, columns;
  bool is_last;  // Of the spans.
  ColumnTransitions<A> whole;
};

// A warp composes one column; each lane composes a range of its chunks.
// kForgets: as for Compose.
template <typename A, bool kMayForget, bool kForgets>
__global__ void ComposeChunks(const __grid_constant__ ChunkParams<A> p) {
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (column >= p.columns) return;
  if constexpr (kMayForget) {
    if (!p.is_last && Forgets(p.whole, column)) return;
  }
  const int64_t chunks = (p.chunks + kWarp - 1) / kWarp;
  const int64_t end = min((lane + 1) * chunks, p.chunks);
  Transition<A> own = Transition<A>::Identity();
#pragma unroll 4
  for (int64_t chunk = lane * chunks; chunk < end; ++chunk) {
    own = Compose(own, p.of_chunks[chunk * p.columns + column], kForgets);
  }
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const Transition<A> later = Shuffle(own, lane + distance);
    if (lane % (2 * distance) == 0) own = Compose(own, later, kForgets);
  }
  if (lane > 0) return;
  if constexpr (kMayForget) {
    const Transition<A> last{p.whole.decays[column], p.whole.impulses[column]};
    if (!p.is_last) own = Compose(own, last, kForgets);
  }
  p.whole.decays[column] = own.decay;
  p.whole.impulses[column] = own.impulse;
}

// The plan depends on the problem only, and so do the results.
template <typename Reduction>
class ReductionPlan {
  using A = typename Reduction::A;

 public:
  template <typename Arrays>
  ReductionPlan(const Problem& problem, const Arrays& arrays) {
    params_.problem = problem;
    params_.arrays = arrays;
    using Cell = typename Reduction::Cell;
    constexpr bool kShortRows = !Cell::kGated && !Cell::kFlags && Reduction::kVector == 1;
    params_.lane_bits = kWarpBits;
    while (kShortRows && params_.lane_bits > 0 && 1 << (params_.lane_bits - 1) >= problem.inner) {
      --params_.lane_bits;
    }
    params_.column_tiles = CeilDiv(problem.inner, kWarp * Reduction::kVector);
    params_.aligned =
        RowsAreAligned(problem, arrays, sizeof(typename Reduction::T) * Reduction::kVector);
  }

  size_t workspace_bytes() const {
    int64_t most = 0;
    ForEachSpan([&](const Span& span) { most = std::max(most, ParamsOf(span).chunks); });
    return most * params_.problem.columns() * sizeof(Transition<A>);
  }

  cudaError_t Launch(const ColumnTransitions<A>& whole, void* workspace, cudaStream_t stream) {
    params_.of_chunks = static_cast<Transition<A>*>(workspace);
    params_.whole = whole;
    cudaError_t error = cudaSuccess;
    ForEachSpan([&](const Span& span) {
      if (error == cudaSuccess) error = LaunchSpan(ParamsOf(span), stream);
    });
    return error;
  }

 private:
  using Params = typename Reduction::Params;

  // Several blocks for each multiprocessor of the largest GPUs.
  static constexpr int64_t kManyBlocks = 1024;
  // More would not make it faster.
  static constexpr int64_t kMostBlocks = 1 << 20;
  // 1 / kLastFraction of all steps, at least kMinLastSpan: the last span costs two more launches.
  static constexpr int64_t kLastFraction = 16, kMinLastSpan = 4096;

  // Calls function(span) for each span, the last one first.
  template <typename Function>
  void ForEachSpan(const Function& function) const {
    const int64_t steps = params_.problem.steps;
    const int64_t last = std::max(kMinLastSpan, steps / kLastFraction);
    const int64_t first = Reduction::kMayForget && steps >= 2 * last ? steps - last : 0;
    function({first, steps, true});
    if (first > 0) function({0, first, false});
  }

  Params ParamsOf(const Span& span) const {
    Params params = params_;
    const int64_t steps = span.end - span.first;
    const int64_t parts = Reduction::kThreads >> params.lane_bits;
    const int64_t most_parts = parts * std::max<int64_t>(1, kManyBlocks / tiles());
    params.span = span;
    params.part_steps = Reduction::kRows *
                        std::max<int64_t>(1, CeilDiv(CeilDiv(steps, most_parts), Reduction::kRows));
    params.chunks = std::max<int64_t>(1, CeilDiv(steps, parts * params.part_steps));
    return params;
  }

  cudaError_t LaunchSpan(const Params& params, cudaStream_t stream) const {
    const Grid grid{std::min(tiles(), kMostBlocks), params.chunks};
    const cudaError_t error = LaunchKernel<ReduceChunks<Reduction>>(
        {grid, Reduction::kThreads, Reduction::kSharedBytes, stream}, params);
    if (error != cudaSuccess) return error;
    constexpr int kThreads = 128;
    const int64_t columns = params.problem.columns();
    return LaunchKernel<ComposeChunks<A, Reduction::kMayForget, Reduction::Cell::kFlags>>(
        {CeilDiv(columns, kThreads / kWarp), kThreads, 0, stream},
        ChunkParams<A>{params.of_chunks, params.chunks, columns, params.span.is_last,
                       params.whole});
  }

  int64_t tiles() const { return params_.problem.outer * params_.column_tiles; }

  Params params_{};
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_REDUCTION_CUH_
