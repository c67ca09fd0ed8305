// SPDX-License-Identifier: MIT
#include "cc/engine/broadcast_gradient.h"

#include <algorithm>
#include <cstdint>

#include "cc/engine/cpu/half_precision.h"
#include "cc/engine/cpu/simd.h"

namespace tf_plr {
namespace cpu {
namespace {

// What the first pass sums: conj(states_{t-1}) d_impulses_t at each element of the problem.
template <typename T>
struct Products {
  using A = Accumulator<T>;

  const BroadcastGradient<T>& of;

  // Neighbouring elements, of which each one's previous state is at the same distance.
  struct Run {
    const T *previous, *d_impulses;  // `previous` is null if all are zeros.
    int64_t length;

    A At(int64_t i) const {
      return Conjugate(IsFromZeros() ? A(0) : A(previous[i])) * A(d_impulses[i]);
    }
    bool IsFromZeros() const { return previous == nullptr; }
  };

  Run RunAt(int64_t element) const {
    const auto& [outers, steps, inner, reverse] = of.problem;
    const int64_t row = element / inner, column = element % inner;
    const int64_t outer = row / steps, step = reverse ? steps - 1 - row % steps : row % steps;
    const T* const d_impulses = of.d_impulses + element;
    if (of.resets != nullptr && of.resets[row]) return {nullptr, d_impulses, inner - column};
    if (step == 0) {
      const T* const initial = of.initial_state;
      return {initial == nullptr ? nullptr : initial + outer * inner + column, d_impulses,
              inner - column};
    }
    int64_t left = reverse ? step : steps - step;  // Rows up to the next first step.
    if (of.resets != nullptr) left = 1;
    return {of.states + (reverse ? element + inner : element - inner), d_impulses,
            left * inner - column};
  }
};

// What later passes sum.
template <typename Accumulator>
struct Sums {
  using A = Accumulator;

  const A* sums;
  int64_t size;

  struct Run {
    const A* sums;
    int64_t length;

    A At(int64_t i) const { return sums[i]; }
    bool IsFromZeros() const { return false; }
  };
  Run RunAt(int64_t element) const { return {sums + element, size - element}; }
};

constexpr int64_t kMostColumns = 256, kFewColumns = 16;

// Adds whole rows of kWidth elements, from i on, with the sums in registers. Returns where it ends.
template <int64_t kWidth, typename Run, typename A>
int64_t AddRows(const Run& run, int64_t i, int64_t length, A* sums) {
  A held[kWidth];
  std::copy_n(sums, kWidth, held);
  for (; i + kWidth <= length; i += kWidth) {
    for (int64_t k = 0; k < kWidth; ++k) held[k] = held[k] + run.At(i + k);
  }
  std::copy_n(held, kWidth, sums);
  return i;
}

// Adds `count` neighbouring elements to `width` sums, in turns.
template <typename Source, typename A>
void Add(const Source& source, int64_t element, int64_t count, A* sums, int64_t width) {
  int64_t column = 0;
  while (count > 0) {
    const auto run = source.RunAt(element);
    const int64_t length = std::min(run.length, count);
    element += length;
    count -= length;
    int64_t i = 0;
    const auto add_one = [&] {
      sums[column] = sums[column] + run.At(i++);
      if (++column == width) column = 0;
    };
    while (i < length && run.IsFromZeros()) add_one();
    while (i < length && column != 0) add_one();
    if (width == kFewColumns) {
      i = AddRows<kFewColumns>(run, i, length, sums);
    } else {
      for (; i + width <= length; i += width) {
        for (int64_t k = 0; k < width; ++k) sums[k] = sums[k] + run.At(i + k);
      }
    }
    while (i < length) add_one();
  }
}

// Sums rows [first, end) of `pass.after` elements.
template <typename Source, typename To>
void SumRows(const Source& source, const SumPass& pass, int64_t first, int64_t end, To* to) {
  using A = typename Source::A;
  A sums[kMostColumns];
  if (pass.after <= kMostColumns) {
    // Of short rows, several have sums of their own, so that additions need not wait.
    const int64_t width = pass.after * std::max<int64_t>(1, kFewColumns / pass.after);
    std::fill_n(sums, width, A(0));
    Add(source, first * pass.after, (end - first) * pass.after, sums, width);
    for (int64_t k = pass.after; k < width; ++k) {
      sums[k % pass.after] = sums[k % pass.after] + sums[k];
    }
    for (int64_t k = 0; k < pass.after; ++k) to[k] = To(sums[k]);
    return;
  }
  for (int64_t column = 0; column < pass.after; column += kMostColumns) {
    const int64_t columns = std::min(kMostColumns, pass.after - column);
    std::fill_n(sums, columns, A(0));
    for (int64_t row = first; row < end; ++row) {
      Add(source, row * pass.after + column, columns, sums, columns);
    }
    for (int64_t k = 0; k < columns; ++k) to[column + k] = To(sums[k]);
  }
}

template <typename Source, typename To>
void Run(const Source& source, const SumPass& pass, To* to, const Workers& workers) {
  constexpr int64_t kTaskElements = 16 << 10;
  if (pass.after == 0) return;
  const int64_t chunks = pass.chunks(), chunk_elements = pass.chunk * pass.after;
  const int64_t task_chunks = std::max<int64_t>(1, kTaskElements / chunk_elements);
  const int64_t all = pass.before * chunks;
  RunTasks(workers, (all + task_chunks - 1) / task_chunks, [&](int64_t task, int) noexcept {
    const int64_t end = std::min((task + 1) * task_chunks, all);
    for (int64_t i = task * task_chunks; i < end; ++i) {
      const int64_t first = i / chunks * pass.size, row = i % chunks * pass.chunk;
      SumRows(source, pass, first + row, first + std::min(row + pass.chunk, pass.size),
              to + i * pass.after);
    }
  });
}

}  // namespace

template <typename T>
const char* Differentiate(const BroadcastGradient<T>& gradient, void* workspace,
                          const Workers& workers) {
  using A = Accumulator<T>;
  if (gradient.results() == 0) return nullptr;
  A *from = nullptr, *to = static_cast<A*>(workspace);
  int64_t size = 0;  // Of `from`.
  ForEachSumPass(gradient.axes, [&](const SumPass& pass) {
    A* next = from;  // Passes take turns between two places.
    if (from == nullptr) {
      Run(Products<T>{gradient}, pass, to, workers);
      next = to + pass.results();
    } else {
      Run(Sums<A>{from, size}, pass, to, workers);
    }
    from = to;
    to = next;
    size = pass.results();
  });
  constexpr int64_t kTask = 64 << 10;
  RunTasks(workers, (size + kTask - 1) / kTask, [&](int64_t task, int) noexcept {
    const int64_t end = std::min((task + 1) * kTask, size);
    for (int64_t i = task * kTask; i < end; ++i) gradient.d_decays[i] = T(from[i]);
  });
  return nullptr;
}

#define TF_PLR_INSTANTIATE(type, element, ...) \
  template const char* Differentiate(const BroadcastGradient<element>&, void*, const Workers&);
TF_PLR_FOR_EACH_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace cpu
}  // namespace tf_plr
