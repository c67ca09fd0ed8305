// SPDX-License-Identifier: MIT
#ifndef TF_PLR_ENGINE_CPU_ADD_ROW_H_
#define TF_PLR_ENGINE_CPU_ADD_ROW_H_

#include <cstdint>

#include "cc/engine/cpu/processor.h"
#include "cc/engine/cpu/simd.h"

namespace tf_plr {
namespace cpu {

// Adds a row to sums of its columns.
template <int kRegisterBytes, typename T>
TF_PLR_INLINE void AddRow(const T* row, int64_t width, float* sums) {
  constexpr int kLanes = LanesOf<float>(kRegisterBytes);
  using V = Vector<float, kLanes>;
  int64_t column = 0;
  for (; column + kLanes <= width; column += kLanes) {
    const V sum = Memory<float, float, kLanes>::Load(sums + column) +
                  Memory<float, T, kLanes>::Load(row + column);
    Memory<float, float, kLanes>::Store(sum, sums + column);
  }
  for (; column < width; ++column) sums[column] += static_cast<float>(row[column]);
}

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_ADD_ROW_H_
