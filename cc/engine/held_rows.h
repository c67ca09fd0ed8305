// SPDX-License-Identifier: MIT
// Hold makes masked steps repeat the outputs of the last valid step. SumHeld is its gradient.
#ifndef TF_PLR_ENGINE_HELD_ROWS_H_
#define TF_PLR_ENGINE_HELD_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/numeric.h"
#include "cc/engine/types.h"

namespace tf_plr {

// Row-major [outer, steps, width], and a mask [outer, steps], false where a step is masked.
template <typename T>
struct HeldRows {
  const T* from;  // Read by SumHeld only; may equal `to`.
  T* to;
  const bool* mask;
  int64_t outer, steps, width;

  TF_PLR_HOST_DEVICE int64_t Row(int64_t outer_index, int64_t step) const {
    return outer_index * steps + step;
  }
  TF_PLR_HOST_DEVICE bool IsValid(int64_t outer_index, int64_t step) const {
    return mask[Row(outer_index, step)];
  }
};

// Hold copies the last valid row to each masked row after it. Masked rows before the first valid
// row keep their values.
// SumHeld writes to each valid row the sum of that row and of the masked rows right after it, in
// float32 and in a fixed order. It does not write masked rows.
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
