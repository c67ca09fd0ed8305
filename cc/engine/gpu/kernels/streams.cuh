// SPDX-License-Identifier: MIT
// A GPU kernel for many chains: its blocks walk along chains, with copies always in flight.
//
// A chain is all steps of a range of columns, one or two for each lane of a warp. A block works on
// one chain, or, if steps are few, on several at once, one per slot. It holds one tile of each
// chain at a time; each warp of a slot has kRows rows of the tile. A tile passes through:
//
//   copy     each warp copies its own rows into shared memory, asynchronously, while the block
//            works on the tile before;
//   load     each thread loads its rows into registers, which frees shared memory for the next
//            tile;
//   reduce   each thread reduces its rows to one transition per column; warps share theirs;
//   scan     each thread applies the transitions of the warps before it to the carry, scans its
//            rows from there, and writes the outputs.
#ifndef TF_PLR_ENGINE_GPU_KERNELS_STREAMS_CUH_
#define TF_PLR_ENGINE_GPU_KERNELS_STREAMS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/kernels/thread_rows.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

// kAligned: the rows of all arrays are aligned to packs.
template <typename CellType, typename Element, int kVectorValue, bool kAligned>
class Stream {
 public:
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;
  using Column = typename Arrays<Cell, T>::Column;

  // Columns of a lane; 2 makes an aligned pair of 16-bit elements one load.
  static constexpr int kVector = kVectorValue;
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kMaxWarps = 16;
  static constexpr bool kIsBroadcast = Cell::kBroadcast >= 0;
  static constexpr int kCopiedInputs = Cell::kInputs - kIsBroadcast;
  // Rows of one thread. It keeps 64 bytes of each input in registers, where 16-bit elements count
  // as 32-bit ones; or 32 bytes if there are two inputs and elements are wider than 16 bits. Gated
  // cells have as many rows as fit.
  static constexpr int kWordBytes = sizeof(T) < 4 ? 4 : sizeof(T);
  static constexpr bool kManyInputs = Cell::kInputs > 2;
  static constexpr int kRowsOfGated =
      std::is_same_v<T, __nv_bfloat16> && !Cell::kIsGradient && Cell::kInputs <= 3 ? 16 : 8;
  static constexpr int kRows =
      Cell::kGated ? kRowsOfGated : (kCopiedInputs == 2 && sizeof(T) >= 4 ? 32 : 64) / kWordBytes;
  // Limits the registers of a thread, so that three blocks of 8 warps fit if there are few inputs.
  // Gated cells have few enough values for that if they have at most two float inputs.
  static constexpr bool kManyBlocks =
      Cell::kGated ? !kManyInputs && sizeof(T) == 4 : !kManyInputs && sizeof(T) >= 4;
  static constexpr int kBoundThreads = kManyBlocks ? 3 * 8 * kWarp : kMaxWarps * kWarp;
  // A row in shared memory, in elements. If rows are not aligned to packs, it takes one more word,
  // because it lies at the address modulo 4 that it has in memory.
  static constexpr int kWord = 4, kWordElements = kWord / sizeof(T);
  static constexpr int kPitch = kColumns + (kAligned ? 0 : kWordElements);
  static_assert(kAligned || kWordElements == 2);
  static constexpr int kWarpElements = kRows * kPitch;

  struct Params {
    Problem problem;
    Arrays<Cell, T> arrays;
    int groups;            // Warps of one chain; a power of two.
    int slots;             // Chains in a block.
    bool wide_copies;      // Rows are aligned to 16 bytes in all arrays. Only if kAligned.
    int64_t column_tiles;  // Chains in an outer slice.
    int64_t chains;
    int64_t chain_tiles;  // Tiles of a chain.
    float* sums;          // [outer, d_bias_width]; null: not wanted.
  };

  // Transitions are double-buffered: a fast warp may write those of the next tile while a slow one
  // still reads.
  TF_PLR_HOST_DEVICE static constexpr size_t TransitionBytes(int warps) {
    return 2 * warps * kColumns * sizeof(Transition<A>);
  }
  // At the end of a chain, the warps' sums take the place of their transitions.
  using Sums = OutputSums<Cell, kVector>;
  static_assert(!kSumsOutputs<Cell> || sizeof(typename Sums::Shared) <= TransitionBytes(1));
  TF_PLR_HOST_DEVICE static constexpr size_t SharedBytes(int warps) {
    return TransitionBytes(warps) + kCopiedInputs * warps * kWarpElements * sizeof(T);
  }

  __device__ Stream(const Params& params, char* shared)
      : p_(params),
        warps_(blockDim.x / kWarp),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        slot_(warp_ / p_.groups),
        group_(warp_ % p_.groups),
        windows_{p_.problem, p_.arrays},
        of_warps_(reinterpret_cast<Transition<A>*>(shared)),
        copies_(reinterpret_cast<T*>(shared + TransitionBytes(warps_))) {}

  __device__ void Run() {
    Work work{int64_t{blockIdx.x} * p_.slots, 0};
    Place place = PlaceOf(work);
    StartCopies(work, place);
    FlagsOfRow flags = FlagsOf(work, place);
    Sums sums;
    for (int turn = 0; work.chain < p_.chains; turn ^= 1) {
      WaitForCopies();
      __syncwarp();  // Publishes every lane's copies to the warp.
      const Part part = PartOf(work, place, lane_);
      Rows rows;
      rows.count = part.rows;
      rows.columns = place.columns - part.column;
      if constexpr (kIsBroadcast) {
        if (work.tile == 0) {
          decays_ = {p_.problem, p_.arrays, place.outer, part.inner, rows.columns};
        }
        rows.decays.Set(decays_.From(p_.problem.steps - part.left));
      }
      if constexpr (Cell::kGated) rows.biases.Load(p_.arrays, part.inner, rows.columns);
      if (__all_sync(~0u, part.rows == kRows)) {
        Load<true>(part, rows);
      } else {
        Load<false>(part, rows);
      }
      rows.Skip(part.left, flags);
      __syncwarp();  // The warp has read its copies.

      const Work next = Next(work);
      const Place next_place = next.tile == 0 ? PlaceOf(next) : place;
      StartCopies(next, next_place);
      flags = FlagsOf(next, next_place);
      Transition<A> own[kVector];
      const auto& functions = p_.arrays.gated.functions;
      rows.Reduce(functions, own);
#pragma unroll
      for (int v = 0; v < kVector; ++v) *OfWarp(turn, warp_, part.column + v) = own[v];
      __syncthreads();  // Publishes the warps' transitions to all warps.
      A state[kVector];
      Carry(work, place, part, turn, state);
      rows.Scan(functions, windows_, part.row, part.inner, state, sums);
      if constexpr (kSumsOutputs<Cell>) {
        if (p_.sums != nullptr && work.tile + 1 == p_.chain_tiles) {
          StoreSums(sums, place);
          sums = Sums();
        }
      }
      work = next;
      place = next_place;
    }
  }

 private:
  using Decays =
      std::conditional_t<kIsBroadcast, DecaysInMemory<Cell, T, kVector>, DecaysAreValues>;
  using Rows = ThreadRows<Cell, T, kVector, kRows, kAligned, Decays>;
  using Pack = typename Rows::Pack;

  // One tile of each slot.
  struct Work {
    int64_t chain;  // Of the first slot.
    int64_t tile;
  };

  // Where a chain lies, which takes a division to find.
  struct Place {
    int64_t outer;
    int64_t row;     // That of the first step, counted over outer x steps.
    int64_t inner;   // The first column, counted over inner.
    int64_t column;  // The same, counted over outer x inner.
    int columns;     // Columns of the chain, at most those of a tile; 0 if there is no chain.
  };

  __device__ Work Next(Work work) const {
    if (work.tile + 1 < p_.chain_tiles) return {work.chain, work.tile + 1};
    return {work.chain + int64_t{gridDim.x} * p_.slots, 0};
  }

  // That of this thread's slot.
  __device__ Place PlaceOf(Work work) const {
    const Problem& problem = p_.problem;
    const int64_t chain = work.chain + slot_;
    if (chain >= p_.chains) return {0, 0, 0, 0, 0};
    const int64_t outer = p_.column_tiles == 1 ? chain : Divide(chain, p_.column_tiles);
    const int64_t inner = (chain - outer * p_.column_tiles) * kColumns;
    const int64_t first_row = outer * problem.steps + (problem.reverse ? problem.steps - 1 : 0);
    return {outer, first_row, inner, outer * problem.inner + inner,
            static_cast<int>(min(problem.inner - inner, int64_t{kColumns}))};
  }

  // A lane's part of a tile.
  struct Part {
    int64_t row;    // Its first, counted over outer x steps.
    int64_t inner;  // First column, counted over inner.
    int64_t left;   // Steps from its first row to the last.
    int rows;       // 0 if the chain or column does not exist or has ended.
    int column;     // First column, within the tile.
  };

  __device__ Part PartOf(Work work, const Place& place, int lane) const {
    const int64_t step = (work.tile * p_.groups + group_) * kRows;
    Part part;
    part.column = lane * kVector;
    part.row = RowAfter(place.row, step);
    part.inner = place.inner + part.column;
    part.left = p_.problem.steps - step;
    part.rows = part.column < place.columns && part.left > 0
                    ? static_cast<int>(min(part.left, int64_t{kRows}))
                    : 0;
    return part;
  }

  // The row `steps` steps later.
  __device__ int64_t RowAfter(int64_t row, int64_t steps) const {
    return p_.problem.reverse ? row - steps : row + steps;
  }

  // Those of the row with the lane's number.
  __device__ FlagsOfRow FlagsOf(Work work, const Place& place) const {
    const Part part = PartOf(work, place, 0);  // The first column exists if any does.
    return windows_.Flags(part.row, part.rows, lane_);
  }

  // This warp's rows of one input, in shared memory.
  __device__ T* Copies(int input) const {
    return copies_ + ((input - kIsBroadcast) * warps_ + warp_) * kWarpElements;
  }

  // ---- Copies in ----

  // If rows are aligned, a lane copies 16 bytes at a time, not just its own columns. Smaller copies
  // would pass through the L1 cache, of which little is left.
  __device__ void StartCopies(Work work, const Place& place) const {
    constexpr int kWide = 16 / sizeof(T) > kVector ? 16 / sizeof(T) : kVector;
    if (work.chain >= p_.chains) return;
    if constexpr (!kAligned) {
      CopyWords(work, place);
    } else if (p_.wide_copies) {
      CopyRows<kWide>(work, place);
    } else {
      CopyRows<kVector>(work, place);
    }
    CommitCopies();
  }

  template <int kElements>
  __device__ void CopyRows(Work work, const Place& place) const {
    constexpr int kAcross = kColumns / kElements;  // Lanes that copy one row.
    constexpr int kAtOnce = kWarp / kAcross;
    const int first = lane_ % kAcross * kElements;  // Element within the row.
    const int row = lane_ / kAcross;
    const Part part = PartOf(work, place, first / kVector);  // Of the lane that will use it.
    if (part.rows == kRows && part.left > kRows) {
#pragma unroll
      for (int k = kIsBroadcast; k < Cell::kInputs; ++k) {
        T* const to = Copies(k) + row * kColumns + first;
        const int64_t row_bytes = windows_.InputRowBytes(k);
        const int ahead = k == Cell::kLookahead ? 1 : 0;
        const T* from = windows_.Input(k, RowAfter(part.row, row + ahead), part.inner);
#pragma unroll
        for (int i = 0; i < kRows / kAtOnce; ++i) {
          CopyAsync<kElements * sizeof(T)>(to + i * kAtOnce * kColumns, from);
          from = AdvanceRow(from, kAtOnce * row_bytes);
        }
      }
      return;
    }
    for (int k = kIsBroadcast; k < Cell::kInputs; ++k) {
      for (int i = row; i < part.rows; i += kAtOnce) {
        const int ahead = k == Cell::kLookahead ? 1 : 0;
        const T* from = windows_.Input(k, RowAfter(part.row, i + ahead), part.inner);
        if (k == Cell::kLookahead && i + 1 == part.left) {
          from = p_.arrays.boundary == nullptr ? nullptr
                                               : p_.arrays.boundary + place.column + part.column;
        }
        CopyOrZero<kElements>(Copies(k) + i * kColumns + first, from);
      }
    }
  }

  template <int kElements>
  __device__ static void CopyOrZero(T* to, const T* from) {
    if (from != nullptr) {
      CopyAsync<kElements * sizeof(T)>(to, from);
    } else {
      for (int i = 0; i < kElements; ++i) to[i] = T(0.0f);
    }
  }

  // Copies the words that hold the rows. Reads no byte past a row, but may read two before it,
  // which belong to the same word.
  __device__ void CopyWords(Work work, const Place& place) const {
    const Part part = PartOf(work, place, 0);  // The first column exists if any does.
    const int bytes = place.columns * static_cast<int>(sizeof(T));
#pragma unroll
    for (int k = kIsBroadcast; k < Cell::kInputs; ++k) {
      const int ahead = k == Cell::kLookahead ? 1 : 0;
      const bool has_last = part.rows > 0 && part.rows == part.left;
      const int rows = part.rows - (ahead > 0 && has_last ? 1 : 0);  // In memory.
      const int64_t row_bytes = windows_.InputRowBytes(k);
      const T* const first = windows_.Input(k, RowAfter(part.row, ahead), part.inner);
      // Every other row begins at the same place of a word.
      const T* from[2] = {first, AdvanceRow(first, row_bytes)};
      const int past[2] = {PastWord(from[0]), PastWord(from[1])};
      int sizes[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        from[i] = AdvanceRow(from[i], lane_ * kWord - past[i]);
        sizes[i] = min(max(past[i] + bytes - lane_ * kWord, 0), kWord);
      }
      T* const to = Copies(k) + lane_ * kWordElements;
      const auto copy = [&](int row) {
        CopyWordAsync(to + row * kPitch, from[row % 2], sizes[row % 2]);
        from[row % 2] = AdvanceRow(from[row % 2], 2 * row_bytes);
      };
      if (rows == kRows) {
#pragma unroll
        for (int row = 0; row < kRows; ++row) copy(row);
      } else {
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
          if (row < rows) copy(row);
        }
      }
      // A row that begins in the middle of a word may end in one word more. Each lane copies one.
      if (lane_ < rows) {
        const T* const row = windows_.Input(k, RowAfter(part.row, lane_ + ahead), part.inner);
        const int left = PastWord(row) + bytes - kWarp * kWord;
        if (left > 0) {
          CopyWordAsync(Copies(k) + lane_ * kPitch + kColumns, row + kColumns - 1, left);
        }
      }
      if (rows == part.rows) continue;
      const T* const boundary = p_.arrays.boundary;  // It follows the last row.
      T* const last = InShared(k, part, rows);
      for (int i = lane_; i < place.columns; i += kWarp) {
        last[i] = boundary == nullptr ? T(0.0f) : boundary[place.column + i];
      }
    }
  }

  // The bytes before a row in its first word.
  __device__ static int PastWord(const T* row) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(row) % kWord);
  }

  // Where a row of the lane's columns lies. Every other row begins at the same place of a word.
  __device__ T* InShared(int input, const Part& part, int row) const {
    T* const aligned = Copies(input) + row * kPitch + part.column;
    if constexpr (kAligned) return aligned;
    const int ahead = input == Cell::kLookahead ? 1 : 0;
    const T* const first = windows_.Input(input, RowAfter(part.row, row + ahead), part.inner);
    return aligned + PastWord(first - part.column) / static_cast<int>(sizeof(T));
  }

  // ---- One tile ----

  // The state before this thread's rows; also moves the carry past the tile.
  __device__ void Carry(Work work, const Place& place, const Part& part, int turn,
                        A (&state)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      if (work.tile == 0) carry_[v] = InitialCarry(place, part.column + v);
      const int first_warp = slot_ * p_.groups;
#pragma unroll 8
      for (int group = 0; group < p_.groups; ++group) {
        if (group == group_) state[v] = carry_[v];
        carry_[v] =
            OfWarp(turn, first_warp + group, part.column + v)->Apply(carry_[v], Cell::kFlags);
      }
      if (work.tile + 1 == p_.chain_tiles && group_ == 0) {
        StoreFinalCarry(place, part.column + v, carry_[v]);
      }
    }
  }

  __device__ void StoreSums(const Sums& sums, const Place& place) const {
    auto* const of_warps = reinterpret_cast<typename Sums::Shared*>(of_warps_);
    __syncthreads();  // Everyone has read the transitions.
    sums.Put(of_warps[warp_], lane_);
    __syncthreads();  // Publishes the warps' sums.
    if (place.columns > 0) {
      const auto& gated = p_.arrays.gated;
      Sums::Write(of_warps + slot_ * p_.groups, p_.groups, gated, place.inner, p_.problem.inner,
                  p_.sums + place.outer * gated.d_bias_width, group_ * kWarp + lane_,
                  p_.groups * kWarp);
    }
    __syncthreads();  // Everyone has read the sums.
  }

  // The transition of all rows of a warp.
  __device__ Transition<A>* OfWarp(int turn, int warp, int column) const {
    return of_warps_ + (turn * warps_ + warp) * kColumns + column;
  }

  // `column` counts within the tile.
  __device__ A InitialCarry(const Place& place, int column) const {
    return p_.arrays.initial_carry == nullptr || column >= place.columns
               ? A(0)
               : A(p_.arrays.initial_carry[place.column + column]);
  }

  __device__ void StoreFinalCarry(const Place& place, int column, A carry) const {
    if (p_.arrays.final_carry != nullptr && column < place.columns) {
      p_.arrays.final_carry[place.column + column] = Column(carry);
    }
  }

  // Rows that do not exist are left zero.
  template <bool kFull>
  __device__ void Load(const Part& part, Rows& rows) const {
#pragma unroll
    for (int k = kIsBroadcast; k < Cell::kInputs; ++k) {
      const T* const from[2] = {InShared(k, part, 0), InShared(k, part, 1) - kPitch};
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (!kFull) rows.values[k][row] = Pack{};
        if (kFull || row < part.rows) {
          rows.values[k][row] = LoadPack<kVector>(from[row % 2] + row * kPitch, kAligned, kVector);
        }
      }
    }
  }

  const Params& p_;
  const int warps_;
  const int warp_, lane_;
  const int slot_;
  const int group_;  // Of the warp, within its chain.
  const Windows<Cell, T> windows_;
  Transition<A>* const of_warps_;
  T* const copies_;
  A carry_[kVector];
  std::conditional_t<kIsBroadcast, DecayColumns<Cell, T, kVector>, DecaysAreValues> decays_;
};

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kBoundThreads)
    ScanStreams(const __grid_constant__ typename Kernel::Params params) {
  extern __shared__ __align__(16) char shared[];
  Kernel(params, shared).Run();
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_KERNELS_STREAMS_CUH_
