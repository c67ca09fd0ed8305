// SPDX-License-Identifier: MIT
// The scan engine for GPUs: runs any cell over any problem, reading and writing memory once.
//
// Words, from large to small:
//   chain   all steps of a range of columns, `tile_columns` wide, in one outer slice;
//   tile    `tile_rows` consecutive steps of a chain, in processing order: what a block holds at a
//           time, in shared memory;
//   group   the threads of one row of a tile; the groups of a chain each own kRows rows of it;
//   slot    where steps are few, a block works on several chains at once, one in each slot.
//
// A tile is processed in three phases: every thread reduces its rows of its columns to one
// transition; transitions are scanned over the groups, which gives each thread the transition from
// the tile's start to its own first row, and the carry into the tile is applied; every thread scans
// its rows, now from a known state. Meanwhile the copies of the block's next tiles are in flight.
//
// The carry into a tile comes in one of two ways (Schedule):
//   kStream    a block walks along its chains, so the carry is at hand;
//   kLookBack  (Layout::kContiguous only; rows look back in gpu_register_tiles.cuh)
//              a chain's tiles are spread over all blocks; carries pass through status words in
//              device memory. Tiles come in segments of kSegment. A tile publishes its transition;
//              the last of a segment publishes the segment's, and, once known, the state after it.
//              A tile's carry is the state before its segment, taken through the transitions of
//              the tiles before it in the segment; and the state before a segment is the nearest
//              published one, taken through the transitions of the segments in between. Every
//              state so has one order of combination, whatever is found published: no timing can
//              change a bit of the result.
//              Tiles are handed out in order by a counter, so that a tile's predecessors are done
//              or held by running blocks, and no block waits for one that cannot start.
#ifndef TF_PLR_ENGINE_GPU_ENGINE_CUH_
#define TF_PLR_ENGINE_GPU_ENGINE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cc/engine/cells.h"
#include "cc/engine/gpu_memory.cuh"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

// The type in which a column of T is accumulated.
template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<__half> {
  using type = float;
};
template <>
struct AccumulatorOf<__nv_bfloat16> {
  using type = float;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

constexpr int kMaxThreads = 512;
constexpr int kMaxStages = 6;
constexpr int kMaxVector = 2;
// Tiles of a segment, and lanes of the teams that look back: one for each.
constexpr int kSegment = 16;

enum class Schedule { kStream, kLookBack };

// How a tile lies in memory and in shared memory.
enum class Layout {
  kRows,        // Rows are apart. Each thread copies what it will use itself.
  kContiguous,  // The tile spans all inner columns: one piece of memory, copied as such.
};

// Compile-time choices. All but Cell and T are chosen by the plan.
template <typename CellType, typename Element, Layout kLayoutValue, Schedule kScheduleValue,
          int kVectorValue>
struct Traits {
  using Cell = CellType;
  using T = Element;
  using A = Accumulator<T>;
  static constexpr Layout kLayout = kLayoutValue;
  static constexpr Schedule kSchedule = kScheduleValue;
  // Neighbouring columns of one thread; 2 makes a pair of 16-bit elements one copy.
  static constexpr int kVector = kVectorValue;
  // Rows of one thread: 64 bytes of each input in registers. One more where threads read shared
  // memory in strides of their rows, so that these fall into different banks.
  static constexpr int kRows =
      64 / (sizeof(T) < 4 ? 4 : sizeof(T)) + (kLayout == Layout::kContiguous);
  static_assert(kLayout == Layout::kRows || kVector == 1);
  static_assert(Cell::kOutputs <= Cell::kStepInputs, "outputs take the place of inputs");
};

template <typename Cell, typename T>
struct Params {
  Problem problem;
  Arrays<Cell, T> arrays;
  int lanes;             // Threads of a group; a power of two up to 32.
  int groups;            // Of one chain; a power of two.
  int slots;             // Chains in a block.
  int stages;            // Tiles in shared memory, the one being processed included.
  int stage_elements;    // Of one input in one stage.
  bool wide_copies;      // Rows are aligned to 16 bytes in all arrays, for Layout::kRows.
  int64_t column_tiles;  // Chains in an outer slice.
  int64_t chains;
  int64_t chain_tiles;  // Tiles of a chain.
  StatusWord* status;   // [chain_tiles and then segments, chains, tile columns, kStatusWords]
  unsigned long long* next_tile;  // Tiles handed out so far.
};

// ---- The kernel ----

template <typename Traits>
class Block {
  using Cell = typename Traits::Cell;
  using T = typename Traits::T;
  using A = typename Traits::A;
  static constexpr bool kContiguous = Traits::kLayout == Layout::kContiguous;
  static constexpr bool kLookBack = Traits::kSchedule == Schedule::kLookBack;
  static constexpr int kVector = Traits::kVector;
  static constexpr int kRows = Traits::kRows;
  static_assert(kMaxThreads / kWarp <= kSegment, "a team holds the transitions of all warps");

 public:
  // One tile of each slot.
  struct Work {
    int64_t chain;  // Of the first slot.
    int64_t tile;
  };

  // Where a chain lies, which takes a division to find.
  struct Place {
    int64_t offset;  // Of the first column's first step, processing order, in every step array.
    int64_t column;  // The first column, counted over outer x inner.
    int columns;     // From the first to the end of the outer slice, at most those of a tile; or 0.
  };

  // Neighbouring elements, read or written at once.
  struct alignas(kVector * sizeof(T)) Pack {
    T values[kVector];
  };

  // What shared memory holds first; then come the transitions of the warps and the stages.
  struct alignas(16) Shared {
    A carry[kWarp * kVector];
    Work works[kMaxStages];    // Whose copies are in each stage.
    Place places[kMaxStages];  // For kLookBack: of the works' chains.
    Work taken;
  };

  // Of two tiles in turn: a fast warp may write the next tile's while a slow one still reads.
  TF_PLR_HOST_DEVICE static constexpr size_t BytesBeforeStages(int threads) {
    return sizeof(Shared) + 2 * threads * kVector * sizeof(Transition<A>);
  }

  __device__ Block(const Params<Cell, T>& params, char* shared)
      : p_(params),
        shared_(*reinterpret_cast<Shared*>(shared)),
        of_warps_(reinterpret_cast<Transition<A>*>(shared + sizeof(Shared))),
        stages_(reinterpret_cast<T*>(shared + BytesBeforeStages(blockDim.x))),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        column_(lane_ % p_.lanes),
        group_in_block_(threadIdx.x / p_.lanes),
        group_(group_in_block_ % p_.groups),
        slot_(group_in_block_ / p_.groups),
        groups_in_warp_(min(p_.groups, kWarp / p_.lanes)),
        warps_in_chain_(max(1, p_.groups * p_.lanes / kWarp)),
        row_stride_(p_.problem.reverse ? -p_.problem.inner : p_.problem.inner) {}

  __device__ void Run() {
    Work loading = FirstWork();
    Place loading_place = PlaceOf(loading);
    for (int stage = 0; stage < p_.stages; ++stage) {
      if (stage > 0) {
        loading = NextWork(loading);
        if (kLookBack || loading.tile == 0) loading_place = PlaceOf(loading);
      }
      StartCopies(loading, loading_place, stage);
      if (kLookBack && threadIdx.x == 0) {
        shared_.works[stage] = loading;
        shared_.places[stage] = loading_place;
      }
    }
    if (kLookBack) __syncthreads();  // Publishes works and places to all threads.

    Work work = FirstInStream();
    Place place;
    for (int stage = 0, turn = 0;; stage = stage + 1 == p_.stages ? 0 : stage + 1, turn ^= 1) {
      if (kLookBack) {
        work = shared_.works[stage];
        place = shared_.places[stage];
      } else if (work.tile == 0) {
        place = PlaceOf(work);
      }
      if (!Exists(work)) break;
      WaitForCopies(p_.stages - 1);
      if (kContiguous) {
        __syncthreads();  // Publishes every thread's copies to all.
      } else {
        __syncwarp();  // To the warp.
      }
      Process(work, place, stage, turn);

      if (!kContiguous) __syncwarp();  // The warp has read the stage.
      if (kLookBack) {
        loading = shared_.works[stage];
        loading_place = shared_.places[stage];
      } else {
        loading = NextInStream(loading);
        if (loading.tile == 0) loading_place = PlaceOf(loading);
        work = NextInStream(work);
      }
      StartCopies(loading, loading_place, stage);
    }
  }

 private:
  // ---- Which tiles, in which order ----

  __device__ Work FirstInStream() const { return {int64_t{blockIdx.x} * p_.slots, 0}; }

  __device__ Work NextInStream(Work work) const {
    if (++work.tile == p_.chain_tiles) {
      work = {work.chain + int64_t{gridDim.x} * p_.slots, 0};
    }
    return work;
  }

  // Tiles of all chains advance together, so that predecessors are handed out long before.
  __device__ Work NumberedWork(uint64_t number) const {
    return {static_cast<int64_t>(number % p_.chains), static_cast<int64_t>(number / p_.chains)};
  }

  __device__ bool Exists(Work work) const {
    return work.chain < p_.chains && work.tile < p_.chain_tiles;
  }

  __device__ Work FirstWork() { return kLookBack ? TakeWork() : FirstInStream(); }
  __device__ Work NextWork(Work work) { return kLookBack ? TakeWork() : NextInStream(work); }

  __device__ Work TakeWork() {
    if (threadIdx.x == 0) shared_.taken = NumberedWork(atomicAdd(p_.next_tile, 1ull));
    __syncthreads();  // Publishes `taken` to all threads.
    const Work work = shared_.taken;
    __syncthreads();  // Everyone has read `taken`.
    return work;
  }

  // ---- Where this thread's part of a tile lies ----

  __device__ static int64_t Divide(int64_t a, int64_t b) {
    return (a | b) >> 32 == 0 ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
  }

  // That of this thread's slot.
  __device__ Place PlaceOf(Work work) const {
    const Problem& problem = p_.problem;
    const int64_t chain = work.chain + slot_;
    if (chain >= p_.chains) return {0, 0, 0};
    const int64_t outer = p_.column_tiles == 1 ? chain : Divide(chain, p_.column_tiles);
    const int64_t inner = (chain - outer * p_.column_tiles) * p_.lanes * kVector;
    const int64_t first_row = outer * problem.steps + (problem.reverse ? problem.steps - 1 : 0);
    return {first_row * problem.inner + inner, outer * problem.inner + inner,
            static_cast<int>(min(problem.inner - inner, int64_t{kWarp * kVector}))};
  }

  struct Part {
    int64_t offset;  // Of its first row in every step array.
    int64_t left;    // Steps from its first row to the last.
    int rows;        // 0 if the chain or column does not exist or has ended.
    int column;      // First column, within the tile.
  };

  __device__ Part PartOf(Work work, const Place& place) const { return PartOf(work, place, lane_); }

  // That of a lane of this warp.
  __device__ Part PartOf(Work work, const Place& place, int lane) const {
    const int group = ((warp_ * kWarp + lane) / p_.lanes) & (p_.groups - 1);
    const int64_t step = work.tile * (p_.groups * kRows) + group * kRows;
    Part part;
    part.column = (lane & (p_.lanes - 1)) * kVector;
    part.offset = place.offset + step * row_stride_ + part.column;
    part.left = p_.problem.steps - step;
    part.rows = part.column < place.columns && part.left > 0
                    ? static_cast<int>(min(part.left, int64_t{kRows}))
                    : 0;
    return part;
  }

  // Of the thread's first row in a stage, and from row to row.
  struct Position {
    int first, stride;
  };

  __device__ Position PositionOf(Work work, const Part& part) const {
    if constexpr (kContiguous) {
      return {part.rows > 0 ? static_cast<int>(part.offset - PieceOf(work).offset) : 0,
              static_cast<int>(row_stride_)};
    } else {
      return {(warp_ * kRows * kWarp + lane_) * kVector, kWarp * kVector};
    }
  }

  // A tile of every slot as one piece of memory.
  struct Piece {
    int64_t offset;
    int64_t first_row;  // In memory order; in the first slot.
    int length;
  };

  __device__ Piece PieceOf(Work work) const {
    const Problem& problem = p_.problem;
    const int64_t tile_rows = p_.groups * kRows;
    const int64_t begin = work.tile * tile_rows;
    const int64_t end = min(begin + tile_rows, problem.steps);
    const int64_t first_row = problem.reverse ? problem.steps - end : begin;
    const int64_t chains = min(int64_t{p_.slots}, p_.chains - work.chain);
    return {(work.chain * problem.steps + first_row) * problem.inner, first_row,
            static_cast<int>(chains * (end - begin) * problem.inner)};
  }

  __device__ T* Stage(int stage, int input) const {
    return stages_ + (stage * Cell::kInputs + input) * p_.stage_elements;
  }

  // ---- Copies in ----

  __device__ void StartCopies(Work work, const Place& place, int stage) const {
    if (Exists(work)) {
      if constexpr (kContiguous) {
        CopyPieces(work, stage);
      } else {
        CopyRows(work, place, stage);
      }
    }
    CommitCopies();  // Also where there is nothing to copy, so that counts stay right.
  }

  // A warp copies what it will use itself: kRows rows of every lane, a lane's kVector elements
  // after another's. Lanes may share out the copies differently, 16 bytes each, if these are
  // aligned; smaller copies would pass through the little first-level cache that is left.
  __device__ void CopyRows(Work work, const Place& place, int stage) const {
    constexpr int kWide = 16 / sizeof(T) > kVector ? 16 / sizeof(T) : kVector;
    if (p_.wide_copies) {
      CopyRowsBy<kWide>(work, place, stage);
    } else {
      CopyRowsBy<kVector>(work, place, stage);
    }
  }

  template <int kElements>
  __device__ void CopyRowsBy(Work work, const Place& place, int stage) const {
    constexpr int kAcross = kWarp * kVector / kElements;  // Lanes that copy one row of all lanes.
    constexpr int kAtOnce = kWarp / kAcross;
    const int first = lane_ % kAcross * kElements;  // Element among those of one row of all lanes.
    const int user = first / kVector;               // The lane whose part begins there.
    const int row = lane_ / kAcross;
    const Part part = PartOf(work, place, user);
    T* const to = Stage(stage, 0) + (warp_ * kRows + row) * kWarp * kVector + first;
    const int64_t stride = kAtOnce * row_stride_;
    if (part.rows == kRows && part.left > kRows) {
#pragma unroll
      for (int k = 0; k < Cell::kInputs; ++k) {
        const T* from = p_.arrays.inputs[k] + part.offset + row * row_stride_;
        if (k == Cell::kLookahead) from += row_stride_;
#pragma unroll
        for (int i = 0; i < kRows / kAtOnce; ++i) {
          CopyAsync<kElements * sizeof(T)>(
              to + k * p_.stage_elements + i * kAtOnce * kWarp * kVector, from);
          from += stride;
        }
      }
      return;
    }
    for (int k = 0; k < Cell::kInputs; ++k) {
      for (int i = row; i < part.rows; i += kAtOnce) {
        const T* from = p_.arrays.inputs[k] + part.offset + i * row_stride_;
        if (k == Cell::kLookahead) {
          from += row_stride_;
          if (i + 1 == part.left) {
            from = p_.arrays.boundary == nullptr ? nullptr
                                                 : p_.arrays.boundary + place.column + part.column;
          }
        }
        CopyOrZero<kElements>(to + k * p_.stage_elements + (i - row) * kWarp * kVector, from);
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

  __device__ void CopyPieces(Work work, int stage) const {
    const Piece piece = PieceOf(work);
#pragma unroll
    for (int k = 0; k < Cell::kInputs; ++k) {
      const T* from = p_.arrays.inputs[k] + piece.offset;
      if (k == Cell::kLookahead) {
        CopyLookahead(Stage(stage, k), from + row_stride_, work, piece);
      } else {
        CopyPiece(Stage(stage, k), from, piece.length);
      }
    }
  }

  // All threads together.
  __device__ static void CopyPiece(T* to, const T* from, int length) {
    constexpr int kPack = 16 / sizeof(T);
    const bool aligned =
        (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0;
    const int packed = aligned ? length / kPack * kPack : 0;
    for (int i = threadIdx.x * kPack; i < packed; i += blockDim.x * kPack) {
      CopyAsync<16>(to + i, from + i);
    }
    for (int i = packed + threadIdx.x; i < length; i += blockDim.x) {
      CopyAsync<sizeof(T)>(to + i, from + i);
    }
  }

  // The lookahead of a chain's last row is the boundary's; of all others, the next row.
  __device__ void CopyLookahead(T* to, const T* from, Work work, const Piece& piece) const {
    const Problem& problem = p_.problem;
    const int inner = static_cast<int>(problem.inner);
    const int row_elements = piece.length / inner;
    if (p_.slots == 1) {
      int begin = 0, end = piece.length;
      const T* boundary =
          p_.arrays.boundary == nullptr ? nullptr : p_.arrays.boundary + work.chain * problem.inner;
      if (!problem.reverse && piece.first_row + row_elements == problem.steps) end -= inner;
      if (problem.reverse && piece.first_row == 0) begin += inner;
      CopyPiece(to + begin, from + begin, end - begin);
      for (int i = threadIdx.x; i < inner; i += blockDim.x) {
        if (begin > 0) CopyOrZero<1>(to + i, boundary ? boundary + i : nullptr);
        if (end < piece.length) CopyOrZero<1>(to + end + i, boundary ? boundary + i : nullptr);
      }
      return;
    }
    const int chain_elements = static_cast<int>(problem.steps * problem.inner);
    const int last_row = problem.reverse ? 0 : chain_elements - inner;
    for (int i = threadIdx.x; i < piece.length; i += blockDim.x) {
      const int chain = i / chain_elements;
      const int in_last_row = i - chain * chain_elements - last_row;
      const T* source = from + i;
      if (0 <= in_last_row && in_last_row < inner) {
        source = p_.arrays.boundary == nullptr
                     ? nullptr
                     : p_.arrays.boundary + (work.chain + chain) * problem.inner + in_last_row;
      }
      CopyOrZero<1>(to + i, source);
    }
  }

  // ---- One tile ----

  // For kLookBack, leaves the next work in works[stage] for all threads to see.
  __device__ void Process(Work work, const Place& place, int stage, int turn) {
    const bool requester = kLookBack && threadIdx.x == blockDim.x - 1;
    const unsigned long long number = requester ? atomicAdd(p_.next_tile, 1ull) : 0;
    const Part part = PartOf(work, place);
    const Position position = PositionOf(work, part);

    Pack values[Cell::kInputs][kRows];
    Transition<A> own[kVector];
    if (part.rows == kRows) {
      LoadRows<true>(part, position, stage, values);
      ReduceRows<true>(part, values, own);
    } else {
      LoadRows<false>(part, position, stage, values);
      ReduceRows<false>(part, values, own);
    }
    Transition<A> before[kVector];  // From the first row of this warp and chain to this thread's.
#pragma unroll
    for (int v = 0; v < kVector; ++v) before[v] = ScanOverWarp(own[v]);
    const int in_warp = (lane_ / (groups_in_warp_ * p_.lanes) * p_.lanes + column_) * kVector;
    if (lane_ / p_.lanes % groups_in_warp_ == groups_in_warp_ - 1) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        *OfWarp(turn, warp_, in_warp + v) = Compose(before[v], own[v]);
      }
    }
    __syncthreads();  // Publishes the warps' transitions to all warps.

    if (kLookBack) {
      if (requester) {
        shared_.works[stage] = NumberedWork(number);
        shared_.places[stage] = PlaceOf(shared_.works[stage]);
      }
      LookBack(work, place, turn);
      __syncthreads();  // Publishes carry and works[stage] to all threads.
    }

    A state[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      if (kLookBack) {
        carry_[v] = shared_.carry[column_ * kVector + v];
      } else if (work.tile == 0) {
        carry_[v] = InitialCarry(place, part.column + v);
      }
      A through = carry_[v];
      const int first_warp = warp_ / warps_in_chain_ * warps_in_chain_;
      const int warps = kLookBack ? warp_ - first_warp : warps_in_chain_;
#pragma unroll 8
      for (int i = 0; i < warps; ++i) {
        if (first_warp + i == warp_) state[v] = through;
        through = OfWarp(turn, first_warp + i, in_warp + v)->Apply(through);
      }
      if (kLookBack) {
        state[v] = through;
      } else {
        carry_[v] = through;
        if (work.tile + 1 == p_.chain_tiles && group_ == 0) {
          StoreFinalCarry(place, part.column + v, through);
        }
      }
      state[v] = before[v].Apply(state[v]);
    }

    // Registers are better spent on more blocks, where these wait for each other.
    if (kLookBack) LoadRows<false>(part, position, stage, values);
    ScanRows(part, position, stage, values, state);
    if constexpr (kContiguous) {
      __syncthreads();  // Publishes the outputs in the stage to all threads.
      StorePieces(PieceOf(work), stage);
      __syncthreads();  // Everyone has read the stage.
    }
  }

  // The transition of all rows of a warp, by lane and column of the lane.
  __device__ Transition<A>* OfWarp(int turn, int warp, int column) const {
    return of_warps_ + (turn * blockDim.x + warp * kWarp) * kVector + column;
  }

  // `column` counts within the tile.
  __device__ A InitialCarry(const Place& place, int column) const {
    return p_.arrays.initial_carry == nullptr || column >= place.columns
               ? A(0)
               : A(p_.arrays.initial_carry[place.column + column]);
  }

  __device__ void StoreFinalCarry(const Place& place, int column, A carry) const {
    if (p_.arrays.final_carry != nullptr && column < place.columns) {
      p_.arrays.final_carry[place.column + column] = T(carry);
    }
  }

  // Values of rows that do not exist are the first's, or zeros; they are not used.
  template <bool kFull>
  __device__ void LoadRows(const Part& part, Position position, int stage,
                           Pack (&values)[Cell::kInputs][kRows]) const {
    const T* const from = Stage(stage, 0) + position.first;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const T* const of_row = from + (kFull || row < part.rows ? row * position.stride : 0);
#pragma unroll
      for (int k = 0; k < Cell::kInputs; ++k) {
        values[k][row] = Pack{};
        if (kFull || part.rows > 0) {
          values[k][row] = *reinterpret_cast<const Pack*>(of_row + k * p_.stage_elements);
        }
      }
    }
  }

  template <bool kFull>
  __device__ void ReduceRows(const Part& part, const Pack (&values)[Cell::kInputs][kRows],
                             Transition<A> (&own)[kVector]) const {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      own[v] = Transition<A>::Identity();
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        A in[Cell::kInputs];
#pragma unroll
        for (int k = 0; k < Cell::kStepInputs; ++k) in[k] = A(values[k][row].values[v]);
        const Transition<A> longer = Compose(own[v], Cell::Step(in));
        if (kFull || row < part.rows) own[v] = longer;
      }
    }
  }

  // The composition of the transitions of the preceding groups of this chain in this warp.
  __device__ Transition<A> ScanOverWarp(Transition<A> own) const {
    const int group = lane_ / p_.lanes % groups_in_warp_;
    Transition<A> inclusive = own;
    for (int distance = 1; distance < groups_in_warp_; distance *= 2) {
      const Transition<A> earlier = Shuffle(inclusive, lane_ - distance * p_.lanes);
      if (group >= distance) inclusive = Compose(earlier, inclusive);
    }
    const Transition<A> exclusive = Shuffle(inclusive, lane_ - p_.lanes);
    return group == 0 ? Transition<A>::Identity() : exclusive;
  }

  __device__ void ScanRows(const Part& part, Position position, int stage,
                           const Pack (&values)[Cell::kInputs][kRows], A (&state)[kVector]) const {
    Pack results[Cell::kOutputs][kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        A in[Cell::kInputs], out[Cell::kOutputs];
#pragma unroll
        for (int k = 0; k < Cell::kInputs; ++k) in[k] = A(values[k][row].values[v]);
        const A before = state[v];
        state[v] = Cell::Step(in).Apply(before);
        Cell::Emit(in, before, state[v], out);
#pragma unroll
        for (int k = 0; k < Cell::kOutputs; ++k) results[k][row].values[v] = T(out[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < Cell::kOutputs; ++k) {
      // A piece's outputs wait in the place of inputs for all threads to store them together.
      T* to = kContiguous ? Stage(stage, k) + position.first : p_.arrays.outputs[k] + part.offset;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (part.rows == kRows || row < part.rows) {
          *reinterpret_cast<Pack*>(to) = results[k][row];
          to += row_stride_;
        }
      }
    }
  }

  __device__ void StorePieces(const Piece& piece, int stage) const {
    constexpr int kPack = 16 / sizeof(T);
#pragma unroll
    for (int k = 0; k < Cell::kOutputs; ++k) {
      const T* from = Stage(stage, k);
      T* to = p_.arrays.outputs[k] + piece.offset;
      const int packed =
          reinterpret_cast<uintptr_t>(to) % 16 == 0 ? piece.length / kPack * kPack : 0;
      for (int i = threadIdx.x * kPack; i < packed; i += blockDim.x * kPack) {
        *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(from + i);
      }
      for (int i = packed + threadIdx.x; i < piece.length; i += blockDim.x) to[i] = from[i];
    }
  }

  // ---- Looking back ----

  // Finds the tile's carries, leaves them in shared_.carry, and publishes the tile. Teams of
  // kSegment lanes take one column each.
  __device__ void LookBack(Work work, const Place& place, int turn) {
    const int teams = blockDim.x / kSegment;
    for (int column = threadIdx.x / kSegment; column < p_.lanes * kVector; column += teams) {
      LookBackInColumn(work, place, turn, column);
    }
  }

  __device__ void LookBackInColumn(Work work, const Place& place, int turn, int column) {
    const int member = lane_ % kSegment;
    const int64_t segment = work.tile / kSegment;
    const int in_segment = work.tile % kSegment;
    const bool ends_chain = work.tile + 1 == p_.chain_tiles;
    const bool ends_segment = in_segment == kSegment - 1 && !ends_chain;

    const Transition<A> of_warp =
        member < warps_in_chain_ ? *OfWarp(turn, member, column) : Transition<A>::Identity();
    const Transition<A> of_tile = FromTeam(ScanOverTeam(of_warp), kSegment - 1);
    StatusWord* const tile_words = StatusOf(work.tile, work.chain, column);
    if (member == 0 && !ends_chain) Publish(tile_words, of_tile, kTransition);

    Transition<A> mine = Transition<A>::Identity();  // Of the member's tile of this segment.
    if (member < in_segment) {
      StatusWord* const words = StatusOf(segment * kSegment + member, work.chain, column);
      while (Inspect(words, &mine) == kNothing) {
      }
    }
    if (member == in_segment) mine = of_tile;
    __syncwarp(TeamMask());
    const Transition<A> through_mine = ScanOverTeam(mine);
    const Transition<A> of_segment = FromTeam(through_mine, kSegment - 1);
    const Transition<A> before_tile = FromTeam(through_mine, max(in_segment - 1, 0));
    StatusWord* const segment_words = StatusOf(p_.chain_tiles + segment, work.chain, column);
    if (member == 0 && ends_segment && segment > 0) Publish(segment_words, of_segment, kTransition);

    A state = segment == 0 ? InitialCarry(place, column) : StateBefore(segment, work.chain, column);
    if (member == 0 && ends_segment)
      Publish(segment_words, Transition<A>{A(0), of_segment.Apply(state)}, kState);
    if (in_segment > 0) state = before_tile.Apply(state);
    if (member == 0) {
      shared_.carry[column] = state;
      if (ends_chain) StoreFinalCarry(place, column, of_tile.Apply(state));
    }
  }

  // Member m of a team inspects the m-th segment back.
  __device__ A StateBefore(int64_t segment, int64_t chain, int column) const {
    const int member = lane_ % kSegment;
    const bool exists = member < segment;
    StatusWord* const words = StatusOf(p_.chain_tiles + segment - 1 - member, chain, column);
    Transition<A> found = Transition<A>::Identity();
    int nearest;
    for (;;) {
      const uint64_t flag = exists ? Inspect(words, &found) : uint64_t{kNothing};
      const unsigned shift = lane_ / kSegment * kSegment;
      const unsigned states = __ballot_sync(TeamMask(), flag == kState) >> shift;
      const unsigned gaps = __ballot_sync(TeamMask(), flag == kNothing) >> shift;
      nearest = __ffs(states) - 1;
      if (nearest >= 0 && (gaps & ((1u << nearest) - 1)) == 0) break;
    }
    A state = FromTeam(found, nearest).impulse;
    for (int i = nearest - 1; i >= 0; --i) state = FromTeam(found, i).Apply(state);
    return state;
  }

  __device__ unsigned TeamMask() const {
    return ((1u << kSegment) - 1) << (lane_ / kSegment * kSegment);
  }

  __device__ Transition<A> FromTeam(Transition<A> value, int member) const {
    return Shuffle(value, member, kSegment, TeamMask());
  }

  // Composes the values of all members up to this one.
  __device__ Transition<A> ScanOverTeam(Transition<A> value) const {
    const int member = lane_ % kSegment;
#pragma unroll
    for (int distance = 1; distance < kSegment; distance *= 2) {
      const Transition<A> earlier = FromTeam(value, member - distance);
      if (member >= distance) value = Compose(earlier, value);
    }
    return value;
  }

  // Segments follow the tiles.
  __device__ StatusWord* StatusOf(int64_t tile_or_segment, int64_t chain, int column) const {
    return p_.status +
           ((tile_or_segment * p_.chains + chain) * p_.lanes * kVector + column) * kStatusWords<A>;
  }

  const Params<Cell, T>& p_;
  Shared& shared_;
  Transition<A>* const of_warps_;
  T* const stages_;
  const int warp_, lane_;
  const int column_;          // Within the group.
  const int group_in_block_;  // Counted over all slots.
  const int group_;           // Within the chain.
  const int slot_;
  const int groups_in_warp_;  // Of one chain.
  const int warps_in_chain_;
  const int64_t row_stride_;
  A carry_[kVector];
};

template <typename Traits>
__global__ void __launch_bounds__(kMaxThreads, Traits::kSchedule == Schedule::kLookBack ? 2 : 1)
    Scan(const __grid_constant__ Params<typename Traits::Cell, typename Traits::T> params) {
  extern __shared__ __align__(16) char shared[];
  Block<Traits>(params, shared).Run();
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_ENGINE_CUH_
