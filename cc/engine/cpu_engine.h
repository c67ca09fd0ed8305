// SPDX-License-Identifier: MIT
// The scan engine for CPUs: runs any cell over any problem.
//
// A *row* is one step of consecutive columns: contiguous memory. A *block* is a range of columns
// over a range of steps. The serial plan gives each thread blocks that span all steps. The parallel
// plan cuts the steps into chunks as well: a thread reduces a block to one transition per column,
// takes the carries that the block before handed over, hands on its own, and only then scans the
// block, by now in cache. Memory is so read once; and since the chunks do not depend on the number
// of threads and columns never mix, neither does any bit of an algorithm's result.
#ifndef TF_PLR_ENGINE_CPU_ENGINE_H_
#define TF_PLR_ENGINE_CPU_ENGINE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

#include "cc/engine/cells.h"
#include "cc/engine/cpu_rows.h"
#include "cc/engine/problem.h"
#include "cc/engine/processor.h"
#include "cc/engine/workers.h"

namespace tf_plr {
namespace cpu {

// The type in which a column of T is accumulated.
template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

struct Tuning {
  // Whole rows stream best, as long as their carries stay in the second-level cache.
  static constexpr int64_t kMaxBlockColumns = 16384;
  // Threads that share rows in pieces shorter than this defeat the prefetcher: two are slower than
  // one.
  static constexpr int64_t kMinBlockRowBytes = 2 << 10;
  // A chunk's arrays together, so that its second pass finds them in the second-level cache.
  static constexpr int64_t kChunkBytes = 128 << 10;
  // Of a block that is reduced first.
  static constexpr int64_t kMaxReducedColumns = 256;
  // An output of so many bytes leaves the caches before anyone reads it.
  static constexpr int64_t kStreamOutBytes = 32 << 20;
  // Less work than this per task is not worth fetching, and per thread not worth waking it up.
  static constexpr int64_t kMinTaskBytes = 64 << 10;
};

// A range of columns over a range of steps.
struct Block {
  int64_t column;      // First column, counted over outer x inner.
  int64_t columns;     // All in one outer slice.
  int64_t first_step;  // In processing order.
  int64_t steps;
};

template <typename Cell, typename T>
class Engine {
  using A = Accumulator<T>;
  static constexpr int64_t kElementBytes = (Cell::kInputs + Cell::kOutputs) * sizeof(T);

 public:
  Engine(const Problem& problem, const Arrays<Cell, T>& arrays)
      : problem_(problem),
        arrays_(arrays),
        row_stride_(problem.reverse ? -problem.inner : problem.inner),
        stream_out_(problem.size() * static_cast<int64_t>(sizeof(T)) >= Tuning::kStreamOutBytes &&
                    !IsInPlace(arrays)) {
    if (Cell::kLookahead >= 0 && arrays.boundary == nullptr) {
      zeros_.assign(std::min(problem.inner, Tuning::kMaxBlockColumns), T(0));
    }
  }

  void Run(Algorithm algorithm, const Workers& workers) const {
    if (problem_.columns() == 0) return;
    const int64_t bytes = problem_.steps * problem_.columns() * kElementBytes;
    const int threads =
        static_cast<int>(std::min<int64_t>(workers.threads, 1 + bytes / Tuning::kMinTaskBytes));
    if (algorithm == Algorithm::kAuto) algorithm = Choose(threads);
    const Plan plan = algorithm == Algorithm::kParallel ? ParallelPlan() : SerialPlan(threads);

    const int64_t column_blocks = problem_.outer * plan.slice_blocks;
    Handover handover;
    if (plan.chunks > 1) {
      handover.carries.reset(new A[problem_.columns()]);
      handover.chunks.reset(new std::atomic<int64_t>[column_blocks]());
    }
    // Blocks in the order of time. Small ones share a task, but never two of the same columns.
    const int64_t block_bytes = plan.chunk_steps * plan.block_columns * kElementBytes;
    const int64_t task_blocks = std::clamp<int64_t>(
        Tuning::kMinTaskBytes / std::max<int64_t>(1, block_bytes), 1, column_blocks);
    const int64_t blocks = plan.chunks * column_blocks;
    RunTasks({threads, workers.schedule}, CeilDiv(blocks, task_blocks), [&](int64_t task) {
      Scratch scratch(plan);
      const int64_t end = std::min((task + 1) * task_blocks, blocks);
      for (int64_t i = task * task_blocks; i < end; ++i) {
        const int64_t chunk = i / column_blocks;
        // Memory is best read in one direction, from one block to the next too.
        const int64_t column_block =
            problem_.reverse ? column_blocks - 1 - i % column_blocks : i % column_blocks;
        const Block block = BlockAt(plan, chunk, column_block);
        if (plan.chunks == 1) {
          ScanAll(block, &scratch);
        } else {
          ReduceAndScan(block, chunk, chunk + 1 == plan.chunks, &handover.carries[block.column],
                        &handover.chunks[column_block], &scratch);
        }
      }
    });
  }

 private:
  struct Plan {
    int64_t chunk_steps, chunks;
    int64_t block_columns, slice_blocks;
  };

  // What blocks hand to the next in time: the carries of their columns, and for each range of
  // columns how many chunks have done so.
  struct Handover {
    std::unique_ptr<A[]> carries;
    std::unique_ptr<std::atomic<int64_t>[]> chunks;
  };

  // Of the block that a task is at.
  struct Scratch {
    explicit Scratch(const Plan& plan)
        : carry(new A[plan.block_columns]),
          transition(plan.chunks > 1 ? new Transition<A>[plan.block_columns] : nullptr) {}
    std::unique_ptr<A[]> carry;
    std::unique_ptr<Transition<A>[]> transition;
  };

  static int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

  // Then what is overwritten is in the caches anyway.
  static bool IsInPlace(const Arrays<Cell, T>& arrays) {
    return std::any_of(std::begin(arrays.outputs), std::end(arrays.outputs), [&](const T* output) {
      return std::count(std::begin(arrays.inputs), std::end(arrays.inputs), output) > 0;
    });
  }

  // Cutting the steps computes everything twice, which pays when it employs threads that the
  // columns alone would leave idle, and enough of them.
  Algorithm Choose(int threads) const {
    const int64_t row_bytes = problem_.inner * sizeof(T);
    const int64_t blocks = problem_.outer * CeilDiv(row_bytes, Tuning::kMinBlockRowBytes);
    return threads >= 3 * blocks ? Algorithm::kParallel : Algorithm::kSerial;
  }

  // Block widths are a function of the problem and the thread count; results are not.
  Plan SerialPlan(int threads) const {
    const int64_t min_columns = std::max<int64_t>(1, Tuning::kMinBlockRowBytes / sizeof(T));
    const int64_t share = CeilDiv(problem_.inner, CeilDiv(threads, problem_.outer));
    const int64_t columns = std::min(
        {CeilDiv(share, min_columns) * min_columns, Tuning::kMaxBlockColumns, problem_.inner});
    return {problem_.steps, 1, columns, CeilDiv(problem_.inner, columns)};
  }

  Plan ParallelPlan() const {
    const int64_t columns = std::min(problem_.inner, Tuning::kMaxReducedColumns);
    const int64_t steps = std::max<int64_t>(
        1, std::min(CeilDiv(problem_.steps, 2), Tuning::kChunkBytes / (columns * kElementBytes)));
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

  void ScanAll(const Block& block, Scratch* scratch) const {
    A* carry = scratch->carry.get();
    LoadCarry(block, carry);
    Scan(block, carry);
    StoreCarry(block, carry);
  }

  // handed_over: how many chunks before this one have left their carries in `carries`.
  void ReduceAndScan(const Block& block, int64_t chunk, bool last, A* carries,
                     std::atomic<int64_t>* handed_over, Scratch* scratch) const {
    A* carry = scratch->carry.get();
    const Transition<A>* transition = scratch->transition.get();
    Reduce(block, scratch->transition.get());
    if (chunk == 0) {
      LoadCarry(block, carry);
    } else {
      while (handed_over->load(std::memory_order_acquire) < chunk) std::this_thread::yield();
      std::copy_n(carries, block.columns, carry);
    }
    for (int64_t c = 0; c < block.columns; ++c) carries[c] = transition[c].Apply(carry[c]);
    if (last) StoreCarry(block, carries);
    handed_over->store(chunk + 1, std::memory_order_release);
    Scan(block, carry);
  }

  // Offset of the block's first element, processing order, in every step array.
  int64_t OffsetOf(const Block& block) const {
    const int64_t outer = block.column / problem_.inner;
    const int64_t step =
        problem_.reverse ? problem_.steps - 1 - block.first_step : block.first_step;
    return (outer * problem_.steps + step) * problem_.inner + block.column % problem_.inner;
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
      arrays_.final_carry[block.column + c] = T(carry[c]);
    }
  }

  // Each pass is compiled once for every instruction set and picked at run time.
  void Scan(const Block& block, A* carry) const { Walk<ScanPass>(block, carry); }
  void Reduce(const Block& block, Transition<A>* transition) const {
    std::fill_n(transition, block.columns, Transition<A>::Identity());
    Walk<ReducePass>(block, transition);
  }

  template <template <typename> class Pass, typename Carry>
  void Walk(const Block& block, Carry* carry) const {
    const auto walk = [&](const Rows<Cell, T>& rows) {
      ForThisProcessor([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
        RowWalker<Cell, T, A, Pass, LanesOf<A>(register_bytes)>::Walk(rows, carry);
      });
    };
    Rows<Cell, T> rows = RowsOf(block);
    if constexpr (Cell::kLookahead >= 0) {
      const bool has_last = block.steps > 0 && block.first_step + block.steps == problem_.steps;
      rows.count -= has_last;
      walk(rows);
      if (has_last) walk(LastRow(block));
    } else {
      walk(rows);
    }
  }

  Rows<Cell, T> RowsOf(const Block& block) const {
    Rows<Cell, T> rows;
    const int64_t offset = OffsetOf(block);
    for (int k = 0; k < Cell::kInputs; ++k) rows.in[k] = arrays_.inputs[k] + offset;
    for (int k = 0; k < Cell::kOutputs; ++k) rows.out[k] = arrays_.outputs[k] + offset;
    if constexpr (Cell::kLookahead >= 0) rows.in[Cell::kLookahead] += row_stride_;
    rows.stride = row_stride_;
    rows.count = block.steps;
    rows.columns = block.columns;
    rows.stream_out = stream_out_;
    return rows;
  }

  // The one row that looks ahead to the boundary.
  Rows<Cell, T> LastRow(const Block& block) const {
    Rows<Cell, T> rows = RowsOf({block.column, block.columns, problem_.steps - 1, 1});
    rows.in[Cell::kLookahead] =
        arrays_.boundary == nullptr ? zeros_.data() : arrays_.boundary + block.column;
    return rows;
  }

  const Problem problem_;
  const Arrays<Cell, T> arrays_;
  const int64_t row_stride_;
  const bool stream_out_;
  std::vector<T> zeros_;
};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_ENGINE_H_
