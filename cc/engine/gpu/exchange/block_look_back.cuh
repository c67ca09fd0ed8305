// SPDX-License-Identifier: MIT
// How a tile finds the state before it, where each lane of a block has columns of its own: each
// warp looks at one of the segment's earlier tiles, or when these are found at a segment far
// before, and at one of the segments before. See look_back.cuh for what is published, and when.
#ifndef TF_PLR_ENGINE_GPU_EXCHANGE_BLOCK_LOOK_BACK_CUH_
#define TF_PLR_ENGINE_GPU_EXCHANGE_BLOCK_LOOK_BACK_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu/exchange/chain_status.cuh"
#include "cc/engine/gpu/exchange/look_back.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// Of one tile, of which each warp has some rows. All threads of the block call together.
template <typename A, int kWarps, int kVector>
class BlockLookBack {
 public:
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kSegment = kWarps;
  static_assert(2 * kWarps <= kWarp, "a lane for each flag");

  struct Shared {
    Transition<A> of_warp[kWarps][kColumns];
    // What the warps found. Of the segments before, the nearest first: the transition, or the state
    // after it. Then of the segment's earlier tiles; these make room for kWarps more segments.
    Transition<A> found[2 * kWarps][kColumns];
    uint32_t flag[2 * kWarps];
  };

  // status: of the lane's first column. Lanes whose column does not exist look at another one, and
  // publish nothing.
  __device__ BlockLookBack(Shared& shared, ChainStatus<A> status, bool exists, int64_t tile)
      : shared_(shared),
        status_(status),
        exists_(exists),
        tile_(tile),
        segment_(tile / kSegment),
        in_segment_(static_cast<int>(tile % kSegment)),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp) {}

  // Whether FindState needs a tile's initial carry: others start from a segment's state.
  __device__ static bool StartsFromInitialCarry(int64_t tile) { return tile < kSegment; }

  // Sees what is published by now of what this warp has not found yet; both looks take as long as
  // one.
  __device__ void Look() {
    const int64_t far = segment_ - 1 - kWarps - warp_;
    const bool at_near = warp_ < segment_ && near_flag_ != kState;
    const bool at_other = all_tiles_ ? far >= 0 && other_flag_ != kState
                                     : warp_ < in_segment_ && other_flag_ == kNothing;
    uint64_t near_flags[kVector], other_flags[kVector];
    if (at_other) {
      Inspect(all_tiles_ ? status_.OfSegment(far) : status_.OfTile(tile_ - in_segment_ + warp_),
              other_, other_flags);
    }
    if (at_near) Inspect(status_.OfSegment(segment_ - 1 - warp_), near_, near_flags);
    if (at_other) other_flag_ = OfAllColumns(other_flags);
    if (at_near) near_flag_ = OfAllColumns(near_flags);
  }

  // From the transitions of this warp's rows: the state before them. Publishes what the tile has to
  // say.
  __device__ void FindState(const Transition<A> (&own)[kVector], const A (&initial_carry)[kVector],
                            A (&state)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) shared_.of_warp[warp_][Column(v)] = own[v];
    __syncthreads();  // Publishes the warps' transitions to all warps.
    const bool publishes = warp_ == kWarps - 1 && tile_ + 1 < status_.chain_tiles && exists_;
    // Of the tile's earlier warps; and of the tile, if this warp is the last.
    Transition<A> before[kVector], of_tile[kVector];
    ComposeFirst(shared_.of_warp, warp_, before);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      of_tile[v] = Compose(before[v], own[v]);
      if (publishes) PublishColumn(status_.OfTile(tile_), v, of_tile[v], kTransition);
    }

    const bool ends_segment = publishes && in_segment_ == kSegment - 1;
    // Of the segment's earlier tiles; and of the segment, if it ends with this tile.
    Transition<A> before_tile[kVector], of_segment[kVector];
    int nearest;
    for (;;) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        shared_.found[warp_][Column(v)] = near_[v];
        shared_.found[kWarps + warp_][Column(v)] = other_[v];
      }
      if (lane_ == 0) {
        shared_.flag[warp_] = near_flag_;
        shared_.flag[kWarps + warp_] = other_flag_;
      }
      __syncthreads();  // Publishes what each warp found to all.
      const int segments = all_tiles_ ? 2 * kWarps : kWarps;  // Among what they found.
      if (!all_tiles_) {
        const bool missing = lane_ < in_segment_ && shared_.flag[kWarps + lane_] == kNothing;
        all_tiles_ = __all_sync(~0u, !missing);
        if (all_tiles_) {
          other_flag_ = kNothing;
          ComposeFirst(shared_.found + kWarps, in_segment_, before_tile);
#pragma unroll
          for (int v = 0; v < kVector; ++v) {
            of_segment[v] = Compose(before_tile[v], of_tile[v]);
            if (!ends_segment) continue;
            PublishColumn(status_.OfSegment(segment_), v, of_segment[v], kTransition);
          }
        }
      }
      nearest = segment_ == 0 ? 0 : NearestState(lane_ < segments ? shared_.flag[lane_] : kNothing);
      if (all_tiles_ && nearest >= 0) break;
      Look();
      __syncthreads();  // Everyone has seen the flags.
    }
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      A carry = segment_ == 0 ? initial_carry[v] : shared_.found[nearest][Column(v)].impulse;
      for (int i = nearest - 1; i >= 0; --i) carry = shared_.found[i][Column(v)].Apply(carry);
      if (ends_segment) {
        PublishColumn(status_.OfSegment(segment_), v, {A(0), of_segment[v].Apply(carry)}, kState);
      }
      state[v] = before[v].Apply(before_tile[v].Apply(carry));
    }
  }

 private:
  __device__ int Column(int v) const { return lane_ * kVector + v; }

  __device__ void PublishColumn(StatusWord* words, int v, Transition<A> value,
                                StatusFlag flag) const {
    Publish(words + v * ChainStatus<A>::kWords, value, flag);
  }

  __device__ static void Inspect(const StatusWord* words, Transition<A> (&found)[kVector],
                                 uint64_t (&flags)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      flags[v] = gpu::Inspect(words + v * ChainStatus<A>::kWords, &found[v]);
    }
  }

  // What all columns of the warp have, if it is the same.
  __device__ static uint32_t OfAllColumns(const uint64_t (&flags)[kVector]) {
    bool transitions = true, states = true;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      transitions &= flags[v] == kTransition;
      states &= flags[v] == kState;
    }
    if (__all_sync(~0u, states)) return kState;
    return __all_sync(~0u, transitions) ? kTransition : kNothing;
  }

  // The first `count` parts.
  __device__ void ComposeFirst(const Transition<A> (*parts)[kColumns], int count,
                               Transition<A> (&whole)[kVector]) const {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      whole[v] = Transition<A>::Identity();
#pragma unroll
      for (int i = 0; i < kWarps - 1; ++i) {
        const Transition<A> longer = Compose(whole[v], parts[i][Column(v)]);
        if (i < count) whole[v] = longer;
      }
    }
  }

  Shared& shared_;
  const ChainStatus<A> status_;
  const bool exists_;
  const int64_t tile_, segment_;
  const int in_segment_;  // The tile's number in its segment.
  const int warp_, lane_;
  // What this warp has found of a near segment; and of a tile, then of a far segment.
  Transition<A> near_[kVector], other_[kVector];
  uint32_t near_flag_ = kNothing, other_flag_ = kNothing;
  bool all_tiles_ = false;  // All warps have found theirs.
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_EXCHANGE_BLOCK_LOOK_BACK_CUH_
