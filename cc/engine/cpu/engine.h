// SPDX-License-Identifier: MIT
// The scan engine for CPUs: runs any cell over any problem.
//
// A *row* is one step of consecutive columns: contiguous memory. A *block* is a range of columns
// over a range of steps. The serial plan gives each thread blocks that span all steps. The parallel
// plan cuts the steps into chunks as well. A thread reduces a block to one transition per column,
// takes the carries from the block before, hands its own on, and only then scans the block, which
// is in cache by now. So memory is read once. Chunks do not depend on the number of threads, and
// columns never mix; for a given algorithm, every bit of the result is therefore the same for any
// number of threads.
#ifndef TF_PLR_ENGINE_CPU_ENGINE_H_
#define TF_PLR_ENGINE_CPU_ENGINE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/cpu/gated_rows.h"
#include "cc/engine/cpu/half_precision.h"
#include "cc/engine/cpu/processor.h"
#include "cc/engine/cpu/rows.h"
#include "cc/engine/cpu/run.h"
#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace cpu {

struct Tuning {
  // Whole rows stream best, as long as their carries stay in the second-level cache.
  static constexpr int64_t kMaxBlockColumns = 16384;
  // Threads that share rows in pieces shorter than this defeat the prefetcher: two are slower than
  // one.
  static constexpr int64_t kMinBlockRowBytes = 2 << 10;
  // A chunk's arrays together, so that its second pass finds them in the second-level cache.
  static constexpr int64_t kChunkBytes = 128 << 10;
  // Most columns of a block that is reduced before it is scanned.
  static constexpr int64_t kMaxReducedColumns = 256;
  // An output of at least this size is evicted from the caches before anyone reads it.
  static constexpr int64_t kStreamOutBytes = 32 << 20;
  // Broadcast decays are written out for so many elements at a time, which stay in the first-level
  // cache.
  static constexpr int64_t kDecays = 4096;
  // A task with less work than this is not worth fetching, and a thread with less is not worth
  // waking.
  static constexpr int64_t kMinTaskBytes = 64 << 10;
};

// Gated cells compute for longer than they load, so smaller blocks and tasks pay.
struct GatedTuning : Tuning {
  static constexpr int64_t kMinBlockRowBytes = 128;
  static constexpr int64_t kMinTaskBytes = 8 << 10;
};

// A range of columns over a range of steps.
struct Block {
  int64_t column;      // First column, counted over outer x inner.
  int64_t columns;     // All in one outer slice.
  int64_t first_step;  // In processing order.
  int64_t steps;
};

// Uninitialised memory for `size` elements, aligned for any vector of them. allocated() is false if
// memory ran out.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : size_(size),
        data_(static_cast<T*>(::operator new(size * sizeof(T), kAlignment, std::nothrow))) {}
  Buffer(const Buffer&) = delete;
  ~Buffer() { ::operator delete(data_, kAlignment); }

  bool allocated() const { return data_ != nullptr; }
  int64_t size() const { return size_; }
  T* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  const int64_t size_;
  T* const data_;
};

// Each pass is compiled once for every instruction set and picked at run time.
template <typename Cell, typename T, template <typename> class PassOf, typename Rows,
          typename Carry>
__attribute__((noinline)) void WalkRows(const Rows& rows, Carry* carry) {
  DispatchSimd([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
    constexpr int kLanes = LanesOf<Accumulator<T>>(register_bytes);
    if constexpr (Cell::kGated) {
      GatedRowWalker<Cell, T, PassOf, kLanes>::Walk(rows, carry);
    } else {
      RowWalker<Cell, T, Accumulator<T>, PassOf, kLanes>::Walk(rows, carry);
    }
  });
}

template <typename Cell, typename T>
class Engine {
  using A = Accumulator<T>;
  using Column = typename Arrays<Cell, T>::Column;
  using CellTuning = std::conditional_t<Cell::kGated, GatedTuning, Tuning>;
  static constexpr int64_t kElementBytes = (Cell::kInputs + Cell::kOutputs) * sizeof(T);
  static constexpr bool kIsBroadcast = Cell::kBroadcast >= 0;
  // Rows have decays that are written out.
  using RowCell = typename Cell::WithoutBroadcast;

 public:
  Engine(const Problem& problem, const Arrays<Cell, T>& arrays)
      : problem_(problem),
        arrays_(arrays),
        row_stride_(problem.reverse ? -problem.inner : problem.inner),
        stream_out_(problem.size() * static_cast<int64_t>(sizeof(T)) >=
                        CellTuning::kStreamOutBytes &&
                    !IsInPlace(arrays)) {}

  // Returns null, or what went wrong; then nothing has been computed.
  const char* Run(Algorithm algorithm, const Workers& workers) {
    if (problem_.columns() == 0) return nullptr;
    if (problem_.steps == 0 && arrays_.final_carry == nullptr) return nullptr;
    const int threads = ThreadsOf(workers);
    if (algorithm == Algorithm::kAuto) algorithm = Choose(threads);
    const Plan plan = algorithm == Algorithm::kParallel ? ParallelPlan() : SerialPlan(threads);
    const Memory memory(problem_, plan, threads, arrays_.flags.any());
    if (!memory.allocated()) return kNoMemory;
    zeros_ = memory.zeros.data();
    ones_ = memory.ones.data();
    RunBlocks(plan, memory, threads, workers,
              [&](const Block& block, const Turn& turn, const Scratch& scratch) {
                if (plan.chunks == 1) {
                  ScanAll(block, scratch);
                } else {
                  ReduceAndScan(block, turn, memory.carries.data() + block.column, scratch);
                }
              });
    return nullptr;
  }

  // The transition of all steps, for each column. Returns as Run.
  const char* Reduce(const ColumnTransitions<A>& transitions, const Workers& workers) {
    if (problem_.columns() == 0) return nullptr;
    const int threads = ThreadsOf(workers);
    const Plan plan = ParallelPlan();
    const Memory memory(problem_, plan, threads, arrays_.flags.any());
    const Buffer<Transition<A>> wholes(problem_.columns());
    if (!memory.allocated() || !wholes.allocated()) return kNoMemory;
    zeros_ = memory.zeros.data();
    ones_ = memory.ones.data();
    RunBlocks(plan, memory, threads, workers,
              [&](const Block& block, const Turn& turn, const Scratch& scratch) {
                Transition<A>* const whole = wholes.data() + block.column;
                ReduceBlock(block, turn.chunk == 0 ? whole : scratch.transition, scratch);
                if (turn.chunk > 0) {
                  turn.Await();
                  for (int64_t c = 0; c < block.columns; ++c) {
                    whole[c] = Compose(whole[c], scratch.transition[c], Forgets());
                  }
                }
                if (turn.last) StoreTransitions(block, whole, transitions);
                turn.HandOver();
              });
    return nullptr;
  }

 private:
  struct Plan {
    int64_t chunk_steps, chunks;
    int64_t block_columns, slice_blocks;
  };

  static constexpr char kNoMemory[] = "the CPU engine could not allocate its carries";

  // A block's place among the blocks of its columns. Each one hands its result to the block of the
  // next chunk, in processing order.
  struct Turn {
    int64_t chunk;
    bool last;
    std::atomic<int64_t>* handed_over;  // Chunks that have handed over; null if there is only one.

    void Await() const {
      while (handed_over->load(std::memory_order_acquire) < chunk) std::this_thread::yield();
    }
    void HandOver() const {
      if (handed_over != nullptr) handed_over->store(chunk + 1, std::memory_order_release);
    }
  };

  // The memory of one worker, for its current block.
  struct Scratch {
    A* carry;
    Transition<A>* transition;  // Null where nothing is reduced.
    void* vectors;              // See Rows.
    T* decays;                  // Null where they are not broadcast.
  };

  // All that a run needs beside its arguments, allocated before any task starts.
  class Memory {
   public:
    Memory(const Problem& problem, const Plan& plan, int workers, bool has_flags)
        : zeros(Cell::kLookahead >= 0 || has_flags ? plan.block_columns : 0),
          ones(has_flags ? plan.block_columns : 0),
          carries(plan.chunks > 1 ? problem.columns() : 0),
          chunks(plan.chunks > 1 ? problem.outer * plan.slice_blocks : 0),
          worker_columns_((CeilDiv(plan.block_columns, kMaxLanes) + 1) * kMaxLanes),
          carry_(workers * worker_columns_),
          transition_(plan.chunks > 1 ? workers * worker_columns_ : 0),
          vectors_(workers * worker_columns_),
          worker_decays_(kIsBroadcast ? std::max(plan.block_columns, CellTuning::kDecays) : 0),
          decays_(workers * worker_decays_) {
      if (!allocated()) return;
      std::uninitialized_fill_n(zeros.data(), zeros.size(), T(0));
      std::uninitialized_fill_n(ones.data(), ones.size(), T(1));
      std::uninitialized_fill_n(chunks.data(), chunks.size(), 0);
    }

    bool allocated() const {
      return zeros.allocated() && ones.allocated() && carries.allocated() && chunks.allocated() &&
             carry_.allocated() && transition_.allocated() && vectors_.allocated() &&
             decays_.allocated();
    }

    Scratch ScratchOf(int worker) const {
      const int64_t first = worker * worker_columns_;
      return {carry_.data() + first, transition_.size() > 0 ? transition_.data() + first : nullptr,
              vectors_.data() + first, decays_.data() + worker * worker_decays_};
    }

    // For the columns of one block. They stand in for a null boundary and for inputs of masked
    // steps.
    const Buffer<T> zeros, ones;
    // Handed over from chunk to chunk: the carry of each column, and, for each range of columns,
    // the number of chunks that have handed over.
    const Buffer<A> carries;
    const Buffer<std::atomic<int64_t>> chunks;

   private:
    static constexpr int64_t kMaxLanes = 64;  // An upper bound; also keeps workers' parts aligned.
    const int64_t worker_columns_;
    const Buffer<A> carry_;
    const Buffer<Transition<A>> transition_, vectors_;
    const int64_t worker_decays_;
    const Buffer<T> decays_;
  };

  // Calls run(block, turn, scratch) for all blocks of a plan.
  template <typename OnBlock>
  void RunBlocks(const Plan& plan, const Memory& memory, int threads, const Workers& workers,
                 const OnBlock& run_block) const {
    // Blocks run in processing order. Small blocks share a task, but a task has no two blocks of
    // the same columns.
    const int64_t column_blocks = problem_.outer * plan.slice_blocks;
    const int64_t block_bytes = plan.chunk_steps * plan.block_columns * kElementBytes;
    const int64_t task_blocks = std::clamp<int64_t>(
        CellTuning::kMinTaskBytes / std::max<int64_t>(1, block_bytes), 1, column_blocks);
    const int64_t blocks = plan.chunks * column_blocks;
    const auto run = [&](int64_t task, int worker) noexcept {
      const Scratch scratch = memory.ScratchOf(worker);
      const int64_t end = std::min((task + 1) * task_blocks, blocks);
      for (int64_t i = task * task_blocks; i < end; ++i) {
        const int64_t chunk = i / column_blocks;
        // Memory is best read in one direction, from one block to the next too.
        const int64_t column_block =
            problem_.reverse ? column_blocks - 1 - i % column_blocks : i % column_blocks;
        const Turn turn{chunk, chunk + 1 == plan.chunks,
                        plan.chunks > 1 ? memory.chunks.data() + column_block : nullptr};
        run_block(BlockAt(plan, chunk, column_block), turn, scratch);
      }
    };
    // Pass `schedule` by reference: a copy may allocate, and so throw.
    RunTasks({threads, std::cref(workers.schedule)}, CeilDiv(blocks, task_blocks), run);
  }

  static int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

  // Such outputs are not stored past the caches: the memory they overwrite is in the caches anyway.
  static bool IsInPlace(const Arrays<Cell, T>& arrays) {
    return std::any_of(std::begin(arrays.outputs), std::end(arrays.outputs), [&](const T* output) {
      return std::count(std::begin(arrays.inputs), std::end(arrays.inputs), output) > 0;
    });
  }

  int ThreadsOf(const Workers& workers) const {
    const int64_t bytes = problem_.steps * problem_.columns() * kElementBytes;
    return static_cast<int>(
        std::min<int64_t>(workers.threads, 1 + bytes / CellTuning::kMinTaskBytes));
  }

  // Cutting the steps doubles the arithmetic. It pays if it employs enough threads that the columns
  // alone would leave idle.
  Algorithm Choose(int threads) const {
    const int64_t row_bytes = problem_.inner * sizeof(T);
    const int64_t blocks = problem_.outer * CeilDiv(row_bytes, CellTuning::kMinBlockRowBytes);
    return threads >= 3 * blocks ? Algorithm::kParallel : Algorithm::kSerial;
  }

  // Block widths are a function of the problem and the thread count; results are not.
  Plan SerialPlan(int threads) const {
    const int64_t min_columns = std::max<int64_t>(1, CellTuning::kMinBlockRowBytes / sizeof(T));
    const int64_t share = CeilDiv(problem_.inner, CeilDiv(threads, problem_.outer));
    const int64_t columns = std::min(
        {CeilDiv(share, min_columns) * min_columns, CellTuning::kMaxBlockColumns, problem_.inner});
    return {problem_.steps, 1, columns, CeilDiv(problem_.inner, columns)};
  }

  Plan ParallelPlan() const {
    const int64_t columns = std::min(problem_.inner, CellTuning::kMaxReducedColumns);
    const int64_t steps = std::max<int64_t>(
        1,
        std::min(CeilDiv(problem_.steps, 2), CellTuning::kChunkBytes / (columns * kElementBytes)));
    return {steps, std::max<int64_t>(1, CeilDiv(problem_.steps, steps)), columns,
            CeilDiv(problem_.inner, columns)};
  }

  Block BlockAt(const Plan& plan, int64_t chunk, int64_t column_block) const {
    const int64_t slice = column_block / plan.slice_blocks;
    const int64_t column = column_block % plan.slice_blocks * plan.block_columns;
    const int64_t step = chunk * plan.chunk_steps;
    return {slice * problem_.inner + column, std::min(plan.block_columns, problem_.inner - column),
            step, std::min(plan.chunk_steps, problem_.steps - step)};
  }

  void ScanAll(const Block& block, const Scratch& scratch) const {
    LoadCarry(block, scratch.carry);
    Scan(block, scratch);
    StoreCarry(block, scratch.carry);
  }

  void ReduceAndScan(const Block& block, const Turn& turn, A* carries,
                     const Scratch& scratch) const {
    A* carry = scratch.carry;
    const Transition<A>* transition = scratch.transition;
    ReduceBlock(block, scratch.transition, scratch);
    if (turn.chunk == 0) {
      LoadCarry(block, carry);
    } else {
      turn.Await();
      std::copy_n(carries, block.columns, carry);
    }
    for (int64_t c = 0; c < block.columns; ++c) {
      carries[c] = transition[c].Apply(carry[c], Forgets());
    }
    if (turn.last) StoreCarry(block, carries);
    turn.HandOver();
    Scan(block, scratch);
  }

  // The index, in every step array, of the row that the block processes first.
  int64_t RowOf(const Block& block) const {
    const int64_t outer = block.column / problem_.inner;
    const int64_t step =
        problem_.reverse ? problem_.steps - 1 - block.first_step : block.first_step;
    return outer * problem_.steps + step;
  }

  void LoadCarry(const Block& block, A* carry) const {
    for (int64_t c = 0; c < block.columns; ++c) {
      carry[c] =
          arrays_.initial_carry == nullptr ? A(0) : A(arrays_.initial_carry[block.column + c]);
    }
  }

  void StoreCarry(const Block& block, const A* carry) const {
    if (arrays_.final_carry == nullptr) return;
    for (int64_t c = 0; c < block.columns; ++c) {
      arrays_.final_carry[block.column + c] = Column(carry[c]);
    }
  }

  void StoreTransitions(const Block& block, const Transition<A>* whole,
                        const ColumnTransitions<A>& to) const {
    for (int64_t c = 0; c < block.columns; ++c) {
      to.decays[block.column + c] = whole[c].decay;
      to.impulses[block.column + c] = whole[c].impulse;
    }
  }

  void Scan(const Block& block, const Scratch& scratch) const {
    Walk<ScanPass>(block, scratch.carry, scratch);
  }
  void ReduceBlock(const Block& block, Transition<A>* transition, const Scratch& scratch) const {
    std::fill_n(transition, block.columns, Transition<A>::Identity());
    Walk<ReducePass>(block, transition, scratch);
  }

  bool Forgets() const { return arrays_.flags.resets != nullptr; }

  template <template <typename> class PassOf, typename Carry>
  void Walk(const Block& block, Carry* carry, const Scratch& scratch) const {
    if (block.steps == 0) return;  // There may be no arrays.
    if (Cell::kGated || !arrays_.flags.any()) {
      WalkSteps<PassOf>(block, carry, scratch, [](auto&) {});
      return;
    }
    // Steps with flags are few, so each is walked on its own.
    Block part = block;
    const int64_t end = block.first_step + block.steps;
    for (; part.first_step < end; part.first_step += part.steps) {
      part.steps = 0;
      while (part.first_step + part.steps < end && !HasFlags(part, part.steps)) ++part.steps;
      if (part.steps > 0) {
        WalkSteps<PassOf>(part, carry, scratch, [](auto&) {});
      } else {
        part.steps = 1;
        WalkFlagged<PassOf>(part, carry, scratch);
      }
    }
  }

  // The step after the block's first `step` steps.
  bool IsMasked(const Block& block, int64_t step) const {
    const bool* const mask = arrays_.flags.mask;
    return mask != nullptr && !mask[RowOf(block) + (problem_.reverse ? -step : step)];
  }
  bool IsReset(const Block& block, int64_t step) const {
    const bool* const resets = arrays_.flags.resets;
    return resets != nullptr && resets[RowOf(block) + (problem_.reverse ? -step : step)];
  }
  bool HasFlags(const Block& block, int64_t step) const {
    return IsMasked(block, step) || IsReset(block, step);
  }

  // Walks one step of a cell without gates.
  template <template <typename> class PassOf, typename Carry>
  void WalkFlagged(const Block& block, Carry* carry, const Scratch& scratch) const {
    using Pass = PassOf<Cell>;
    const bool masked = IsMasked(block, 0), reset = IsReset(block, 0);
    if (!Cell::kIsGradient && reset) std::fill_n(carry, block.columns, Carry{});
    WalkSteps<PassOf>(block, carry, scratch, [&](auto& rows) {
      for (int k = 0; k < Pass::kInputs; ++k) {
        const Masked value = masked ? Cell::WhereMasked(k) : Masked::kKept;
        if (value != Masked::kKept) rows.in[k] = value == Masked::kOne ? ones_ : zeros_;
        if (reset && k == Cell::kLookahead) rows.in[k] = zeros_;
      }
    });
    if (Cell::kIsGradient && reset) std::fill_n(carry, block.columns, Carry{});
    if (!Cell::kIsGradient || !masked) return;
    const int64_t offset = RowOf(block) * problem_.inner + block.column % problem_.inner;
    for (int k = 0; k < Pass::kOutputs; ++k) {
      std::fill_n(arrays_.outputs[k] + offset, block.columns, T(0));
    }
  }

  // adjust: called with the rows of each walk before it.
  template <template <typename> class PassOf, typename Carry, typename Adjust>
  void WalkSteps(const Block& block, Carry* carry, const Scratch& scratch,
                 const Adjust& adjust) const {
    using Pass = PassOf<Cell>;
    const auto walk = [&](auto rows) {
      adjust(rows);
      WalkRows<RowCell, T, PassOf>(rows, carry);
    };
    if constexpr (LooksAhead<Pass>()) {
      auto rows = RowsOf<Pass>(block, scratch.vectors);
      const bool has_last = block.first_step + block.steps == problem_.steps;
      rows.count -= has_last;
      walk(rows);
      if (has_last) walk(LastRow<Pass>(block, scratch.vectors));
    } else if constexpr (kIsBroadcast) {
      const int64_t strip = std::max<int64_t>(1, CellTuning::kDecays / problem_.inner);
      Block part = block;
      for (int64_t first = 0; first < block.steps; first += strip) {
        part.first_step = block.first_step + first;
        part.steps = std::min(strip, block.steps - first);
        auto rows = RowsOf<Pass>(part, scratch.vectors);
        const bool written = first > 0 && arrays_.broadcast.step_stride == 0;
        rows.in[Cell::kBroadcast] = WriteDecays(part, scratch.decays, strip, written);
        walk(rows);
      }
    } else {
      walk(RowsOf<Pass>(block, scratch.vectors));
    }
  }

  // Writes the decays of a block, row after row as those of the other inputs lie in memory, unless
  // they are `written`. There is room for `most_rows` rows. Returns the row to process first.
  const T* WriteDecays(const Block& block, T* to, int64_t most_rows, bool written) const {
    if (problem_.reverse) to += (most_rows - 1) * problem_.inner;
    if (written) return to;
    const BroadcastIndex& index = arrays_.broadcast;
    const int64_t first_row = RowOf(block) % problem_.steps, column = block.column % problem_.inner;
    const T* from = arrays_.inputs[Cell::kBroadcast] +
                    index.outer.Offset(block.column / problem_.inner) +
                    first_row * index.step_stride;
    if (index.step_stride == 0) {
      const int64_t rows = std::min(most_rows, block.steps);
      T* const first = problem_.reverse ? to - (rows - 1) * problem_.inner : to;
      WriteRow(index.inner, from, column, block.columns, first);
      Repeat(first, block.columns, rows);
      return to;
    }
    for (int64_t row = 0; row < block.steps; ++row) {
      WriteRow(index.inner, from, column, block.columns, to + row * row_stride_);
      from += problem_.reverse ? -index.step_stride : index.step_stride;
    }
    return to;
  }

  // Copies a row to the rows after it.
  void Repeat(T* row, int64_t columns, int64_t rows) const {
    if (columns < problem_.inner) {
      for (int64_t i = 1; i < rows; ++i) std::copy_n(row, columns, row + i * problem_.inner);
      return;
    }
    for (int64_t done = columns, all = rows * columns; done < all; done *= 2) {
      std::copy_n(row, std::min(done, all - done), row + done);
    }
  }

  static void WriteRow(const BroadcastAxes& axes, const T* from, int64_t first, int64_t columns,
                       T* to) {
    // All columns of the last axis are alike: the same decay, or neighbours in memory.
    const int64_t size = axes.count > 0 ? axes.sizes[0] : columns;
    const bool same = axes.count == 0 || axes.strides[0] == 0;
    for (int64_t column = first, end = first + columns; column < end;) {
      const int64_t count = std::min(size - column % size, end - column);
      const T* const begin = from + axes.Offset(column);
      if (same) {
        std::fill_n(to, count, *begin);
      } else {
        std::copy_n(begin, count, to);
      }
      to += count;
      column += count;
    }
  }

  template <typename Pass>
  static constexpr bool LooksAhead() {
    return Cell::kLookahead >= 0 && Cell::kLookahead < Pass::kInputs;
  }

  // The rows of the arrays that the pass uses. Other arrays may be null.
  template <typename Pass>
  auto RowsOf(const Block& block, void* vectors) const {
    if constexpr (Cell::kGated) {
      return GatedRowsOf<Pass>(block, vectors);
    } else {
      Rows<RowCell, T> rows;
      const int64_t offset = RowOf(block) * problem_.inner + block.column % problem_.inner;
      for (int k = 0; k < Pass::kInputs; ++k) rows.in[k] = arrays_.inputs[k] + offset;
      for (int k = 0; k < Pass::kOutputs; ++k) rows.out[k] = arrays_.outputs[k] + offset;
      if constexpr (LooksAhead<Pass>()) rows.in[Cell::kLookahead] += row_stride_;
      rows.stride = row_stride_;
      rows.count = block.steps;
      rows.columns = block.columns;
      rows.stream_out = stream_out_;
      rows.vectors = vectors;
      return rows;
    }
  }

  template <typename Pass>
  GatedRows<Cell, T> GatedRowsOf(const Block& block, void* vectors) const {
    GatedRows<Cell, T> rows;
    const auto& gated = arrays_.gated;
    const int64_t row = RowOf(block), column = block.column % problem_.inner;
    const int64_t direction = problem_.reverse ? -1 : 1;
    rows.functions = gated.functions;
    rows.inputs = Pass::CountInputs(gated.functions);
    for (int k = 0; k < rows.inputs; ++k) {
      const int64_t at = k == Cell::kLookahead ? row + direction : row;
      rows.in[k] = arrays_.inputs[k] + at * gated.input_strides[k] + column;
      rows.in_strides[k] = direction * gated.input_strides[k];
      rows.biases[k] = gated.biases[k] == nullptr ? nullptr : gated.biases[k] + column;
    }
    for (int k = 0; k < Pass::kOutputs; ++k) {
      T* const out = arrays_.outputs[k];
      rows.out[k] = out == nullptr ? nullptr : out + row * gated.output_strides[k] + column;
      rows.out_strides[k] = direction * gated.output_strides[k];
    }
    rows.flags = arrays_.flags;
    if (rows.flags.mask != nullptr) rows.flags.mask += row;
    if (rows.flags.resets != nullptr) rows.flags.resets += row;
    rows.flag_stride = direction;
    rows.count = block.steps;
    rows.columns = block.columns;
    rows.vectors = vectors;
    return rows;
  }

  // The one row that looks ahead to the boundary.
  template <typename Pass>
  auto LastRow(const Block& block, void* vectors) const {
    auto rows = RowsOf<Pass>(Block{block.column, block.columns, problem_.steps - 1, 1}, vectors);
    rows.in[Cell::kLookahead] =
        arrays_.boundary == nullptr ? zeros_ : arrays_.boundary + block.column;
    return rows;
  }

  const Problem problem_;
  const Arrays<Cell, T> arrays_;
  const int64_t row_stride_;
  const bool stream_out_;
  const T *zeros_ = nullptr, *ones_ = nullptr;
};

// Declared in run.h.
template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                const Workers& workers) {
  return Engine<Cell, T>(problem, arrays).Run(algorithm, workers);
}

template <typename Cell, typename T, typename A>
const char* Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const ColumnTransitions<A>& transitions, const Workers& workers) {
  return Engine<Cell, T>(problem, arrays).Reduce(transitions, workers);
}

#define TF_PLR_FIXED_CELLS(M, T)
#define TF_PLR_INSTANTIATE_CELL(Cell, T)                                                       \
  template const char* Run(const Problem&, const Arrays<Cell, T>&, Algorithm, const Workers&); \
  template const char* Reduce(const Problem&, const Arrays<Cell, T>&,                          \
                              const ColumnTransitions<Accumulator<T>>&, const Workers&);

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_ENGINE_H_
