// SPDX-License-Identifier: MIT
#include "cc/engine/causal_windows.h"

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

// Calls function(sequence, source, worker) for all sources.
template <typename T, typename Function>
void ForSources(const CausalWindows<T>& windows, const Workers& workers, const Function& function) {
  constexpr int64_t kBytes = 1 << 16;  // Bytes of windows per task.
  const int64_t row_bytes = (windows.before + 1) * windows.width * int64_t{sizeof(T)};
  const int64_t rows = std::max<int64_t>(1, kBytes / std::max<int64_t>(1, row_bytes));
  const int64_t chunks = (windows.Sources() + rows - 1) / rows;
  RunTasks(workers, windows.batch * chunks, [&](int64_t task, int worker) noexcept {
    const int64_t sequence = task / chunks, begin = task % chunks * rows;
    const int64_t end = std::min(begin + rows, windows.Sources());
    for (int64_t source = begin; source < end; ++source) function(sequence, source, worker);
  });
}

// Returns the first unmasked step at or after `step`, or windows.steps if there is none.
template <typename T>
int64_t NextValid(const CausalWindows<T>& windows, int64_t sequence, int64_t step) {
  if (windows.flags.mask == nullptr) return step;
  const bool* const mask = windows.flags.mask + sequence * windows.steps;
  for (uint64_t eight; step + int64_t{sizeof(eight)} <= windows.steps; step += sizeof(eight)) {
    std::memcpy(&eight, mask + step, sizeof(eight));
    if (eight != 0) break;
  }
  while (step < windows.steps && !mask[step]) ++step;
  return step;
}

template <typename T>
bool AnyReset(const CausalWindows<T>& windows, int64_t sequence, int64_t first, int64_t end) {
  const bool* const resets = windows.flags.resets + sequence * windows.steps;
  return std::find(resets + first, resets + end, true) != resets + end;
}

}  // namespace

template <typename T>
const char* ToWindows(const CausalWindows<T>& windows, const Workers& workers) {
  const size_t row_bytes = windows.width * sizeof(T);
  ForSources(windows, workers, [&](int64_t sequence, int64_t source, int) {
    if (windows.IsMasked(sequence, source)) {
      std::memset(static_cast<void*>(windows.Window(sequence, source - windows.before)), 0,
                  (windows.before + 1) * row_bytes);
      return;
    }
    const T* const from = windows.Source(sequence, source);
    windows.ForEachAppearance(
        sequence, source, [&](int64_t step) { return NextValid(windows, sequence, step); },
        [&](int64_t first, int64_t end) { return AnyReset(windows, sequence, first, end); },
        [&](T* row, bool forgotten) {
          if (forgotten) {
            std::memset(static_cast<void*>(row), 0, row_bytes);
          } else {
            std::memcpy(static_cast<void*>(row), from, row_bytes);
          }
        });
  });
  return nullptr;
}

template <typename T>
const char* FromWindows(const CausalWindows<T>& windows, const Workers& workers) {
  const int64_t width = windows.width;
  const std::unique_ptr<float[]> all_sums(new (std::nothrow) float[workers.threads * width]);
  if (all_sums == nullptr) return "the CPU engine could not allocate the sums over windows";
  ForSources(windows, workers, [&](int64_t sequence, int64_t source, int worker) {
    float* const sums = all_sums.get() + worker * width;
    std::fill_n(sums, width, 0.0f);
    if (!windows.IsMasked(sequence, source)) {
      DispatchSimd([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
        windows.ForEachAppearance(
            sequence, source, [&](int64_t step) { return NextValid(windows, sequence, step); },
            [&](int64_t first, int64_t end) { return AnyReset(windows, sequence, first, end); },
            [&](const T* row, bool forgotten) {
              if (!forgotten) AddRow<register_bytes>(row, width, sums);
            });
      });
    }
    T* const to = windows.Source(sequence, source);
    for (int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(sums[i]);
  });
  return nullptr;
}

#define TF_PLR_INSTANTIATE(type, element, ...)                                   \
  template const char* ToWindows(const CausalWindows<element>&, const Workers&); \
  template const char* FromWindows(const CausalWindows<element>&, const Workers&);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)

}  // namespace cpu
}  // namespace tf_plr
