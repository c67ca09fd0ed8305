// SPDX-License-Identifier: MIT
// The windows of a causal convolution, each row beside those before it, for one product of all; and
// the gradient of that.
#ifndef TF_PLR_ENGINE_CAUSAL_WINDOWS_H_
#define TF_PLR_ENGINE_CAUSAL_WINDOWS_H_

#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/numeric.h"
#include "cc/engine/types.h"

namespace tf_plr {

// Row-major: inputs [batch, steps, width], after the rows of history [batch, before, width];
// windows [batch, steps, before + 1, width], oldest row first; the last history, as history. Masked
// steps are in no window, and have none.
template <typename T>
struct CausalWindows {
  T *inputs, *history, *windows, *last_history;
  const bool* mask;  // [batch, steps], false where a step is masked; null if none is.
  int64_t batch, steps, width, before;

  // Sources are the rows of the history, then the inputs.
  TF_PLR_HOST_DEVICE int64_t Sources() const { return before + steps; }
  TF_PLR_HOST_DEVICE T* Source(int64_t sequence, int64_t source) const {
    return source < before ? history + (sequence * before + source) * width
                           : inputs + (sequence * steps + source - before) * width;
  }
  TF_PLR_HOST_DEVICE bool IsMasked(int64_t sequence, int64_t source) const {
    return mask != nullptr && source >= before && !mask[sequence * steps + source - before];
  }
  TF_PLR_HOST_DEVICE T* Window(int64_t sequence, int64_t step) const {
    return windows + (sequence * steps + step) * (before + 1) * width;
  }

  // Calls use(row) with all rows where a source that is not masked stands: one in each window that
  // has it, and that in the last history. next_valid(step) is the first step from there on that is
  // not masked, or `steps`.
  template <typename NextValid, typename Use>
  TF_PLR_HOST_DEVICE void ForUses(int64_t sequence, int64_t source, NextValid&& next_valid,
                                  Use&& use) const {
    int64_t place = source < before ? source : before;
    int64_t step = source < before ? next_valid(0) : source - before;
    while (true) {
      if (step == steps) {
        use(last_history + (sequence * before + place) * width);
        return;
      }
      use(Window(sequence, step) + place * width);
      if (place-- == 0) return;
      step = next_valid(step + 1);
    }
  }
};

// ToWindows: from inputs and history, windows and the last history; zeros where a step is masked.
// FromWindows: to inputs and history, the sums of all windows and of the last history where they
// stood, in float32 and in a fixed order; zeros where a step is masked.
namespace cpu {
// Half, BFloat16 or float. Each returns null, or what went wrong.
template <typename T>
const char* ToWindows(const CausalWindows<T>& windows, const Workers& workers);
template <typename T>
const char* FromWindows(const CausalWindows<T>& windows, const Workers& workers);
}  // namespace cpu

namespace gpu {
// Half, BFloat16 or float; on a cudaStream_t. Each returns null, or what went wrong.
template <typename T>
const char* ToWindows(const CausalWindows<T>& windows, void* stream);
template <typename T>
const char* FromWindows(const CausalWindows<T>& windows, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CAUSAL_WINDOWS_H_
