// SPDX-License-Identifier: MIT
// Finds the state before a tile if the blocks of all tiles of its chain run at once, as a cluster.
// Each block writes its transition into the shared memory of the blocks after it, so no status in
// global memory has to be cleared first. Transitions are combined in the same order as by looking
// back, so both give the same bits.
#ifndef TF_PLR_ENGINE_GPU_LOOK_BACK_CLUSTER_CUH_
#define TF_PLR_ENGINE_GPU_LOOK_BACK_CLUSTER_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu/instructions.cuh"
#include "cc/engine/gpu/look_back/block_look_back.cuh"
#include "cc/engine/gpu/look_back/look_back.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// The exchange of one tile, whose rows are divided among the warps. All threads of the cluster call
// each function together.
template <typename A, int kWarps, int kVector>
class ClusterExchange {
 public:
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kMaxTiles = 16;  // Of a chain: blocks of a cluster.

  struct Shared {
    Transition<A> of_warp[kWarps][kColumns];
    Transition<A> of_tile[kMaxTiles][kColumns];  // Written by the chain's earlier tiles.
  };

  __device__ ClusterExchange(Shared& shared, int64_t tile, int64_t chain_tiles)
      : shared_(shared),
        tile_(static_cast<int>(tile)),
        chain_tiles_(static_cast<int>(chain_tiles)),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp) {
    ClusterArrive();
  }

  // Whether FindState needs a tile's initial carry.
  __device__ static bool StartsFromInitialCarry(int64_t) { return true; }

  // Computes the state before this warp's rows from their transitions.
  __device__ void FindState(const Transition<A> (&own)[kVector], const A (&initial_carry)[kVector],
                            A (&state)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) shared_.of_warp[warp_][Column(v)] = own[v];
    __syncthreads();  // Publishes the warps' transitions to all warps.
    // `before` is of the tile's earlier warps, `of_tile` of the whole tile.
    Transition<A> before[kVector], of_tile[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      of_tile[v] = Transition<A>::Identity();
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        if (i == warp_) before[v] = of_tile[v];
        of_tile[v] = Compose(of_tile[v], shared_.of_warp[i][Column(v)]);
      }
    }

    WaitForCluster();  // All blocks have started.
    for (int later = tile_ + 1 + warp_; later < chain_tiles_; later += kWarps) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        StoreToClusterBlock(later, &shared_.of_tile[tile_][Column(v)], of_tile[v]);
      }
    }
    ClusterArrive();
    WaitForCluster();  // Publishes the tiles' transitions to all blocks.
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      A carry = initial_carry[v];
#pragma unroll
      for (int first = 0; first < kMaxTiles; first += kSegment) {
        Transition<A> of_segment = Transition<A>::Identity();  // Of its tiles before this one.
#pragma unroll
        for (int i = first; i < first + kSegment; ++i) {
          const Transition<A> longer = Compose(of_segment, shared_.of_tile[i][Column(v)]);
          if (i < tile_) of_segment = longer;
        }
        if (first <= tile_) carry = of_segment.Apply(carry);
      }
      state[v] = before[v].Apply(carry);
    }
  }

 private:
  static constexpr int kSegment = BlockLookBack<A, kWarps, kVector>::kSegment;

  __device__ int Column(int v) const { return lane_ * kVector + v; }

  Shared& shared_;
  const int tile_, chain_tiles_;
  const int warp_, lane_;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LOOK_BACK_CLUSTER_CUH_
