// SPDX-License-Identifier: MIT
// Hold makes masked steps repeat the outputs of the last valid step of their sequence. SumHeld is
// its gradient.
#ifndef TF_PLR_ENGINE_HELD_ROWS_H_
#define TF_PLR_ENGINE_HELD_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {

// Row-major [outer, steps, width]. There is a mask; there may be resets.
template <typename T>
struct HeldRows {
  const T* from;  // Read by SumHeld only; may equal `to`.
  T* to;
  StepFlags flags;
  int64_t outer, steps, width;

  TF_PLR_HOST_DEVICE int64_t Row(int64_t outer_index, int64_t step) const {
    return outer_index * steps + step;
  }
  TF_PLR_HOST_DEVICE bool IsValid(int64_t outer_index, int64_t step) const {
    return flags.mask[Row(outer_index, step)];
  }
  TF_PLR_HOST_DEVICE bool IsReset(int64_t outer_index, int64_t step) const {
    return flags.resets != nullptr && flags.resets[Row(outer_index, step)];
  }
  // Whether the step does not repeat the step before it.
  TF_PLR_HOST_DEVICE bool BreaksRun(int64_t outer_index, int64_t step) const {
    return IsValid(outer_index, step) || IsReset(outer_index, step);
  }
};

// Hold copies the last valid row to each masked row after it, up to a reset. Masked rows before the
// first valid row of a sequence keep their values.
// SumHeld writes to each valid row the sum of that row and of the masked rows right after it, up to
// a reset, in float32 and in a fixed order. It does not write masked rows.
namespace cpu {
// Half, BFloat16 or float. Each returns null, or what went wrong.
template <typename T>
const char* Hold(const HeldRows<T>& rows, const Workers& workers);
template <typename T>
const char* SumHeld(const HeldRows<T>& rows, const Workers& workers);
}  // namespace cpu

namespace gpu {
constexpr int64_t kHoldSteps = 1024;  // Steps of one block of Hold.
// Device memory that Hold needs.
template <typename T>
size_t HoldWorkspaceBytes(const HeldRows<T>& rows) {
  return rows.outer * ((rows.steps + kHoldSteps - 1) / kHoldSteps) * sizeof(int64_t);
}
// Half, BFloat16 or float; on a cudaStream_t. Each returns null, or what went wrong.
template <typename T>
const char* Hold(const HeldRows<T>& rows, void* workspace, void* stream);
template <typename T>
const char* SumHeld(const HeldRows<T>& rows, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_HELD_ROWS_H_
