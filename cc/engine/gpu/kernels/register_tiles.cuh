// SPDX-License-Identifier: MIT
// A GPU kernel for few long chains: it spreads every chain over many blocks.
//
// A chain is all steps of a range of columns, one or two for each lane of a warp. A block takes one
// tile of a chain, kWarps x kRows steps; each thread holds kRows of them in registers. So memory is
// read and written once, and nothing is staged in shared memory:
//
//   load       each thread loads its rows, with all loads in flight at once;
//   reduce     each thread reduces its rows to one transition per column;
//   exchange   blocks exchange transitions to find the state before them: as a cluster if a chain
//              has few tiles (cluster.cuh), otherwise by looking back (block_look_back.cuh);
//   scan       each thread scans its rows from that state on, and writes the outputs.
//
// While tiles look back, no loads are in flight. So each block also prefetches, into the L2 cache,
// a tile that will be loaded soon. A multiprocessor runs only one or two blocks, which hide little
// latency: the number of instructions per row decides the speed.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_REGISTER_TILES_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_REGISTER_TILES_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/kernels/thread_rows.cuh"
#include "cc/engine/gpu/look_back/block_look_back.cuh"
#include "cc/engine/gpu/look_back/cluster.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

template <typename Cell, typename T>
struct RegisterTileParams {
  Problem problem;
  Arrays<Cell, T> arrays;
  int64_t column_tiles;  // Chains in an outer slice.
  int64_t chains;
  int64_t concurrent_chains;  // All, or those of an outer slice.
  int64_t chain_tiles;        // Tiles of a chain.
  int64_t prefetch_distance;  // In tiles, by number.
  StatusWord* status;         // See ChainStatus.
  float* sums;                // [outer, chain_tiles, d_bias_width]; null: not wanted.
};

// kCluster: the tiles of a chain run as a cluster; otherwise they look back. kAligned: the rows of
// all arrays are aligned to packs.
template <typename CellType, typename Element, int kVectorValue, bool kCluster, bool kAligned>
class RegisterTile {
 public:
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;

  static constexpr RegisterTileShape Shape() {
    return {kColumns, kTileRows, kBlocksPerMultiprocessor,
            ClusterExchange<A, kWarps, kVector>::kMaxTiles};
  }

  static constexpr bool kInClusters = kCluster;
  // Columns of a lane; 2 makes an aligned pair of 16-bit elements one load.
  static constexpr int kVector = kVectorValue;
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarp;
  // 128 bytes of each input in a thread's registers, or 64 bytes if two blocks would not fit
  // otherwise. 16-bit gradients run faster with one block.
  static constexpr int kWordBytes = kVector * sizeof(T) < 4 ? 4 : kVector * sizeof(T);
  static constexpr bool kManyInputs = Cell::kInputs > 2;
  // Gated cells have as many rows as fit in registers, both with all inputs and with what Reduce
  // keeps of them.
  static constexpr int kKeptWords =
      Cell::kInputs - Cell::kStepInputs + kVector * static_cast<int>(sizeof(KeptTransition<T>)) / 4;
  static constexpr int kGatedWords =
      Cell::kIsGradient || Cell::kInputs > kKeptWords ? Cell::kInputs : kKeptWords;
  static constexpr int kMostRows = Cell::kFlags ? 24 : 32;  // Flags take registers, too.
  static constexpr int kRowsOfGated = kGatedWords <= 2 ? kMostRows : kGatedWords <= 4 ? 16 : 8;
  static constexpr int kRows =
      Cell::kGated ? kRowsOfGated : (kManyInputs && sizeof(T) > 2 ? 64 : 128) / kWordBytes;
  static constexpr int kTileRows = kWarps * kRows;
  static constexpr int kBlocksPerMultiprocessor =
      kManyInputs && sizeof(T) == 2 && !Cell::kGated ? 1 : 2;
  // Of an outer slice: whole packs.
  TF_PLR_HOST_DEVICE static constexpr int64_t StatusColumns(int64_t inner) {
    return (inner + kVector - 1) / kVector * kVector;
  }
  using Exchange = std::conditional_t<kCluster, ClusterExchange<A, kWarps, kVector>,
                                      BlockLookBack<A, kWarps, kVector, Cell::kFlags>>;
  using Sums = OutputSums<Cell, kVector>;
  struct Shared {
    typename Exchange::Shared of_exchange;
    typename Sums::Shared sums[kSumsOutputs<Cell> ? kWarps : 1];
  };
  using Params = RegisterTileParams<Cell, T>;
  using Column = typename Arrays<Cell, T>::Column;

  __device__ RegisterTile(const Params& params, Shared& shared)
      : p_(params),
        shared_(shared),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        place_(PlaceOf(blockIdx.x)),
        windows_{params.problem, params.arrays},
        column_(place_.inner + lane_ * kVector),
        first_step_(place_.tile * kTileRows + warp_ * kRows),
        columns_(static_cast<int>(min(params.problem.inner - column_, int64_t{kColumns}))),
        rows_(columns_ > 0 ? static_cast<int>(max(int64_t{0}, StepsLeft())) : 0),
        first_row_(RowOf(place_, first_step_)) {}

  __device__ void Run() {
    Rows rows;
    rows.count = rows_;
    rows.columns = columns_;
    const FlagsOfRow flags = windows_.Flags(first_row_, StepsLeft(), lane_);
    if constexpr (Cell::kGated) {
      rows.biases.Load(p_.arrays, column_, columns_);
    }
    if (kAligned && IsFull()) {
      Load<true>(rows);
    } else {
      Load<false>(rows);
    }
    Exchange exchange = StartExchange();  // While loads arrive.
    rows.Skip(StepsLeft(), flags);
    Transition<A> own[kVector];
    const auto& functions = p_.arrays.gated.functions;
    rows.Reduce(functions, own);
    A initial_carry[kVector], state[kVector];
    InitialCarry(initial_carry);
    exchange.FindState(own, initial_carry, state);
    if constexpr (Cell::kGated) {  // Scan's transitions may be rounded.
      A last[kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) last[v] = own[v].Apply(state[v], Cell::kFlags);
      StoreFinalCarry(last);
    }
    Sums sums;
    rows.Scan(functions, windows_, first_row_, column_, state, sums);
    if constexpr (!Cell::kGated) StoreFinalCarry(state);
    if constexpr (kSumsOutputs<Cell>) StoreSums(sums);
  }

 private:
  using Rows = ThreadRows<Cell, T, kVector, kRows, kAligned>;
  using Pack = typename Rows::Pack;

  // Whether all rows and columns of the tile exist, and the lookahead.
  __device__ bool IsFull() const {
    const int64_t lookahead_rows = Cell::kLookahead >= 0 ? 1 : 0;
    return place_.inner + kColumns <= p_.problem.inner &&
           (place_.tile + 1) * kTileRows + lookahead_rows <= p_.problem.steps;
  }

  __device__ Exchange StartExchange() const {
    if constexpr (kCluster) {
      return Exchange(shared_.of_exchange, place_.tile, p_.chain_tiles);
    } else {
      Prefetch(PlaceOf(blockIdx.x + p_.prefetch_distance));
      WaitForPreviousKernel();  // The kernel before clears the status.
      const int64_t inner = StatusColumns(p_.problem.inner);
      const int64_t column = place_.outer * inner + min(column_, inner - kVector);
      const auto status =
          ChainStatus<A>::Of(column, p_.problem.outer * inner, p_.status, p_.chain_tiles);
      Exchange look_back(shared_.of_exchange, status, column_ < inner, place_.tile);
      look_back.Look();
      return look_back;
    }
  }

  struct Place {
    int64_t chain, tile;
    int64_t outer, inner;  // Of the chain's first column.
  };

  // With clusters, consecutive blocks are the tiles of one chain. Otherwise the tiles of
  // `concurrent_chains` chains advance together, and the next chains are in the grid's next row.
  __device__ Place PlaceOf(int64_t number) const {
    Place place;
    if constexpr (kCluster) {
      place.chain = Divide(number, p_.chain_tiles);
      place.tile = number - place.chain * p_.chain_tiles;
    } else {
      place.tile = Divide(number, p_.concurrent_chains);
      place.chain = number - place.tile * p_.concurrent_chains + blockIdx.y * p_.concurrent_chains;
    }
    place.outer = Divide(place.chain, p_.column_tiles);
    place.inner = (place.chain - place.outer * p_.column_tiles) * kColumns;
    return place;
  }

  // The number of a step's row.
  __device__ int64_t RowOf(const Place& place, int64_t step) const {
    const Problem& problem = p_.problem;
    return place.outer * problem.steps + (problem.reverse ? problem.steps - 1 - step : step);
  }

  // The number of steps from this thread's first step on, at most kRows; negative past the end.
  __device__ int64_t StepsLeft() const {
    return min(p_.problem.steps - first_step_, int64_t{kRows});
  }

  // Rows that do not exist are left zero.
  template <bool kFull>
  __device__ void Load(Rows& rows) const {
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      if (k == Cell::kBroadcast) {
        LoadDecays<kFull>(rows);
        continue;
      }
      const int64_t row_bytes = windows_.InputRowBytes(k);
      const T* from = windows_.Input(k, first_row_, column_);
      if (k == Cell::kLookahead) from = AdvanceRow(from, row_bytes);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (!kFull) rows.values[k][row] = Pack{};
        if (kFull || row < RowsInMemory(k)) {
          rows.values[k][row] = LoadPack<kVector>(from, kAligned, columns_);
        }
        from = AdvanceRow(from, row_bytes);
      }
    }
    if (!kFull && Cell::kLookahead >= 0) LoadBoundary(rows);
  }

  template <bool kFull>
  __device__ void LoadDecays(Rows& rows) const {
    if constexpr (Cell::kBroadcast >= 0) {
      Pack(&values)[kRows] = rows.values[Cell::kBroadcast];
      if (!kFull) {
#pragma unroll
        for (Pack& value : values) value = Pack{};
      }
      const DecayColumns<Cell, T, kVector> decays(p_.problem, p_.arrays, place_.outer, column_,
                                                  columns_);
      decays.From(first_step_).Load(kFull ? kRows : rows_, values);
    }
  }

  // The lookahead of the chain's last row is the boundary.
  __device__ int RowsInMemory(int input) const {
    const bool has_last = rows_ > 0 && first_step_ + rows_ == p_.problem.steps;
    return rows_ - (input == Cell::kLookahead && has_last ? 1 : 0);
  }

  __device__ void LoadBoundary(Rows& rows) const {
    constexpr int k = Cell::kLookahead >= 0 ? Cell::kLookahead : 0;
    if (p_.arrays.boundary == nullptr || RowsInMemory(k) == rows_) return;
    const T* from = p_.arrays.boundary + BoundaryOffset();
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row + 1 == rows_) rows.values[k][row] = LoadPack<kVector>(from, kAligned, columns_);
    }
  }

  // Each thread prefetches one cache line of each input. That covers the tile if rows are aligned
  // to cache lines.
  __device__ void Prefetch(const Place& place) const {
    constexpr int kLine = 128 / sizeof(T);
    constexpr int kRowLines = kColumns > kLine ? kColumns / kLine : 1;
    static_assert(kTileRows * kRowLines <= kThreads);
    if (threadIdx.x >= kTileRows * kRowLines) return;
    const int64_t step = place.tile * kTileRows + threadIdx.x / kRowLines;
    const int column = threadIdx.x % kRowLines * kLine;
    if (step >= p_.problem.steps || place.inner + column >= p_.problem.inner) return;
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      if (k == Cell::kBroadcast) continue;
      gpu::Prefetch(windows_.Input(k, RowOf(place, step), place.inner + column));
    }
  }

  __device__ int64_t BoundaryOffset() const { return place_.outer * p_.problem.inner + column_; }

  __device__ void InitialCarry(A (&carry)[kVector]) const {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      const bool needed = p_.arrays.initial_carry != nullptr && v < columns_ &&
                          Exchange::StartsFromInitialCarry(place_.tile);
      carry[v] = needed ? A(p_.arrays.initial_carry[BoundaryOffset() + v]) : A(0);
    }
  }

  __device__ void StoreSums(const Sums& sums) const {
    if (p_.sums == nullptr) return;
    sums.Put(shared_.sums[warp_], lane_);
    __syncthreads();  // Publishes the warps' sums.
    const auto& gated = p_.arrays.gated;
    float* const row = p_.sums + (place_.outer * p_.chain_tiles + place_.tile) * gated.d_bias_width;
    Sums::Write(shared_.sums, kWarps, gated, place_.inner, p_.problem.inner, row, threadIdx.x,
                kThreads);
  }

  // The last warp of the last tile has the final carry, even if it has no rows.
  __device__ void StoreFinalCarry(const A (&state)[kVector]) const {
    if (p_.arrays.final_carry == nullptr || place_.tile + 1 != p_.chain_tiles ||
        warp_ != kWarps - 1) {
      return;
    }
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      if (v < columns_) p_.arrays.final_carry[BoundaryOffset() + v] = Column(state[v]);
    }
  }

  const Params& p_;
  Shared& shared_;
  const int warp_, lane_;
  const Place place_;
  const Windows<Cell, T> windows_;
  const int64_t column_;      // This thread's first, within the outer slice.
  const int64_t first_step_;  // In processing order.
  const int columns_;         // That exist, from column_ on; 0 or less if none does.
  const int rows_;            // 0 if its column or its first step does not exist.
  const int64_t first_row_;   // Its number, over outer x steps.
};

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    ScanTiles(const __grid_constant__ typename Tile::Params params) {
  extern __shared__ __align__(16) char shared[];
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  if constexpr (Tile::kInClusters) return;  // This architecture has none.
#endif
  Tile(params, *reinterpret_cast<typename Tile::Shared*>(shared)).Run();
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_REGISTER_TILES_CUH_
