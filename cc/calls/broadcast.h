// SPDX-License-Identifier: MIT
// Shapes of decays that are broadcast to the shape of a problem, as the engines take them.
#ifndef TF_PLR_CALLS_BROADCAST_H_
#define TF_PLR_CALLS_BROADCAST_H_

#include <cstdint>

#include "cc/calls/call.h"
#include "cc/engine/broadcast.h"
#include "cc/engine/broadcast_gradient.h"

namespace tf_plr {

// Checks that decays have `shape`, or size 1 where they do not. `what` describes that shape.
Status CheckDecays(const Buffer& decays, const char* what, const Shape& shape);

// Both are for shapes that CheckDecays takes, with `axis` >= 0.
BroadcastIndex BroadcastIndexOf(const Shape& decays, const Shape& shape, int64_t axis);
AxesToSum AxesToSumOf(const Shape& decays, const Shape& shape);

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_BROADCAST_H_
