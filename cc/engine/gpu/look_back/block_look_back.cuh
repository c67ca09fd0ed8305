// SPDX-License-Identifier: MIT
// Looks back for the state before a tile in which each lane has columns of its own. Each warp looks
// at one earlier tile of the segment and at one of the nearest earlier segments. Once all these
// tiles are found, each warp looks at a segment further back instead of a tile. See look_back.cuh
// for what is published, and when.
#ifndef TF_PLR_ENGINE_GPU_LOOK_BACK_BLOCK_LOOK_BACK_CUH_
#define TF_PLR_ENGINE_GPU_LOOK_BACK_BLOCK_LOOK_BACK_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu/look_back/chain_status.cuh"
#include "cc/engine/gpu/look_back/look_back.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// The look-back of one tile, whose rows are divided among the warps. All threads of the block call
// each function together.
// kForgets: as for Compose.
template <typename A, int kWarps, int kVector, bool kForgets = false>
class BlockLookBack {
 public:
  static constexpr int kColumns = kWarp * kVector;
  static constexpr int kSegment = kWarps;
  static_assert(2 * kWarps <= kWarp, "a lane for each flag");

  struct Shared {
    Transition<A> of_warp[kWarps][kColumns];
    // What the warps found. First kWarps earlier segments, the nearest first: the transition, or
    // the state after the segment. Then the earlier tiles of the segment; once all are found,
    // kWarps segments further back take their place.
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

  // Whether FindState needs the initial carry for this tile. Other tiles start from a segment's
  // state.
  __device__ static bool StartsFromInitialCarry(int64_t tile) { return tile < kSegment; }

  // Looks once at what this warp has not found yet. Both loads are in flight at once, so they take
  // as long as one. Overwrites what this warp had found, so all threads must have read that.
  __device__ void Look() {
    const int64_t far = segment_ - 1 - kWarps - warp_;
    const bool at_near = warp_ < segment_ && near_flag_ != kState;
    const bool at_other = all_tiles_found_ ? far >= 0 && other_flag_ != kState
                                           : warp_ < in_segment_ && other_flag_ == kNothing;
    Transition<A> near[kVector], other[kVector];
    uint64_t near_flags[kVector], other_flags[kVector];
    if (at_other) {
      Inspect(
          all_tiles_found_ ? status_.OfSegment(far) : status_.OfTile(tile_ - in_segment_ + warp_),
          other, other_flags);
    }
    if (at_near) Inspect(status_.OfSegment(segment_ - 1 - warp_), near, near_flags);
    if (at_other) {
      other_flag_ = OfAllColumns(other_flags);
#pragma unroll
      for (int v = 0; v < kVector; ++v) shared_.found[kWarps + warp_][Column(v)] = other[v];
    }
    if (at_near) {
      near_flag_ = OfAllColumns(near_flags);
#pragma unroll
      for (int v = 0; v < kVector; ++v) shared_.found[warp_][Column(v)] = near[v];
    }
  }

  // Computes the state before this warp's rows from their transitions. Publishes the tile's
  // transition and, if the tile ends a segment, the segment's transition and the state after it.
  __device__ void FindState(const Transition<A> (&own)[kVector], const A (&initial_carry)[kVector],
                            A (&state)[kVector]) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) shared_.of_warp[warp_][Column(v)] = own[v];
    __syncthreads();  // Publishes the warps' transitions to all warps.
    const bool publishes = warp_ == kWarps - 1 && tile_ + 1 < status_.chain_tiles && exists_;
    // `before` is of the tile's earlier warps; `of_tile` is of the whole tile only in the last
    // warp.
    Transition<A> before[kVector], of_tile[kVector];
    ComposeFirst(shared_.of_warp, warp_, before);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      of_tile[v] = Compose(before[v], own[v], kForgets);
      if (publishes) PublishColumn(status_.OfTile(tile_), v, of_tile[v], kTransition);
    }

    const bool ends_segment = publishes && in_segment_ == kSegment - 1;
    // `before_tile` is of the segment's earlier tiles. `of_segment` is of the whole segment only if
    // this tile ends it.
    Transition<A> before_tile[kVector], of_segment[kVector];
    int nearest;
    for (;;) {
      if (lane_ == 0) {
        shared_.flag[warp_] = near_flag_;
        shared_.flag[kWarps + warp_] = other_flag_;
      }
      __syncthreads();  // Publishes what each warp found to all.
      const int segments = all_tiles_found_ ? 2 * kWarps : kWarps;  // Segments in `found`.
      if (!all_tiles_found_) {
        const bool missing = lane_ < in_segment_ && shared_.flag[kWarps + lane_] == kNothing;
        all_tiles_found_ = __all_sync(~0u, !missing);
        if (all_tiles_found_) {
          other_flag_ = kNothing;
          ComposeFirst(shared_.found + kWarps, in_segment_, before_tile);
#pragma unroll
          for (int v = 0; v < kVector; ++v) {
            of_segment[v] = Compose(before_tile[v], of_tile[v], kForgets);
            if (!ends_segment) continue;
            PublishColumn(status_.OfSegment(segment_), v, of_segment[v], kTransition);
          }
        }
      }
      nearest = segment_ == 0 ? 0 : NearestState(lane_ < segments ? shared_.flag[lane_] : kNothing);
      if (all_tiles_found_ && nearest >= 0) break;
      __syncthreads();  // Everyone has read what was found.
      Look();
    }
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      A carry = segment_ == 0 ? initial_carry[v] : shared_.found[nearest][Column(v)].impulse;
      for (int i = nearest - 1; i >= 0; --i) {
        carry = shared_.found[i][Column(v)].Apply(carry, kForgets);
      }
      if (ends_segment) {
        const A after = of_segment[v].Apply(carry, kForgets);
        PublishColumn(status_.OfSegment(segment_), v, {A(0), after}, kState);
      }
      state[v] = before[v].Apply(before_tile[v].Apply(carry, kForgets), kForgets);
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

  // The flag that all columns of the warp have; kNothing if they differ.
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

  // Composes the first `count` parts.
  __device__ void ComposeFirst(const Transition<A> (*parts)[kColumns], int count,
                               Transition<A> (&whole)[kVector]) const {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      whole[v] = Transition<A>::Identity();
#pragma unroll
      for (int i = 0; i < kWarps - 1; ++i) {
        const Transition<A> longer = Compose(whole[v], parts[i][Column(v)], kForgets);
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
  // Of what this warp has found: of a near segment; and of a tile, later of a far segment.
  uint32_t near_flag_ = kNothing, other_flag_ = kNothing;
  bool all_tiles_found_ = false;  // All earlier tiles of the segment are found.
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LOOK_BACK_BLOCK_LOOK_BACK_CUH_
