// SPDX-License-Identifier: MIT
// A GPU kernel for few columns: for problems whose rows do not fill a warp, for example if time is
// the last axis. (In 16 bits, a lane has two columns: 32 columns do not fill a warp.)
//
// A tile is all columns of consecutive rows, and so one piece of memory. A block copies it to
// shared memory as it is, and copies the outputs back. In between, each thread works on consecutive
// rows of one column:
//
//   reduce     the thread reduces its rows to one transition; the block scans these transitions
//              over the threads of each column;
//   carry      the block has the state before the tile (if it walks along its chains), or looks
//              back for it (if the tiles of a chain are spread over all blocks: see
//              team_look_back.cuh);
//   scan       the thread applies the transitions before its rows to the carry, and scans its
//              rows from there.
//
// A chain is all columns of one outer slice. Short chains share a tile, each in a slot of its own.
//
// While a block computes, other blocks of the same multiprocessor copy. Each block also prefetches,
// into the L2 cache, a tile that will be copied soon.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_SHARED_TILES_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_SHARED_TILES_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/kernels/broadcast.cuh"
#include "cc/engine/gpu/look_back/look_back.cuh"
#include "cc/engine/gpu/look_back/team_look_back.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

template <typename CellType, typename Element, bool kLookBackValue>
class SharedTile {
 public:
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;
  static constexpr bool kLookBack = kLookBackValue;

  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kBlocksPerMultiprocessor = 3;
  static constexpr int kUnrolled = Cell::kBroadcast >= 0 ? 2 : 4;  // Rows of a loop.
  static_assert(Cell::kOutputs <= Cell::kStepInputs, "outputs take the place of inputs");

  struct Params {
    Problem problem;
    Arrays<Cell, T> arrays;
    int lane_bits;        // A row takes 2^lane_bits lanes, one per column and some spare.
    int group_bits;       // 2^group_bits groups of threads share the columns of a tile.
    int rows;             // Of a thread.
    int slots;            // Chains in a tile; more than one only if the tile has all their steps.
    int64_t chain_tiles;  // Tiles of a chain.
    int64_t chain_sets;   // Sets of `slots` chains. A block takes one set.
    int64_t prefetch_distance;  // In blocks, by number.
    StatusWord* status;         // See ChainStatus.
  };

  struct Shared {
    Transition<A> of_warp[kWarps][kWarp];  // By slot of the warp, and column.
    Transition<A> of_tile[kWarp];          // By column; for looking back.
    A carry[kWarp];                        // The state before the tile, found by looking back.
  };

  // Of all inputs together, so that kBlocksPerMultiprocessor blocks fit.
  static constexpr int kTileBytes = (74 << 10) - static_cast<int>(sizeof(Shared));
  static constexpr int kTileElements = kTileBytes / (Cell::kInputs * sizeof(T));

  // Room for one input of a tile, at the address modulo 16 that it has in global memory.
  static constexpr int kStageBytes = (kTileElements * sizeof(T) + 15) / 16 * 16 + 16;
  static constexpr int kSharedBytes = (sizeof(Shared) + 15) / 16 * 16 + Cell::kInputs * kStageBytes;

  __device__ SharedTile(const Params& params, char* shared)
      : p_(params),
        shared_(*reinterpret_cast<Shared*>(shared)),
        stages_(shared + (sizeof(Shared) + 15) / 16 * 16),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        column_(threadIdx.x & ((1 << p_.lane_bits) - 1)),
        group_(threadIdx.x >> p_.lane_bits & ((1 << p_.group_bits) - 1)),
        slot_(threadIdx.x >> (p_.lane_bits + p_.group_bits)),
        group_bits_in_warp_(min(p_.group_bits, kWarpBits - p_.lane_bits)),
        warps_in_chain_(1 << max(0, p_.group_bits + p_.lane_bits - kWarpBits)) {}

  __device__ void Run() {
    if constexpr (kLookBack) {
      // Tiles of all chains advance together.
      const int64_t ahead = blockIdx.x + p_.prefetch_distance;
      tile_ = Divide(blockIdx.x, p_.chain_sets);
      chain_ = blockIdx.x - tile_ * p_.chain_sets;
      const int64_t tile_ahead = Divide(ahead, p_.chain_sets);
      RunTile(PieceOf(ahead - tile_ahead * p_.chain_sets, tile_ahead));
    } else {
      chain_ = int64_t{blockIdx.x} * p_.slots;
      const int64_t chain_ahead = chain_ + p_.prefetch_distance * p_.slots;
      for (tile_ = 0; tile_ < p_.chain_tiles; ++tile_) {
        const bool last = tile_ + 1 == p_.chain_tiles;
        RunTile(last ? PieceOf(chain_ahead, 0) : PieceOf(chain_, tile_ + 1));
      }
    }
  }

 private:
  // A tile as it lies in memory.
  struct Piece {
    int64_t offset;
    int rows;    // Of one slot.
    int length;  // 0 if there is no such tile.
  };

  __device__ Piece PieceOf(int64_t chain, int64_t tile) const {
    const Problem& problem = p_.problem;
    if (chain >= problem.outer || tile >= p_.chain_tiles) return {0, 0, 0};
    const int64_t tile_rows = static_cast<int64_t>(p_.rows) << p_.group_bits;
    const int64_t begin = tile * tile_rows;
    const int64_t end = min(begin + tile_rows, problem.steps);
    const int64_t first_row = problem.reverse ? problem.steps - end : begin;
    const int64_t chains = min(int64_t{p_.slots}, problem.outer - chain);
    return {(chain * problem.steps + first_row) * problem.inner, static_cast<int>(end - begin),
            static_cast<int>(chains * (end - begin) * problem.inner)};
  }

  // This thread's rows of a tile.
  struct Part {
    int rows;      // 0 if the column or the chain does not exist, or has ended.
    bool is_last;  // The chain ends with them.
    int first;     // Element of the first one within the piece.
    int stride;    // From row to row, in processing order.
  };

  __device__ Part PartOf(const Piece& piece) const {
    const int inner = static_cast<int>(p_.problem.inner);
    const int first_row = group_ * p_.rows;
    Part part;
    const bool exists = column_ < inner && chain_ + slot_ < p_.problem.outer;
    part.rows = exists ? max(0, min(piece.rows - first_row, p_.rows)) : 0;
    part.is_last =
        part.rows > 0 && tile_ + 1 == p_.chain_tiles && first_row + part.rows == piece.rows;
    const int row = p_.problem.reverse ? piece.rows - 1 - first_row : first_row;
    part.first = (slot_ * piece.rows + row) * inner + column_;
    part.stride = p_.problem.reverse ? -inner : inner;
    return part;
  }

  __device__ void RunTile(const Piece& ahead) {
    const Piece piece = PieceOf(chain_, tile_);
    CopyIn(piece);
    Prefetch(ahead);
    CommitCopies();
    WaitForCopies();
    __syncthreads();  // Publishes every thread's copies to all.

    if constexpr (kLookBack) {
      WaitForPreviousKernel();  // The kernel before clears the status.
      // For one column, looking back early is free. For many, it would delay other blocks' copies.
      if (p_.problem.inner == 1) StartToLookBack();
    }
    const Part part = PartOf(piece);
    const Transition<A> own = Reduce(part, piece);
    const Transition<A> before = ScanOverWarp(own);  // Of this warp's earlier groups.
    const int in_warp = (lane_ >> (group_bits_in_warp_ + p_.lane_bits) << p_.lane_bits) + column_;
    if ((lane_ >> p_.lane_bits & ((1 << group_bits_in_warp_) - 1)) ==
        (1 << group_bits_in_warp_) - 1) {
      shared_.of_warp[warp_][in_warp] = Compose(before, own);
    }
    __syncthreads();  // Publishes the warps' transitions to all warps.
    Transition<A> before_warp = Transition<A>::Identity(), whole = before_warp;
    const int first_warp = warp_ & ~(warps_in_chain_ - 1);
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i >= warps_in_chain_) break;
      if (first_warp + i == warp_) before_warp = whole;
      whole = Compose(whole, shared_.of_warp[first_warp + i][in_warp]);
    }
    if constexpr (kLookBack) {
      if (warp_ == 0) shared_.of_tile[column_] = whole;
      __syncthreads();
      LookBack();
      __syncthreads();  // Publishes the carries to all warps.
      carry_ = shared_.carry[column_];
    } else if (tile_ == 0) {
      carry_ = part.rows > 0 ? InitialCarry(chain_ + slot_, column_) : A(0);
    }
    const A state = before.Apply(before_warp.Apply(carry_));
    carry_ = whole.Apply(carry_);
    Scan(part, piece, state);
    __syncthreads();  // Publishes every thread's outputs, in place of inputs, to all.
    CopyOut(piece);
    if constexpr (!kLookBack) __syncthreads();  // Everyone has read the outputs.
  }

  // ---- Between memory and shared memory ----

  // The address of a piece in an input. The lookahead input is read one row further on.
  __device__ const T* InMemory(int input, const Piece& piece) const {
    const int64_t inner = p_.problem.inner;
    const int64_t ahead = input == Cell::kLookahead ? (p_.problem.reverse ? -inner : inner) : 0;
    return p_.arrays.inputs[input] + piece.offset + ahead;
  }

  // Where an input lies in shared memory: at the same address modulo 16 as in global memory. In
  // place of a broadcast input there is only the output of the same number.
  __device__ T* Stage(int input, const Piece& piece) const {
    const T* const in_memory = input == Cell::kBroadcast ? p_.arrays.outputs[input] + piece.offset
                                                         : InMemory(input, piece);
    const auto address = reinterpret_cast<uintptr_t>(in_memory);
    return reinterpret_cast<T*>(stages_ + input * kStageBytes + address % 16);
  }

  static constexpr int kPack = 16 / sizeof(T);

  // Elements before the first whole pack.
  __device__ static int Head(const T* address, int length) {
    const auto past = static_cast<int>(reinterpret_cast<uintptr_t>(address) % 16 / sizeof(T));
    return min((kPack - past) % kPack, length);
  }

  __device__ void CopyIn(const Piece& piece) const {
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      if (k == Cell::kBroadcast) continue;
      int begin = 0, end = piece.length;
      if (k == Cell::kLookahead && tile_ + 1 == p_.chain_tiles) {  // No row follows the last.
        if (p_.problem.reverse) begin += static_cast<int>(p_.problem.inner);
        if (!p_.problem.reverse) end -= static_cast<int>(p_.problem.inner);
      }
      CopyIn(Stage(k, piece) + begin, InMemory(k, piece) + begin, end - begin);
    }
  }

  // All threads together.
  __device__ static void CopyIn(T* to, const T* from, int length) {
    const int head = Head(from, length);
    const int packed = head + (length - head) / kPack * kPack;
    const int odd = length - packed + head;
    if (static_cast<int>(threadIdx.x) < odd) {
      const int thread = threadIdx.x;
      const int i = thread < head ? thread : packed + thread - head;
      CopyAsync<sizeof(T)>(to + i, from + i);
    }
    for (int i = head + threadIdx.x * kPack; i < packed; i += kThreads * kPack) {
      CopyAsync<16>(to + i, from + i);
    }
  }

  __device__ void CopyOut(const Piece& piece) const {
#pragma unroll
    for (int k = 0; k < Cell::kOutputs; ++k) {
      const T* from = Stage(k, piece);
      T* to = p_.arrays.outputs[k] + piece.offset;
      const bool alike =
          (reinterpret_cast<uintptr_t>(from) - reinterpret_cast<uintptr_t>(to)) % 16 == 0;
      const int head = alike ? Head(to, piece.length) : piece.length;
      const int packed = head + (piece.length - head) / kPack * kPack;
      for (int i = threadIdx.x; i < head; i += kThreads) to[i] = from[i];
      for (int i = head + threadIdx.x * kPack; i < packed; i += kThreads * kPack) {
        *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(from + i);
      }
      for (int i = packed + threadIdx.x; i < piece.length; i += kThreads) to[i] = from[i];
    }
  }

  __device__ void Prefetch(const Piece& piece) const {
    constexpr int kLine = 128 / sizeof(T);
    for (int i = threadIdx.x * kLine; i < piece.length; i += kThreads * kLine) {
#pragma unroll
      for (int k = 0; k < Cell::kInputs; ++k) {
        if (k == Cell::kBroadcast) continue;
        gpu::Prefetch(p_.arrays.inputs[k] + piece.offset + i);
      }
    }
  }

  // ---- Over the rows of a thread ----

  // Those of this thread's rows.
  __device__ auto DecaysOf(const Part& part) const {
    if constexpr (Cell::kBroadcast >= 0) {
      const DecayColumns<Cell, T, 1> decays(p_.problem, p_.arrays, chain_ + slot_, column_,
                                            part.rows > 0);
      return decays.From(((tile_ << p_.group_bits) + group_) * p_.rows);
    } else {
      return DecaysAreValues{};
    }
  }

  __device__ Transition<A> Reduce(const Part& part, const Piece& piece) const {
    const T* from[Cell::kStepInputs];
#pragma unroll
    for (int k = 0; k < Cell::kStepInputs; ++k) from[k] = Stage(k, piece) + part.first;
    [[maybe_unused]] const auto decays = DecaysOf(part);
    Transition<A> own = Transition<A>::Identity();
#pragma unroll(kUnrolled)
    for (int row = 0; row < part.rows; ++row) {
      A in[Cell::kInputs];
#pragma unroll
      for (int k = 0; k < Cell::kStepInputs; ++k) {
        if (k != Cell::kBroadcast) in[k] = A(from[k][row * part.stride]);
      }
      if constexpr (Cell::kBroadcast >= 0)
        in[Cell::kBroadcast] = A(decays.at[0][row * decays.stride]);
      own = Compose(own, Cell::template Step<void>(in));
    }
    return own;
  }

  __device__ void Scan(const Part& part, const Piece& piece, A state) const {
    T* at[Cell::kInputs];
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) at[k] = Stage(k, piece) + part.first;
    [[maybe_unused]] const auto decays = DecaysOf(part);
    const int rows_with_lookahead = part.rows - (part.is_last ? 1 : 0);
#pragma unroll(kUnrolled)
    for (int row = 0; row < part.rows; ++row) {
      A in[Cell::kInputs], out[Cell::kOutputs];
#pragma unroll
      for (int k = 0; k < Cell::kInputs; ++k) {
        if (k == Cell::kBroadcast) continue;
        if (k != Cell::kLookahead) {
          in[k] = A(at[k][row * part.stride]);
        } else {
          in[k] = row < rows_with_lookahead ? A(at[k][row * part.stride]) : Boundary();
        }
      }
      if constexpr (Cell::kBroadcast >= 0)
        in[Cell::kBroadcast] = A(decays.at[0][row * decays.stride]);
      const A before = state;
      state = Cell::template Step<void>(in).Apply(before);
      Cell::template Emit<void>(in, before, state, out);
#pragma unroll
      for (int k = 0; k < Cell::kOutputs; ++k) at[k][row * part.stride] = T(out[k]);
    }
    if (part.is_last && p_.arrays.final_carry != nullptr) {
      p_.arrays.final_carry[(chain_ + slot_) * p_.problem.inner + column_] = T(state);
    }
  }

  __device__ A Boundary() const {
    return p_.arrays.boundary == nullptr
               ? A(0)
               : A(p_.arrays.boundary[(chain_ + slot_) * p_.problem.inner + column_]);
  }

  __device__ A InitialCarry(int64_t chain, int column) const {
    return p_.arrays.initial_carry == nullptr
               ? A(0)
               : A(p_.arrays.initial_carry[chain * p_.problem.inner + column]);
  }

  // The exclusive scan over this chain's groups in the warp: the transition of the earlier groups.
  __device__ Transition<A> ScanOverWarp(Transition<A> own) const {
    const int group = lane_ >> p_.lane_bits & ((1 << group_bits_in_warp_) - 1);
    Transition<A> inclusive = own;
    for (int bit = 0; bit < group_bits_in_warp_; ++bit) {
      const Transition<A> earlier = Shuffle(inclusive, lane_ - (1 << (bit + p_.lane_bits)));
      if (group >= 1 << bit) inclusive = Compose(earlier, inclusive);
    }
    const Transition<A> exclusive = Shuffle(inclusive, lane_ - (1 << p_.lane_bits));
    return group == 0 ? Transition<A>::Identity() : exclusive;
  }

  // Teams of lanes take one column each.
  __device__ TeamLookBack<A> TeamOf(int column) const {
    return {ChainStatus<A>::Of(chain_ * p_.problem.inner + column,
                               p_.problem.outer * p_.problem.inner, p_.status, p_.chain_tiles),
            tile_};
  }

  __device__ void StartToLookBack() {
    if (threadIdx.x >= kTeam) return;
    team_ = TeamOf(0);
    team_.LookAtTiles();
    team_.LookAtSegments();
  }

  __device__ void LookBack() {
    const int first = threadIdx.x / kTeam, inner = static_cast<int>(p_.problem.inner);
    if (inner > 1) team_ = TeamOf(first);
    for (int column = first; column < inner; column += kThreads / kTeam) {
      TeamOf(column).PublishTile(shared_.of_tile[column]);
    }
    for (int column = first; column < inner; column += kThreads / kTeam) {
      if (column > first) team_ = TeamOf(column);
      const A carry = team_.FindCarry(shared_.of_tile[column], InitialCarry(chain_, column));
      if (threadIdx.x % kTeam == 0) shared_.carry[column] = carry;
    }
  }

  const Params& p_;
  Shared& shared_;
  char* const stages_;
  const int warp_, lane_;
  const int column_;
  const int group_;  // Within the chain.
  const int slot_;
  const int group_bits_in_warp_;  // Of one chain.
  const int warps_in_chain_;
  int64_t chain_, tile_;
  A carry_;
  TeamLookBack<A> team_;  // That of this thread.
};

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    ScanSharedTiles(const __grid_constant__ typename Tile::Params params) {
  extern __shared__ __align__(16) char shared[];
  Tile(params, shared).Run();
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_SHARED_TILES_CUH_
