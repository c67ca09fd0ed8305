// SPDX-License-Identifier: MIT
// Few long chains on a GPU: a kernel that spreads every chain over all multiprocessors.
//
// A chain is all steps of a range of columns, one or two for each lane of a warp. A block takes one
// tile of it, kWarps x kRows steps, each thread kRows of them, in registers. So memory is read and
// written once, and nothing is staged:
//
//   load       every thread its rows, all loads in flight at once;
//   reduce     each thread its rows to one transition per column; warps share theirs;
//   look back  the tile publishes its transition; the carry into the tile is the state before its
//              segment of kSegment tiles, taken through the transitions of the segment's earlier
//              tiles. The state before a segment is the nearest one published, taken through the
//              transitions of the segments in between. Every state so has one order of
//              combination, whatever is found published: no timing changes a bit of the result;
//   scan       each thread its rows, from the carry taken through the transitions of the warps
//              before; and write.
//
// While tiles look back no loads would be in flight; so each block also asks the second-level cache
// for a tile that will be loaded soon. It is taken for granted, as in other single-pass scans, that
// blocks start in the order of their numbers: then a tile's predecessors are done or running, and
// no tile waits for one that cannot start.
#ifndef TF_PLR_ENGINE_GPU_REGISTER_TILES_CUH_
#define TF_PLR_ENGINE_GPU_REGISTER_TILES_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/cells.h"
#include "cc/engine/gpu_exchange.cuh"
#include "cc/engine/gpu_types.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

template <typename CellType, typename Element, int kVectorValue>
class RegisterTile {
 public:
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;

  // Columns of a lane; 2 makes a pair of 16-bit elements one load.
  static constexpr int kVector = kVectorValue;
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarp;
  // 128 bytes of each input in a thread's registers, or 64, if only so two blocks find room. 16-bit
  // gradients are better off with one block.
  static constexpr int kWordBytes = kVector * sizeof(T) < 4 ? 4 : kVector * sizeof(T);
  static constexpr bool kManyInputs = Cell::kInputs > 2;
  static constexpr int kRows = (kManyInputs && sizeof(T) > 2 ? 64 : 128) / kWordBytes;
  static constexpr int kTileRows = kWarps * kRows;
  static constexpr int kBlocksPerMultiprocessor = kManyInputs && sizeof(T) == 2 ? 1 : 2;
  static constexpr int kSegment = 4;
  // Segments that are inspected together.
  static constexpr int kWindow = 8;

  struct Params {
    Problem problem;
    Arrays<Cell, T> arrays;
    int64_t column_tiles;  // Chains in an outer slice.
    int64_t chains;
    int64_t chain_tiles;        // Tiles of a chain.
    int64_t prefetch_distance;  // In tiles, by number.
    StatusWord* status;         // [chain_tiles and then segments, chains, kColumns, kStatusWords]
  };

  struct Shared {
    Transition<A> of_warp[kWarps][kColumns];
    Transition<A> of_tile[kSegment - 1][kColumns];  // Of the segment's earlier tiles.
    Transition<A> of_segment[kColumns];             // Up to this tile.
    A before_segment[kColumns];
  };

  __device__ RegisterTile(const Params& params, Shared& shared)
      : p_(params),
        shared_(shared),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        place_(PlaceOf(blockIdx.x)),
        segment_(place_.tile / kSegment),
        in_segment_(static_cast<int>(place_.tile % kSegment)),
        row_stride_(params.problem.reverse ? -params.problem.inner : params.problem.inner),
        column_(place_.inner + lane_ * kVector),
        first_step_(place_.tile * kTileRows + warp_ * kRows),
        rows_(column_ < params.problem.inner
                  ? static_cast<int>(
                        max(int64_t{0}, min(params.problem.steps - first_step_, int64_t{kRows})))
                  : 0),
        offset_(OffsetOf(place_, first_step_) + lane_ * kVector) {}

  __device__ void Run() {
    Pack values[Cell::kInputs][kRows];
    Load(values);
    Prefetch(PlaceOf(blockIdx.x + p_.prefetch_distance));
    Reduce(values);
    __syncthreads();  // Publishes the warps' transitions to all warps.
    if (warp_ < kVector) {
      const int column = warp_ * kWarp + lane_;
      PublishTile(column);
      FindStateBeforeSegment(column);
    } else if (warp_ < 2 * kVector) {
      FindTilesOfSegment((warp_ - kVector) * kWarp + lane_);
    }
    __syncthreads();  // Publishes what these found.
    A state[kVector];
    Carry(state);
    Scan(values, state);
  }

 private:
  using Pack = gpu::Pack<T, kVector>;

  // Tiles of all chains advance together.
  struct Place {
    int64_t chain, tile;
    int64_t outer, inner;  // Of the chain's first column.
  };

  __device__ Place PlaceOf(int64_t number) const {
    Place place;
    place.tile = number / p_.chains;
    place.chain = number - place.tile * p_.chains;
    place.outer = place.chain / p_.column_tiles;
    place.inner = (place.chain - place.outer * p_.column_tiles) * kColumns;
    return place;
  }

  // Of a step of the place's first column in every step array.
  __device__ int64_t OffsetOf(const Place& place, int64_t step) const {
    const Problem& problem = p_.problem;
    const int64_t row = problem.reverse ? problem.steps - 1 - step : step;
    return (place.outer * problem.steps + row) * problem.inner + place.inner;
  }

  __device__ bool EndsChain() const { return place_.tile + 1 == p_.chain_tiles; }
  __device__ bool EndsSegment() const { return in_segment_ == kSegment - 1 && !EndsChain(); }

  // Rows that do not exist are left zero, and not used.
  __device__ void Load(Pack (&values)[Cell::kInputs][kRows]) const {
    const bool full =
        rows_ == kRows && (Cell::kLookahead < 0 || first_step_ + kRows < p_.problem.steps);
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      const T* from = p_.arrays.inputs[k] + offset_;
      if (k == Cell::kLookahead) from += row_stride_;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (!full) values[k][row] = Pack{};
        if (full || row < RowsInMemory(k)) {
          values[k][row] = *reinterpret_cast<const Pack*>(from + row * row_stride_);
        }
      }
    }
    if (!full && Cell::kLookahead >= 0) LoadBoundary(values);
  }

  // The lookahead of the chain's last row is the boundary.
  __device__ int RowsInMemory(int input) const {
    const bool has_last = rows_ > 0 && first_step_ + rows_ == p_.problem.steps;
    return rows_ - (input == Cell::kLookahead && has_last ? 1 : 0);
  }

  __device__ void LoadBoundary(Pack (&values)[Cell::kInputs][kRows]) const {
    constexpr int k = Cell::kLookahead >= 0 ? Cell::kLookahead : 0;
    if (p_.arrays.boundary == nullptr || RowsInMemory(k) == rows_) return;
    const T* from = p_.arrays.boundary + place_.outer * p_.problem.inner + column_;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row + 1 == rows_) values[k][row] = *reinterpret_cast<const Pack*>(from);
    }
  }

  // A thread asks for one cache line of each input; all that are, if rows are aligned to lines.
  __device__ void Prefetch(const Place& place) const {
    constexpr int kLine = 128 / sizeof(T);
    constexpr int kRowLines = kColumns > kLine ? kColumns / kLine : 1;
    static_assert(kTileRows * kRowLines <= kThreads);
    if (threadIdx.x >= kTileRows * kRowLines) return;
    const int64_t step = place.tile * kTileRows + threadIdx.x / kRowLines;
    const int column = threadIdx.x % kRowLines * kLine;
    if (step >= p_.problem.steps || place.inner + column >= p_.problem.inner) return;
    const int64_t offset = OffsetOf(place, step) + column;
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      gpu::Prefetch(p_.arrays.inputs[k] + offset);
    }
  }

  __device__ void Reduce(const Pack (&values)[Cell::kInputs][kRows]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      Transition<A> own = Transition<A>::Identity();
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        A in[Cell::kInputs];
#pragma unroll
        for (int k = 0; k < Cell::kStepInputs; ++k) in[k] = values[k][row].Get(v);
        const Transition<A> longer = Compose(own, Cell::Step(in));
        if (row < rows_) own = longer;
      }
      shared_.of_warp[warp_][lane_ * kVector + v] = own;
    }
  }

  // ---- Looking back, a thread for each column ----

  __device__ Transition<A> OfTile(int column) const {
    Transition<A> whole = shared_.of_warp[0][column];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) {
      whole = Compose(whole, shared_.of_warp[warp][column]);
    }
    return whole;
  }

  // Segments follow the tiles.
  __device__ StatusWord* StatusOf(int64_t tile_or_segment, int column) const {
    return p_.status +
           ((tile_or_segment * p_.chains + place_.chain) * kColumns + column) * kStatusWords<A>;
  }
  __device__ StatusWord* StatusOfSegment(int64_t segment, int column) const {
    return StatusOf(p_.chain_tiles + segment, column);
  }

  __device__ void PublishTile(int column) const {
    if (!EndsChain()) Publish(StatusOf(place_.tile, column), OfTile(column), kTransition);
  }

  __device__ void FindStateBeforeSegment(int column) {
    shared_.before_segment[column] =
        segment_ == 0 ? InitialCarry(column) : StateBeforeSegment(column);
  }

  __device__ A InitialCarry(int column) const {
    return p_.arrays.initial_carry == nullptr || place_.inner + column >= p_.problem.inner
               ? A(0)
               : A(p_.arrays
                       .initial_carry[place_.outer * p_.problem.inner + place_.inner + column]);
  }

  __device__ A StateBeforeSegment(int column) const {
    Transition<A> found[kWindow];
    int nearest;
    do {
      uint64_t flags[kWindow];
#pragma unroll
      for (int i = 0; i < kWindow; ++i) {
        flags[i] = i < segment_ ? Inspect(StatusOfSegment(segment_ - 1 - i, column), &found[i])
                                : uint64_t{kNothing};
      }
      nearest = -1;
#pragma unroll
      for (int i = kWindow - 1; i >= 0; --i) {
        if (flags[i] == kState) nearest = i;
        if (flags[i] == kNothing) nearest = -1;
      }
    } while (nearest < 0);
    A state = A(0);
#pragma unroll
    for (int i = kWindow - 1; i >= 0; --i) {
      if (i == nearest) state = found[i].impulse;
      if (i < nearest) state = found[i].Apply(state);
    }
    return state;
  }

  __device__ void FindTilesOfSegment(int column) {
    Transition<A> found[kSegment - 1];
    bool missing;
    do {
      missing = false;
#pragma unroll
      for (int i = 0; i < kSegment - 1; ++i) {
        found[i] = Transition<A>::Identity();
        if (i < in_segment_) {
          const int64_t tile = segment_ * kSegment + i;
          missing |= Inspect(StatusOf(tile, column), &found[i]) == kNothing;
        }
      }
    } while (missing);
    Transition<A> all = found[0];
#pragma unroll
    for (int i = 0; i < kSegment - 1; ++i) {
      if (i > 0) all = Compose(all, found[i]);
      shared_.of_tile[i][column] = found[i];
    }
    all = Compose(all, OfTile(column));
    shared_.of_segment[column] = all;
    if (EndsSegment()) Publish(StatusOfSegment(segment_, column), all, kTransition);
  }

  // ---- From the carry on ----

  // The state before this thread's rows.
  __device__ void Carry(A (&state)[kVector]) const {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      const int column = lane_ * kVector + v;
      state[v] = shared_.before_segment[column];
      if (warp_ == 0 && EndsSegment()) {
        Publish(StatusOfSegment(segment_, column),
                Transition<A>{A(0), shared_.of_segment[column].Apply(state[v])}, kState);
      }
      for (int i = 0; i < in_segment_; ++i) {
        state[v] = shared_.of_tile[i][column].Apply(state[v]);
      }
#pragma unroll
      for (int warp = 0; warp < kWarps - 1; ++warp) {
        if (warp < warp_) state[v] = shared_.of_warp[warp][column].Apply(state[v]);
      }
    }
  }

  __device__ void Scan(const Pack (&values)[Cell::kInputs][kRows], A (&state)[kVector]) const {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      A results[Cell::kOutputs][kVector];
      if (row < rows_) {
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          A in[Cell::kInputs], out[Cell::kOutputs];
#pragma unroll
          for (int k = 0; k < Cell::kInputs; ++k) in[k] = values[k][row].Anew().Get(v);
          const A before = state[v];
          state[v] = Cell::Step(in).Apply(before);
          Cell::Emit(in, before, state[v], out);
#pragma unroll
          for (int k = 0; k < Cell::kOutputs; ++k) results[k][v] = out[k];
        }
#pragma unroll
        for (int k = 0; k < Cell::kOutputs; ++k) {
          *reinterpret_cast<Pack*>(p_.arrays.outputs[k] + offset_ + row * row_stride_) =
              Pack::Of(results[k]);
        }
      }
    }
    // The warp after whose rows the chain ends has the final carry; without rows they have it too.
    if (p_.arrays.final_carry != nullptr && EndsChain() && warp_ == kWarps - 1 &&
        column_ < p_.problem.inner) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        p_.arrays.final_carry[place_.outer * p_.problem.inner + column_ + v] = T(state[v]);
      }
    }
  }

  const Params& p_;
  Shared& shared_;
  const int warp_, lane_;
  const Place place_;
  const int64_t segment_;
  const int in_segment_;  // This tile's number in its segment.
  const int64_t row_stride_;
  const int64_t column_;      // This thread's first, within the outer slice.
  const int64_t first_step_;  // In processing order.
  const int rows_;            // 0 if its column or its first step does not exist.
  const int64_t offset_;      // Of its first row in every step array.
};

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    ScanTiles(const __grid_constant__ typename Tile::Params params) {
  extern __shared__ __align__(16) char shared[];
  Tile(params, *reinterpret_cast<typename Tile::Shared*>(shared)).Run();
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_REGISTER_TILES_CUH_
