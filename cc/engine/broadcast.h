// SPDX-License-Identifier: MIT
// Decays that are broadcast: arrays that have size 1 on axes where the problem is larger.
#ifndef TF_PLR_ENGINE_BROADCAST_H_
#define TF_PLR_ENGINE_BROADCAST_H_

#include <cstdint>

#include "cc/engine/numeric.h"

namespace tf_plr {

// The axes before or after time, seen as one axis of the problem. Neighbours that are all
// broadcast, or all not, count as one. The last axis comes first. A broadcast axis has stride 0.
struct BroadcastAxes {
  static constexpr int kMax = 8;

  int count;
  int64_t sizes[kMax], strides[kMax];

  // Where the decays of an index of the problem's axis begin.
  TF_PLR_HOST_DEVICE int64_t Offset(int64_t index) const {
    int64_t offset = 0;
    for (int i = 0; i + 1 < count; ++i) {
      const int64_t rest = index / sizes[i];
      offset += (index - rest * sizes[i]) * strides[i];
      index = rest;
    }
    return count == 0 ? 0 : offset + index * strides[count - 1];
  }
};

// Where the decays of a problem's element (outer, step, inner) lie in their array.
struct BroadcastIndex {
  BroadcastAxes outer, inner;
  int64_t step_stride;  // 0: all steps have the same decays.
};

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_BROADCAST_H_
