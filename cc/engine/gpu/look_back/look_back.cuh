// SPDX-License-Identifier: MIT
// How a tile finds the state before it from what other tiles publish.
#ifndef TF_PLR_ENGINE_GPU_LOOK_BACK_LOOK_BACK_CUH_
#define TF_PLR_ENGINE_GPU_LOOK_BACK_LOOK_BACK_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cc/engine/gpu/instructions.cuh"
#include "cc/engine/gpu/look_back/chain_status.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// Looking back: the method of Merrill and Garland, "Single-pass Parallel Prefix Scan with Decoupled
// Look-back", NVIDIA NVR-2016-002, with a fixed order of combination.
//
// The tiles of a chain are spread over all blocks. Each tile finds the state before it from what
// other tiles publish, one or more words per column:
//
//   - Tiles are grouped into segments. Every tile publishes its transition. The last tile of a
//     segment also publishes the segment's transition and, once known, the state after the segment.
//   - The state before a tile is the state before its segment, advanced by the transitions of the
//     segment's earlier tiles. The state before a segment is the nearest published state, advanced
//     by the transitions of the segments in between.
//
// So each state is combined in one fixed order, whatever has been published when a tile looks:
// timing changes no bit of the result. Like other single-pass scans, this assumes that blocks start
// in the order of their numbers. Then a tile's predecessors are done or running, and no tile waits
// for one that cannot start. block_look_back.cuh and team_look_back.cuh define which thread looks
// at what.

// What a tile or a segment has published of one column.
enum StatusFlag : uint64_t {
  kNothing = 0,     // Nothing is available. ClearStatus sets this.
  kTransition = 1,  // The transition is available.
  kState = 2,       // The state after the segment is available, as `impulse`.
};
template <typename A>
__device__ void Publish(StatusWord* words, Transition<A> value, StatusFlag flag) {
  uint64_t payload[ChainStatus<A>::kWords];
  memcpy(payload, &value, sizeof(value));
#pragma unroll
  for (int i = 0; i < ChainStatus<A>::kWords; ++i) StoreStatus(words + i, {payload[i], flag});
}

// Returns kNothing until all words have the same flag.
template <typename A>
__device__ uint64_t Inspect(const StatusWord* words, Transition<A>* value) {
  uint64_t payload[ChainStatus<A>::kWords], flag = kNothing;
#pragma unroll
  for (int i = 0; i < ChainStatus<A>::kWords; ++i) {
    const StatusWord word = LoadStatus(words + i);
    payload[i] = word.payload;
    flag = i == 0 || word.flag == flag ? word.flag : uint64_t{kNothing};
  }
  memcpy(value, payload, sizeof(*value));
  return flag;
}

// Each lane of `mask` holds the flag of one earlier segment, the nearest first. Returns the number
// of the nearest segment whose state is available, if all nearer segments have published a
// transition; otherwise -1.
__device__ __forceinline__ int NearestState(uint64_t flag, unsigned mask = ~0u) {
  const int shift = __ffs(mask) - 1;
  const unsigned states = __ballot_sync(mask, flag == kState) >> shift;
  const unsigned gaps = __ballot_sync(mask, flag == kNothing) >> shift;
  const int nearest = __ffs(states) - 1;
  return nearest >= 0 && (gaps & ((1u << nearest) - 1)) == 0 ? nearest : -1;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LOOK_BACK_LOOK_BACK_CUH_
