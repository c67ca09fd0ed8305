// SPDX-License-Identifier: MIT
// Looks back for the state before a tile with few columns. Each column has a team of lanes, and
// each lane looks at one earlier tile of the segment and at one earlier segment. See look_back.cuh
// for what is published, and when.
#ifndef TF_PLR_ENGINE_GPU_LOOK_BACK_TEAM_LOOK_BACK_CUH_
#define TF_PLR_ENGINE_GPU_LOOK_BACK_TEAM_LOOK_BACK_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu/look_back/chain_status.cuh"
#include "cc/engine/gpu/look_back/look_back.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace gpu {

// Tiles of a segment, and lanes of a team: one lane per tile.
constexpr int kTeam = 16;

// The look-back of one tile for one column. All lanes of the team call each function together.
template <typename A>
class TeamLookBack {
 public:
  TeamLookBack() = default;
  __device__ TeamLookBack(ChainStatus<A> status, int64_t tile)
      : status_(status),
        tile_(tile),
        segment_(tile / kTeam),
        in_segment_(static_cast<int>(tile % kTeam)) {}

  // Look once at what this lane has not found yet.
  __device__ void LookAtTiles() {
    if (Member() < in_segment_ && tile_flag_ == kNothing) {
      tile_flag_ = Inspect(status_.OfTile(tile_ - in_segment_ + Member()), &of_tile_);
    }
  }
  __device__ void LookAtSegments() {
    if (Member() < segment_ && segment_flag_ != kState) {
      segment_flag_ = Inspect(status_.OfSegment(segment_ - 1 - Member()), &of_segment_);
    }
  }

  __device__ void PublishTile(Transition<A> of_tile) const {
    if (Member() == 0 && !EndsChain()) Publish(status_.OfTile(tile_), of_tile, kTransition);
  }

  // Returns the state before the tile. If the tile ends a segment, also publishes the segment's
  // transition and the state after it.
  __device__ A FindCarry(Transition<A> of_tile, A initial_carry) {
    const bool ends_segment = Member() == 0 && in_segment_ == kTeam - 1 && !EndsChain();
    bool missing;
    do {
      LookAtTiles();
      missing = Member() < in_segment_ && tile_flag_ == kNothing;
    } while (__ballot_sync(Mask(), missing) != 0);
    const Transition<A> before_tile = ComposeTiles();
    const Transition<A> of_segment = Compose(before_tile, of_tile);
    if (ends_segment) Publish(status_.OfSegment(segment_), of_segment, kTransition);

    int nearest = segment_ == 0 ? 0 : NearestState(segment_flag_, Mask());
    while (nearest < 0) {
      LookAtSegments();
      nearest = NearestState(segment_flag_, Mask());
    }
    A state = segment_ == 0 ? initial_carry : FromMember(of_segment_, nearest).impulse;
    for (int i = nearest - 1; i >= 0; --i) state = FromMember(of_segment_, i).Apply(state);
    if (ends_segment) {
      Publish(status_.OfSegment(segment_), Transition<A>{A(0), of_segment.Apply(state)}, kState);
    }
    return before_tile.Apply(state);
  }

 private:
  __device__ bool EndsChain() const { return tile_ + 1 == status_.chain_tiles; }

  __device__ static int Member() { return threadIdx.x % kTeam; }
  __device__ static unsigned Mask() {
    return ((1u << kTeam) - 1) << (threadIdx.x % kWarp / kTeam * kTeam);
  }

  __device__ static Transition<A> FromMember(Transition<A> value, int member) {
    return Shuffle(value, member, kTeam, Mask());
  }

  // Composes the segment's earlier tiles.
  __device__ Transition<A> ComposeTiles() const {
    Transition<A> value = Member() < in_segment_ ? of_tile_ : Transition<A>::Identity();
#pragma unroll
    for (int distance = 1; distance < kTeam; distance *= 2) {
      const Transition<A> earlier = FromMember(value, Member() - distance);
      if (Member() >= distance) value = Compose(earlier, value);
    }
    return FromMember(value, kTeam - 1);
  }

  ChainStatus<A> status_;
  int64_t tile_, segment_;
  int in_segment_;  // The tile's number in its segment.
  // What this lane has found.
  Transition<A> of_tile_, of_segment_;
  uint64_t tile_flag_ = kNothing, segment_flag_ = kNothing;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LOOK_BACK_TEAM_LOOK_BACK_CUH_
