// SPDX-License-Identifier: MIT
// The scan engine for CPUs: runs any cell over any problem.
//
// A *row* is one step of consecutive columns: contiguous memory, one SIMD loop. A *block* is a
// range of columns over a range of steps. The serial plan gives each thread blocks that span all
// steps. The parallel plan cuts the steps into chunks as well: a thread reduces a chunk to one
// transition per column, takes the carry that its predecessor published, publishes its own, and
// only then scans the chunk, by now in cache. Memory is so read once; and since the chunks do not
// depend on the number of threads, neither does any bit of an algorithm's result.
#ifndef TF_PLR_ENGINE_CPU_ENGINE_H_
#define TF_PLR_ENGINE_CPU_ENGINE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "cc/engine/cells.h"
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
  // Wide rows stream best; their carries should still stay in the first-level cache.
  static constexpr int64_t kMaxBlockColumns = 4096;
  // Narrower rows would share cache lines between threads and waste SIMD lanes.
  static constexpr int64_t kMinBlockColumns = 64;
  // Of a block of the parallel plan, whose chunks should still be long.
  static constexpr int64_t kMaxChunkColumns = 256;
  // A chunk's arrays together, so that its second pass finds them in the second-level cache.
  static constexpr int64_t kChunkBytes = 128 << 10;
  // Less work than this per thread is not worth waking it up.
  static constexpr int64_t kBytesPerThread = 64 << 10;
};

struct Block {
  int64_t column;      // First column, counted over outer x inner.
  int64_t columns;     // All in one outer slice.
  int64_t first_step;  // In processing order.
  int64_t steps;
};

template <typename Cell, typename T>
class Engine {
  using A = Accumulator<T>;
  static constexpr int kArrays = Cell::kInputs + Cell::kOutputs;

 public:
  Engine(const Problem& problem, const Arrays<Cell, T>& arrays)
      : problem_(problem),
        arrays_(arrays),
        row_stride_(problem.reverse ? -problem.inner : problem.inner) {
    if (Cell::kLookahead >= 0 && arrays.boundary == nullptr) {
      zeros_.assign(std::min(problem.inner, Tuning::kMaxBlockColumns), T(0));
    }
  }

  void Run(Algorithm algorithm, const Workers& workers) const {
    if (problem_.columns() == 0) return;
    const int64_t bytes = problem_.size() * kArrays * sizeof(T);
    const Workers useful{
        static_cast<int>(std::min<int64_t>(workers.threads, 1 + bytes / Tuning::kBytesPerThread)),
        workers.schedule};
    if (algorithm == Algorithm::kAuto) algorithm = Choose(useful.threads);
    if (algorithm == Algorithm::kParallel) {
      RunParallel(useful);
    } else {
      RunSerial(useful);
    }
  }

 private:
  // Splitting the steps computes everything twice, which pays when it employs threads that the
  // columns alone would leave idle, and enough of them.
  Algorithm Choose(int threads) const {
    const int64_t blocks = problem_.outer * CeilDiv(problem_.inner, Tuning::kMinBlockColumns);
    return threads >= 3 * blocks ? Algorithm::kParallel : Algorithm::kSerial;
  }

  // Block widths are a function of the problem and the thread count; results are not, since
  // columns never mix.
  void RunSerial(const Workers& workers) const {
    const int64_t blocks_wanted = CeilDiv(workers.threads, problem_.outer);
    const int64_t width =
        std::min(Tuning::kMaxBlockColumns,
                 CeilDiv(CeilDiv(problem_.inner, blocks_wanted), Tuning::kMinBlockColumns) *
                     Tuning::kMinBlockColumns);
    const int64_t blocks_per_slice = CeilDiv(problem_.inner, width);
    RunTasks(workers, problem_.outer * blocks_per_slice, [&](int64_t task) {
      const Block block = BlockAt(task, blocks_per_slice, width);
      std::unique_ptr<A[]> carry(new A[block.columns]);
      LoadCarry(block, carry.get());
      Scan(block, carry.get());
      StoreCarry(block, carry.get());
    });
  }

  void RunParallel(const Workers& workers) const {
    const int64_t width = std::min(problem_.inner, Tuning::kMaxChunkColumns);
    const int64_t blocks_per_slice = CeilDiv(problem_.inner, width);
    const int64_t blocks = problem_.outer * blocks_per_slice;
    const int64_t row_bytes = width * kArrays * sizeof(T);
    const int64_t chunk =
        std::max<int64_t>(1, std::min(CeilDiv(problem_.steps, 2), Tuning::kChunkBytes / row_bytes));
    const int64_t chunks = std::max<int64_t>(1, CeilDiv(problem_.steps, chunk));

    // carries[(i + 1) * width ...] is what task i hands on; tasks of one block are `blocks` apart.
    std::unique_ptr<A[]> carries(new A[(chunks + 1) * blocks * width]);
    std::unique_ptr<std::atomic<bool>[]> ready(new std::atomic<bool>[chunks * blocks]);
    for (int64_t i = 0; i < chunks * blocks; ++i) {
      ready[i].store(false, std::memory_order_relaxed);
    }
    RunTasks(workers, chunks * blocks, [&](int64_t task) {
      const int64_t index = task / blocks;
      Block block = BlockAt(task % blocks, blocks_per_slice, width);
      block.first_step = index * chunk;
      block.steps = std::min(chunk, problem_.steps - block.first_step);

      A* carry = &carries[task * width];
      A* next_carry = &carries[(task + blocks) * width];
      std::unique_ptr<Transition<A>[]> transition(new Transition<A>[block.columns]);
      Reduce(block, transition.get());
      if (index == 0) {
        LoadCarry(block, carry);
      } else {
        while (!ready[task - blocks].load(std::memory_order_acquire)) {
          std::this_thread::yield();
        }
      }
      for (int64_t c = 0; c < block.columns; ++c) {
        next_carry[c] = transition[c].Apply(carry[c]);
      }
      if (index + 1 == chunks) StoreCarry(block, next_carry);
      ready[task].store(true, std::memory_order_release);
      Scan(block, carry);
    });
  }

  static int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

  Block BlockAt(int64_t index, int64_t blocks_per_slice, int64_t width) const {
    const int64_t first = index % blocks_per_slice * width;
    return {index / blocks_per_slice * problem_.inner + first,
            std::min(width, problem_.inner - first), 0, problem_.steps};
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
  void Scan(const Block& block, A* carry) const {
    ForThisProcessor([&]() TF_PLR_INLINE_LAMBDA { ScanRows(block, carry); });
  }
  void Reduce(const Block& block, Transition<A>* transition) const {
    ForThisProcessor([&]() TF_PLR_INLINE_LAMBDA { ReduceRows(block, transition); });
  }

  TF_PLR_INLINE void ScanRows(const Block& block, A* carry) const {
    ForEachRow(block, [&](const T* const(&in)[Cell::kInputs], T* const(&out)[Cell::kOutputs])
                          TF_PLR_INLINE_LAMBDA {
#pragma GCC ivdep
                            for (int64_t c = 0; c < block.columns; ++c) {
                              A values[Cell::kInputs], results[Cell::kOutputs];
                              for (int k = 0; k < Cell::kInputs; ++k) values[k] = A(in[k][c]);
                              const A before = carry[c];
                              const A after = Cell::Step(values).Apply(before);
                              Cell::Emit(values, before, after, results);
                              for (int k = 0; k < Cell::kOutputs; ++k) out[k][c] = T(results[k]);
                              carry[c] = after;
                            }
                          });
  }

  TF_PLR_INLINE void ReduceRows(const Block& block, Transition<A>* transition) const {
    for (int64_t c = 0; c < block.columns; ++c) {
      transition[c] = Transition<A>::Identity();
    }
    ForEachRow(block, [&](const T* const(&in)[Cell::kInputs], T* const(&)[Cell::kOutputs])
                          TF_PLR_INLINE_LAMBDA {
#pragma GCC ivdep
                            for (int64_t c = 0; c < block.columns; ++c) {
                              A values[Cell::kInputs];
                              for (int k = 0; k < Cell::kStepInputs; ++k) values[k] = A(in[k][c]);
                              transition[c] = Compose(transition[c], Cell::Step(values));
                            }
                          });
  }

  // Calls row(in, out) with the arrays' rows, in processing order.
  template <typename Row>
  TF_PLR_INLINE void ForEachRow(const Block& block, const Row& row) const {
    const T* in[Cell::kInputs];
    T* out[Cell::kOutputs];
    int64_t offset = OffsetOf(block);
    for (int64_t step = block.first_step; step < block.first_step + block.steps; ++step) {
      for (int k = 0; k < Cell::kInputs; ++k) {
        in[k] = arrays_.inputs[k] + offset;
      }
      for (int k = 0; k < Cell::kOutputs; ++k) {
        out[k] = arrays_.outputs[k] + offset;
      }
      if constexpr (Cell::kLookahead >= 0) {
        if (step + 1 < problem_.steps) {
          in[Cell::kLookahead] += row_stride_;
        } else if (arrays_.boundary != nullptr) {
          in[Cell::kLookahead] = arrays_.boundary + block.column;
        } else {
          in[Cell::kLookahead] = zeros_.data();
        }
      }
      row(in, out);
      offset += row_stride_;
    }
  }

  const Problem problem_;
  const Arrays<Cell, T> arrays_;
  const int64_t row_stride_;
  std::vector<T> zeros_;
};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_ENGINE_H_
