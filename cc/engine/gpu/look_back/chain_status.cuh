// SPDX-License-Identifier: MIT
// The words that tiles publish: where they lie, and how many there are.
#ifndef TF_PLR_ENGINE_GPU_LOOK_BACK_CHAIN_STATUS_CUH_
#define TF_PLR_ENGINE_GPU_LOOK_BACK_CHAIN_STATUS_CUH_

#include <cstdint>

#include "cc/engine/gpu/choice.h"
#include "cc/engine/gpu/instructions.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// The words that the tiles and segments of a chain publish for one column. The words of all columns
// are [chain_tiles + segments, columns, kWords].
template <typename A>
struct ChainStatus {
  static constexpr int kWords = sizeof(Transition<A>) / sizeof(uint64_t);
  static_assert(sizeof(Transition<A>) % sizeof(uint64_t) == 0);

  StatusWord* first;    // The column's words of the first tile.
  int64_t stride;       // Words from a tile to the next.
  int64_t chain_tiles;  // Tiles of a chain.

  // Of one column of a problem, counted over outer x inner.
  __device__ static ChainStatus Of(int64_t column, int64_t columns, StatusWord* words,
                                   int64_t chain_tiles) {
    return {words + column * kWords, columns * kWords, chain_tiles};
  }

  __device__ StatusWord* OfTile(int64_t tile) const { return first + tile * stride; }
  __device__ StatusWord* OfSegment(int64_t segment) const { return OfTile(chain_tiles + segment); }

  // The words of a problem with `chain_tiles` tiles per chain and `segment_tiles` tiles per
  // segment.
  static int64_t Count(int64_t columns, int64_t chain_tiles, int64_t segment_tiles) {
    return (chain_tiles + CeilDiv(chain_tiles, segment_tiles)) * columns * kWords;
  }
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LOOK_BACK_CHAIN_STATUS_CUH_
