// SPDX-License-Identifier: MIT
#include "cc/engine/held_rows.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "cc/engine/cpu/add_row.h"
#include "cc/engine/cpu/half_precision.h"
#include "cc/engine/cpu/processor.h"

namespace tf_plr {
namespace cpu {
namespace {

// Calls function(outer, begin, end, worker) for chunks of the steps of every sequence.
template <typename T, typename Function>
void ForChunks(const HeldRows<T>& rows, const Workers& workers, const Function& function) {
  // Chunks are few, because each may have to search all steps before it for the last valid one.
  constexpr int64_t kMinSteps = 256, kMaxChunks = 64;
  const int64_t steps = std::max(kMinSteps, (rows.steps + kMaxChunks - 1) / kMaxChunks);
  const int64_t chunks = (rows.steps + steps - 1) / steps;
  RunTasks(workers, rows.outer * chunks, [&](int64_t task, int worker) noexcept {
    const int64_t begin = task % chunks * steps;
    function(task / chunks, begin, std::min(begin + steps, rows.steps), worker);
  });
}

}  // namespace

template <typename T>
const char* Hold(const HeldRows<T>& rows, const Workers& workers) {
  ForChunks(rows, workers, [&](int64_t outer, int64_t begin, int64_t end, int) {
    int64_t last = begin;  // Of the steps that break a run.
    while (last >= 0 && !rows.BreaksRun(outer, last)) --last;
    for (int64_t step = begin; step < end; ++step) {
      if (rows.BreaksRun(outer, step)) {
        last = step;
      } else if (last >= 0 && rows.IsValid(outer, last)) {
        std::memcpy(rows.to + rows.Row(outer, step) * rows.width,
                    rows.to + rows.Row(outer, last) * rows.width, rows.width * sizeof(T));
      }
    }
  });
  return nullptr;
}

template <typename T>
const char* SumHeld(const HeldRows<T>& rows, const Workers& workers) {
  const int64_t width = rows.width;
  const std::unique_ptr<float[]> all_sums(new (std::nothrow) float[workers.threads * width]);
  if (all_sums == nullptr) return "the CPU engine could not allocate the sums of held rows";
  ForChunks(rows, workers, [&](int64_t outer, int64_t begin, int64_t end, int worker) {
    float* const sums = all_sums.get() + worker * width;
    const auto row = [&](int64_t step) { return rows.from + rows.Row(outer, step) * width; };
    for (int64_t step = begin; step < end; ++step) {
      if (!rows.IsValid(outer, step)) continue;
      T* const to = rows.to + rows.Row(outer, step) * width;
      int64_t next = step + 1;
      if (next == rows.steps || rows.BreaksRun(outer, next)) {
        if (to != row(step)) std::memcpy(to, row(step), width * sizeof(T));
        continue;
      }
      DispatchSimd([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
        std::fill_n(sums, width, 0.0f);
        AddRow<register_bytes>(row(step), width, sums);
        for (; next < rows.steps && !rows.BreaksRun(outer, next); ++next) {
          AddRow<register_bytes>(row(next), width, sums);
        }
      });
      for (int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(sums[i]);
    }
  });
  return nullptr;
}

#define TF_PLR_INSTANTIATE(type, element, ...)                         \
  template const char* Hold(const HeldRows<element>&, const Workers&); \
  template const char* SumHeld(const HeldRows<element>&, const Workers&);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)

}  // namespace cpu
}  // namespace tf_plr
