// SPDX-License-Identifier: MIT
#include "cc/calls/broadcast.h"

namespace tf_plr {
namespace {

// Axes are appended last to first. Returns whether there was room.
bool Append(int64_t size, int64_t stride, BroadcastAxes* axes) {
  const int last = axes->count - 1;
  if (last >= 0 && (axes->strides[last] == 0) == (stride == 0)) {
    axes->sizes[last] *= size;
    return true;
  }
  if (axes->count == BroadcastAxes::kMax) return false;
  axes->sizes[axes->count] = size;
  axes->strides[axes->count++] = stride;
  return true;
}

// Returns whether there was room for all axes.
bool Fill(const Shape& decays, const Shape& shape, int64_t axis, BroadcastIndex* index) {
  *index = {};
  if (CountElements(shape) == 0) return true;  // Nothing is read; the sizes may overflow.
  int64_t stride = 1;
  for (auto i = static_cast<int64_t>(shape.size()) - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;
    const int64_t own = decays[i] == 1 ? 0 : stride;
    stride *= decays[i];
    if (i == axis) {
      index->step_stride = own;
    } else if (!Append(shape[i], own, i < axis ? &index->outer : &index->inner)) {
      return false;
    }
  }
  return true;
}

}  // namespace

Status CheckDecays(const Buffer& decays, const char* what, const Shape& shape) {
  bool fits = decays.shape.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = decays.shape[i] == shape[i] || decays.shape[i] == 1;
  }
  if (!fits) {
    return InvalidArgument("decays must have ", what, ", ", shape,
                           ", or size 1 on axes where they differ, but has shape ", decays.shape);
  }
  // Whichever axis is that of time, the others fit if all of them would fit on one side.
  BroadcastIndex index;
  if (Fill(decays.shape, shape, /*axis=*/-1, &index)) return {};
  return InvalidArgument("decays of shape ", decays.shape, " are broadcast to shape ", shape,
                         ". Axes on which they are broadcast and others form more than ",
                         int64_t{BroadcastAxes::kMax}, " groups of neighbouring axes");
}

BroadcastIndex BroadcastIndexOf(const Shape& decays, const Shape& shape, int64_t axis) {
  BroadcastIndex index;
  Fill(decays, shape, axis, &index);
  return index;
}

AxesToSum AxesToSumOf(const Shape& decays, const Shape& shape) {
  AxesToSum axes;
  if (CountElements(shape) == 0) {  // Sums of nothing.
    axes.Append(CountElements(decays), false);
    axes.Append(0, true);
    return axes;
  }
  for (size_t i = 0; i < shape.size(); ++i) axes.Append(shape[i], decays[i] != shape[i]);
  return axes;
}

}  // namespace tf_plr
