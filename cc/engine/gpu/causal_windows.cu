// SPDX-License-Identifier: MIT
// A warp has a few sources and as many columns as its lanes hold.
#include <cstdint>

#include "cc/engine/causal_windows.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"

namespace tf_plr {
namespace gpu {

constexpr int kWindowWarps = 8, kSourcesOfWarp = 8;

template <typename T>
struct WindowParams {
  CausalWindows<T> windows;
  int64_t warps, groups;  // Per sequence, along the sources; along the columns (the fastest).
};

// Finds the first unmasked step at or after a given step. All lanes of a warp call together. Caches
// what it has read of the mask, because most calls are about the same few steps.
template <typename T>
class ValidSteps {
 public:
  __device__ ValidSteps(const CausalWindows<T>& windows, int64_t sequence)
      : mask_(windows.flags.mask == nullptr ? nullptr
                                            : windows.flags.mask + sequence * windows.steps),
        steps_(windows.steps) {}

  __device__ int64_t From(int64_t step) {
    if (mask_ == nullptr) return step;
    if (step < empty_from_ || step >= first_ + kWarp) Look(step);
    while (true) {
      const unsigned valid = step > first_ ? valid_ & ~0u << (step - first_) : valid_;
      if (valid != 0) return first_ + __ffs(valid) - 1;
      if (first_ + kWarp >= steps_) return steps_;
      AdvanceToNextValid();
    }
  }

 private:
  __device__ unsigned Valid(int64_t first) const {
    const int64_t step = first + threadIdx.x % kWarp;
    return __ballot_sync(~0u, step < steps_ && mask_[step]);
  }
  __device__ void Look(int64_t step) {
    empty_from_ = first_ = step;
    valid_ = Valid(step);
  }
  // Advances to the next kWarp steps that are not all masked, or past the end.
  __device__ void AdvanceToNextValid() {
    constexpr int kAtOnce = 8;  // Loads in flight.
    if (valid_ != 0) empty_from_ = first_ + kWarp - __clz(valid_);
    for (first_ += kWarp; first_ < steps_; first_ += kAtOnce * kWarp) {
      unsigned valid[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) valid[i] = Valid(first_ + i * kWarp);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (valid[i] == 0) continue;
        valid_ = valid[i];
        first_ += i * kWarp;
        return;
      }
    }
    valid_ = 0;
  }

  const bool* const mask_;
  const int64_t steps_;
  // Bit i of valid_ is set if step first_ + i is valid. No step in [empty_from_, first_) is valid.
  int64_t empty_from_ = 0, first_ = -kWarp;
  unsigned valid_ = 0;
};

// Whether there is a reset in [first, end). All lanes of a warp call together.
template <typename T>
__device__ bool AnyReset(const CausalWindows<T>& windows, int64_t sequence, int64_t first,
                         int64_t end) {
  const bool* const resets = windows.flags.resets + sequence * windows.steps;
  bool any = false;
  for (; first < end && !any; first += kWarp) {
    const int64_t step = first + threadIdx.x % kWarp;
    any = __ballot_sync(~0u, step < end && resets[step]) != 0;
  }
  return any;
}

template <typename T, int kVector, bool kToWindows>
__global__ void __launch_bounds__(kWindowWarps* kWarp)
    MoveWindows(const __grid_constant__ WindowParams<T> p) {
  using Row = Pack<T, kVector>;
  const CausalWindows<T>& windows = p.windows;
  const int64_t warp = int64_t{blockIdx.x} * kWindowWarps + threadIdx.x / kWarp;
  const int64_t chunk = Divide(warp, p.groups), sequence = Divide(chunk, p.warps);
  const int64_t column = ((warp - chunk * p.groups) * kWarp + threadIdx.x % kWarp) * kVector;
  const int64_t begin = (chunk - sequence * p.warps) * kSourcesOfWarp;
  if (sequence >= windows.batch) return;
  const int64_t end = min(begin + kSourcesOfWarp, windows.Sources());
  const bool has_columns = column < windows.width;
  const auto at = [&](T* row) { return reinterpret_cast<Row*>(row + column); };
  ValidSteps<T> valid(windows, sequence);
  const auto next_valid = [&](int64_t step) { return valid.From(step); };
  const auto any_reset = [&](int64_t first, int64_t last) {
    return AnyReset(windows, sequence, first, last);
  };
  for (int64_t source = begin; source < end; ++source) {
    const bool masked = windows.IsMasked(sequence, source);
    if constexpr (kToWindows) {
      Row row{};
      if (!masked) {
        if (has_columns) row = *at(windows.Source(sequence, source));
        windows.ForEachAppearance(sequence, source, next_valid, any_reset,
                                  [&](T* to, bool forgotten) {
                                    if (has_columns) *at(to) = forgotten ? Row{} : row;
                                  });
      } else if (has_columns) {
        T* const window = windows.Window(sequence, source - windows.before);
        for (int64_t i = 0; i <= windows.before; ++i) *at(window + i * windows.width) = row;
      }
    } else {
      float sums[kVector] = {};
      if (!masked) {
        windows.ForEachAppearance(sequence, source, next_valid, any_reset,
                                  [&](T* from, bool forgotten) {
                                    if (!has_columns || forgotten) return;
                                    const Row row = *at(from);
#pragma unroll
                                    for (int v = 0; v < kVector; ++v) sums[v] += row.Get(v);
                                  });
      }
      if (has_columns) *at(windows.Source(sequence, source)) = Row::Of(sums);
    }
  }
}

template <bool kToWindows, int kVector, typename T>
cudaError_t LaunchWindows(const CausalWindows<T>& windows, cudaStream_t stream) {
  const WindowParams<T> params{windows, CeilDiv(windows.Sources(), kSourcesOfWarp),
                               CeilDiv(windows.width, int64_t{kWarp} * kVector)};
  const int64_t warps = windows.batch * params.warps * params.groups;
  if (warps == 0) return cudaSuccess;
  return LaunchKernel<MoveWindows<T, kVector, kToWindows>>(
      {CeilDiv(warps, kWindowWarps), kWindowWarps * kWarp, 0, stream}, params);
}

// Uses packs of 16 bytes if they are aligned and a row fills a warp with them; otherwise packs of 4
// bytes if aligned; otherwise single elements.
template <bool kToWindows, typename T>
const char* RunWindows(const CausalWindows<T>& of_elements, void* stream) {
  using Stored = typename StorageOf<T>::type;
  constexpr int kBytes = sizeof(Stored);
  const auto stored = [](T* array) { return reinterpret_cast<Stored*>(array); };
  const CausalWindows<Stored> windows{stored(of_elements.inputs),  stored(of_elements.history),
                                      stored(of_elements.windows), stored(of_elements.last_history),
                                      of_elements.flags,           of_elements.batch,
                                      of_elements.steps,           of_elements.width,
                                      of_elements.before};
  const auto row_bytes = static_cast<uintptr_t>(windows.width * kBytes);
  const auto bits = row_bytes | reinterpret_cast<uintptr_t>(windows.inputs) |
                    reinterpret_cast<uintptr_t>(windows.history) |
                    reinterpret_cast<uintptr_t>(windows.windows) |
                    reinterpret_cast<uintptr_t>(windows.last_history);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = bits % 16 == 0 && row_bytes >= 16 * kWarp
                                ? LaunchWindows<kToWindows, 16 / kBytes>(windows, cuda_stream)
                            : bits % 4 == 0
                                ? LaunchWindows<kToWindows, 4 / kBytes>(windows, cuda_stream)
                                : LaunchWindows<kToWindows, 1>(windows, cuda_stream);
  return error == cudaSuccess ? nullptr : Explain(error);
}

template <typename T>
const char* ToWindows(const CausalWindows<T>& windows, void* stream) {
  return RunWindows<true>(windows, stream);
}

template <typename T>
const char* FromWindows(const CausalWindows<T>& windows, void* stream) {
  return RunWindows<false>(windows, stream);
}

#define TF_PLR_INSTANTIATE(type, element, ...)                          \
  template const char* ToWindows(const CausalWindows<element>&, void*); \
  template const char* FromWindows(const CausalWindows<element>&, void*);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
