// SPDX-License-Identifier: MIT
// The windows of a causal convolution, and their gradient. A window holds a row and the rows before
// it, side by side, so that one matrix product computes the convolution at all steps.
#ifndef TF_PLR_ENGINE_CAUSAL_WINDOWS_H_
#define TF_PLR_ENGINE_CAUSAL_WINDOWS_H_

#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {

// Row-major arrays:
//
//   inputs        [batch, steps, width]
//   history       [batch, before, width]             The rows before the first input, oldest first.
//   windows       [batch, steps, before + 1, width]  Oldest row first.
//   last_history  [batch, before, width]             The last rows, oldest first.
//
// A masked step appears in no window and has no window of its own. From a reset on, rows before it
// are zeros.
template <typename T>
struct CausalWindows {
  T *inputs, *history, *windows, *last_history;
  StepFlags flags;
  int64_t batch, steps, width, before;

  // Sources are the rows of the history, then the inputs.
  TF_PLR_HOST_DEVICE int64_t Sources() const { return before + steps; }
  TF_PLR_HOST_DEVICE T* Source(int64_t sequence, int64_t source) const {
    return source < before ? history + (sequence * before + source) * width
                           : inputs + (sequence * steps + source - before) * width;
  }
  TF_PLR_HOST_DEVICE bool IsMasked(int64_t sequence, int64_t source) const {
    return flags.mask != nullptr && source >= before &&
           !flags.mask[sequence * steps + source - before];
  }
  TF_PLR_HOST_DEVICE T* Window(int64_t sequence, int64_t step) const {
    return windows + (sequence * steps + step) * (before + 1) * width;
  }

  // Calls use(row, forgotten) for every row that is the place of an unmasked source: one in each
  // window that contains the source, and one in the last history if it is still among the last
  // rows. forgotten: whether there was a reset since. next_valid(step) returns the first unmasked
  // step at or after `step`, or `steps` if there is none. any_reset(first, end) returns whether
  // there is a reset in [first, end).
  template <typename NextValid, typename AnyReset, typename Use>
  TF_PLR_HOST_DEVICE void ForEachAppearance(int64_t sequence, int64_t source,
                                            NextValid&& next_valid, AnyReset&& any_reset,
                                            Use&& use) const {
    int64_t place = source < before ? source : before;
    int64_t known = source < before ? 0 : source - before + 1;  // The first step to look at next.
    int64_t step = source < before ? next_valid(0) : source - before;
    bool forgotten = false;
    while (true) {
      if (flags.resets != nullptr) {
        const int64_t end = step < steps ? step + 1 : steps;
        forgotten = forgotten || (known < end && any_reset(known, end));
        known = end;
      }
      if (step == steps) {
        use(last_history + (sequence * before + place) * width, forgotten);
        return;
      }
      use(Window(sequence, step) + place * width, forgotten);
      if (place-- == 0) return;
      step = next_valid(step + 1);
    }
  }
};

// ToWindows reads inputs and history; it writes windows and last_history. The windows of masked
// steps are zeros.
// FromWindows is its gradient: it reads windows and last_history, and writes inputs and history.
// It sums each row over all places where the row appears, in float32 and in a fixed order. Masked
// rows are zeros.
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
