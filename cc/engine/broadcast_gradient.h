// SPDX-License-Identifier: MIT
// The gradient with respect to broadcast decays: each decay gets the sum over all elements that use
// it. The shape alone fixes the order of addition.
#ifndef TF_PLR_ENGINE_BROADCAST_GRADIENT_H_
#define TF_PLR_ENGINE_BROADCAST_GRADIENT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {

// All axes of a problem, first to last; neighbours that are alike count as one.
struct AxesToSum {
  static constexpr int kMax = 2 * BroadcastAxes::kMax + 1;

  int count = 0;
  int64_t sizes[kMax];
  bool summed[kMax];

  // Appends an axis, unless it has size 1. Returns whether there was room.
  bool Append(int64_t size, bool is_summed) {
    if (size == 1) return true;
    if (count > 0 && summed[count - 1] == is_summed) {
      sizes[count - 1] *= size;
      return true;
    }
    if (count == kMax) return false;
    sizes[count] = size;
    summed[count++] = is_summed;
    return true;
  }
};

// One pass over an array [before, size, after]: sums each chunk of the axis in the middle. The
// result is [before, chunks, after].
struct SumPass {
  int64_t before, size, after, chunk;

  // A row of at least kWide elements is summed by as many threads of a GPU, a shorter one by a
  // warp.
  static constexpr int64_t kWide = 32;

  SumPass(int64_t before, int64_t size, int64_t after) : before(before), size(size), after(after) {
    const int64_t elements = before * size * after;
    if (after >= kWide) {
      chunk = std::clamp<int64_t>(elements >> 18, 16, 512);
    } else {
      chunk = std::clamp<int64_t>(elements >> 13, 512, 8192) / std::max<int64_t>(1, after);
    }
  }
  int64_t chunks() const { return std::max<int64_t>(1, (size + chunk - 1) / chunk); }
  int64_t results() const { return before * chunks() * after; }
};

// Calls function(SumPass) for all passes that sum the axes, last axis first. Each pass reads what
// the one before it wrote. There is at least one, even if no axis is summed.
template <typename Function>
void ForEachSumPass(const AxesToSum& axes, const Function& function) {
  int64_t after = 1;
  bool any = false;
  for (int i = axes.count - 1; i >= 0; --i) {
    any |= axes.summed[i];
    if (!axes.summed[i]) {
      after *= axes.sizes[i];
      continue;
    }
    int64_t before = 1, size = axes.sizes[i];
    for (int k = 0; k < i; ++k) before *= axes.sizes[k];
    do {
      const SumPass pass(before, size, after);
      function(pass);
      size = pass.chunks();
    } while (size > 1);
  }
  if (!any) function(SumPass(1, 1, after));
}

template <typename T>
struct BroadcastGradient {
  Problem problem;  // In the direction of the recurrence.
  AxesToSum axes;   // Their sizes, multiplied, are those of the problem.
  const T *states, *d_impulses;
  const T* initial_state;  // Null: zeros.
  const bool* resets;      // As in StepFlags. The gradients of masked steps' impulses are zeros.
  T* d_decays;             // One for each index of the axes that are not summed.

  int64_t results() const {
    int64_t n = 1;
    for (int i = 0; i < axes.count; ++i) n *= axes.summed[i] ? 1 : axes.sizes[i];
    return n;
  }
  // Elements of the accumulator's type: what the first two passes write. Later ones write no more.
  int64_t workspace_size() const {
    int64_t elements = 0;
    int number = 0;
    ForEachSumPass(axes, [&](const SumPass& pass) {
      if (number++ < 2) elements += pass.results();
    });
    return elements;
  }
};

namespace cpu {
// Any data type. `workspace` has room for workspace_size() accumulators, aligned to 16 bytes.
// Returns null, or what went wrong.
template <typename T>
const char* Differentiate(const BroadcastGradient<T>& gradient, void* workspace,
                          const Workers& workers);
}  // namespace cpu

namespace gpu {
// The same on a cudaStream_t.
template <typename T>
const char* Differentiate(const BroadcastGradient<T>& gradient, void* workspace, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_BROADCAST_GRADIENT_H_
