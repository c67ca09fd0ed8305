// SPDX-License-Identifier: MIT
// Warps, and how values move between their lanes.
#ifndef TF_PLR_ENGINE_GPU_WARP_CUH_
#define TF_PLR_ENGINE_GPU_WARP_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace tf_plr {
namespace gpu {

constexpr int kWarpBits = 5, kWarp = 1 << kWarpBits;

// Returns the value that `lane` holds, where lanes are numbered within groups of `width`. All lanes
// of `mask` call together.
template <typename V>
__device__ __forceinline__ V Shuffle(V value, int lane, int width = kWarp, unsigned mask = ~0u) {
  uint32_t words[sizeof(V) / sizeof(uint32_t)];
  memcpy(words, &value, sizeof(value));
#pragma unroll
  for (uint32_t& word : words) word = __shfl_sync(mask, word, lane, width);
  memcpy(&value, words, sizeof(value));
  return value;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_WARP_CUH_
