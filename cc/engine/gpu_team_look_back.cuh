// SPDX-License-Identifier: MIT
// How a tile finds the state before it, where a chain's tiles are spread over all blocks: a team of
// lanes for each column.
//
// Tiles come in segments of kTeam. A tile publishes its transition; the last of a segment publishes
// the segment's, and, once known, the state after it. The carry into a tile is the state before its
// segment, taken through the transitions of the segment's earlier tiles; the state before a segment
// is the nearest one published, taken through the transitions of the segments in between. Every
// state so has one order of combination, whatever is found published: no timing changes a bit of
// the result. It is taken for granted, as in other single-pass scans, that blocks start in the
// order of their numbers: then a tile's predecessors are done or running, and no tile waits for one
// that cannot start.
#ifndef TF_PLR_ENGINE_GPU_TEAM_LOOK_BACK_CUH_
#define TF_PLR_ENGINE_GPU_TEAM_LOOK_BACK_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/engine/gpu_exchange.cuh"
#include "cc/engine/monoid.h"

namespace tf_plr {
namespace gpu {

// Tiles of a segment, and lanes of a team: one for each.
constexpr int kTeam = 16;

// Of one tile, for one column. All lanes of the team call together.
template <typename A>
struct TeamLookBack {
  StatusWord* tiles;    // Of the column's first tile; the segments' words follow the tiles'.
  int64_t stride;       // From tile to tile.
  int64_t chain_tiles;  // Tiles of the chain.
  int64_t tile;

  // part: each member's of the tile, in order. Publishes what the tile has to say.
  __device__ A FindCarry(Transition<A> part, A initial_carry) const {
    const int64_t segment = tile / kTeam;
    const int in_segment = tile % kTeam;
    const bool ends_chain = tile + 1 == chain_tiles;
    const bool ends_segment = in_segment == kTeam - 1 && !ends_chain;

    const Transition<A> of_tile = FromMember(Scan(part), kTeam - 1);
    if (Member() == 0 && !ends_chain) Publish(tiles + tile * stride, of_tile, kTransition);

    Transition<A> mine = Transition<A>::Identity();  // Of the member's tile of this segment.
    if (Member() < in_segment) {
      const StatusWord* const words = tiles + (segment * kTeam + Member()) * stride;
      while (Inspect(words, &mine) == kNothing) {
      }
    }
    if (Member() == in_segment) mine = of_tile;
    __syncwarp(Mask());
    const Transition<A> through_mine = Scan(mine);
    const Transition<A> of_segment = FromMember(through_mine, kTeam - 1);
    const Transition<A> before_tile = FromMember(through_mine, max(in_segment - 1, 0));
    StatusWord* const words = WordsOfSegment(segment);
    if (Member() == 0 && ends_segment && segment > 0) Publish(words, of_segment, kTransition);

    const A state = segment == 0 ? initial_carry : StateBefore(segment);
    if (Member() == 0 && ends_segment) {
      Publish(words, Transition<A>{A(0), of_segment.Apply(state)}, kState);
    }
    return in_segment > 0 ? before_tile.Apply(state) : state;
  }

 private:
  // Each member inspects one segment: the first the nearest.
  __device__ A StateBefore(int64_t segment) const {
    const bool exists = Member() < segment;
    const StatusWord* const words = WordsOfSegment(segment - 1 - Member());
    Transition<A> found = Transition<A>::Identity();
    int nearest;
    do {
      nearest = NearestState(exists ? Inspect(words, &found) : uint64_t{kNothing}, Mask());
    } while (nearest < 0);
    A state = FromMember(found, nearest).impulse;
    for (int i = nearest - 1; i >= 0; --i) state = FromMember(found, i).Apply(state);
    return state;
  }

  __device__ StatusWord* WordsOfSegment(int64_t segment) const {
    return tiles + (chain_tiles + segment) * stride;
  }

  // ---- Within the team ----

  __device__ static int Lane() { return threadIdx.x % kWarp; }
  __device__ static int Member() { return threadIdx.x % kTeam; }
  __device__ static unsigned Mask() { return ((1u << kTeam) - 1) << (Lane() / kTeam * kTeam); }

  __device__ static Transition<A> FromMember(Transition<A> value, int member) {
    return Shuffle(value, member, kTeam, Mask());
  }

  // Composes the values of all members up to this one.
  __device__ static Transition<A> Scan(Transition<A> value) {
#pragma unroll
    for (int distance = 1; distance < kTeam; distance *= 2) {
      const Transition<A> earlier = FromMember(value, Member() - distance);
      if (Member() >= distance) value = Compose(earlier, value);
    }
    return value;
  }
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_TEAM_LOOK_BACK_CUH_
