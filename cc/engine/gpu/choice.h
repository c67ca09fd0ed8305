// SPDX-License-Identifier: MIT
// Which kernel a problem takes: a function of numbers only, so that a table can test it.
#ifndef TF_PLR_ENGINE_GPU_CHOICE_H_
#define TF_PLR_ENGINE_GPU_CHOICE_H_

#include <cstdint>

#include "cc/engine/gpu/policies.h"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace gpu {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct DeviceLimits {
  int multiprocessors, shared_per_block;
  bool clusters;  // Whether GPUs of this architecture have them.
};

enum class Path {
  kStreams,            // Blocks walk along chains.
  kRegisterTiles,      // Steps are spread over blocks; or one tile has them all.
  kSharedTiles,        // Short rows: blocks walk along chains.
  kSpreadSharedTiles,  // Short rows: steps are spread over blocks.
};

// How register tiles cut a problem.
struct RegisterTileShape {
  int64_t columns, rows;    // Of a tile.
  int64_t resident_blocks;  // On a multiprocessor.
  int64_t most_of_cluster;
};

struct RegisterTilePartition {
  int64_t column_tiles;  // Chains in an outer slice.
  int64_t chains;
  int64_t chain_tiles;  // Tiles of a chain.
  int64_t prefetch_distance;
  // Whether each chain's tiles may form a cluster, on a GPU with this many multiprocessors. If this
  // GPU cannot run them all at once, the tiles look back instead; the results are the same.
  bool suits_clusters;
  bool by_slice;  // Chains of an outer slice advance together, not all chains.

  RegisterTilePartition(const Problem& problem, const RegisterTileShape& tile,
                        const DeviceLimits& limits) {
    using Policy = RegisterTilePolicy;
    constexpr int64_t kMaxGridRows = 65535;  // Slices are rows of the grid.
    column_tiles = CeilDiv(problem.inner, tile.columns);
    chains = problem.outer * column_tiles;
    chain_tiles = CeilDiv(problem.steps, tile.rows);
    const int64_t resident_blocks = limits.multiprocessors * tile.resident_blocks;
    prefetch_distance = resident_blocks / Policy::kPrefetchDivisor;
    suits_clusters = limits.clusters && chain_tiles > 1 && chain_tiles <= tile.most_of_cluster &&
                     chains * chain_tiles <= resident_blocks;
    by_slice = !suits_clusters && column_tiles >= Policy::kMinChainsOfSlice &&
               problem.outer <= kMaxGridRows &&
               column_tiles * chain_tiles >= Policy::kMinTilesOfSlice * prefetch_distance;
  }

  int64_t concurrent_chains() const { return by_slice ? column_tiles : chains; }
};

// kParallel spreads steps over blocks, kSerial does not. kAuto spreads them if rows are short, if
// chains can be clusters, if chains are few for their length, and, in gradients without gates, if
// chains are long and many per slice. A register tile that holds all steps has nothing to spread.
inline Path Choose(const Problem& problem, const CellTraits& cell, const RegisterTilePartition& cut,
                   bool one_shared_tile, Algorithm algorithm, const DeviceLimits& limits) {
  using Policy = RegisterTilePolicy;
  constexpr int64_t kWarpColumns = 32;
  const bool may_spread = algorithm != Algorithm::kSerial;
  const Path of_short_rows =
      may_spread && !one_shared_tile ? Path::kSpreadSharedTiles : Path::kSharedTiles;
  if (problem.inner < Policy::MinColumns(cell) && !cell.is_gated) return of_short_rows;
  const bool few = cut.chains < Policy::kFewChains * limits.multiprocessors;
  if (cut.chain_tiles == 1) {
    if (few) return Path::kRegisterTiles;
  } else if (may_spread) {
    if (algorithm == Algorithm::kParallel || cut.suits_clusters) return Path::kRegisterTiles;
    const bool long_chains =
        problem.steps * limits.multiprocessors >= Policy::ManySteps(cell) * cut.chains;
    if (few && long_chains) return Path::kRegisterTiles;
    const bool by_slice = cut.by_slice && cut.chain_tiles >= Policy::kMinTilesToSpread;
    if (cell.is_gradient && !cell.is_gated && by_slice) return Path::kRegisterTiles;
  }
  return problem.inner < kWarpColumns && !cell.is_gated ? of_short_rows : Path::kStreams;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_CHOICE_H_
