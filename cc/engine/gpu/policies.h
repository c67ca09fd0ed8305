// SPDX-License-Identifier: MIT
// The numbers that plans are made with, each with its reason; tuned on an H100
// (benchmarks/gpu_kernel.py).
#ifndef TF_PLR_ENGINE_GPU_POLICIES_H_
#define TF_PLR_ENGINE_GPU_POLICIES_H_

#include <cstdint>

namespace tf_plr {
namespace gpu {

// What the choice of a kernel depends on, beside the problem and the GPU.
struct CellTraits {
  int inputs, element_bytes;
  bool is_gradient;
  bool is_gated;  // Gated cells have no kernels for short rows.
};

template <typename Cell, typename T>
constexpr CellTraits TraitsOf() {
  return {Cell::kInputs, static_cast<int>(sizeof(T)), Cell::kIsGradient, Cell::kGated};
}

struct StreamPolicy {
  // Half blocks where there is little for each to do: small problems, ...
  static constexpr int64_t kSmallInputBytes = 8 << 20;
  // ... few steps, ...
  static constexpr int64_t FewSteps(const CellTraits& cell) { return cell.inputs > 2 ? 64 : 256; }
  // ... or, of few inputs, few chains for a multiprocessor.
  static constexpr int64_t kFewChains = 2;
  // Many more blocks for a multiprocessor than fit even out the load.
  static constexpr int64_t kMaxBlocks = 32;
};

struct RegisterTilePolicy {
  // Rows shorter than this leave too many lanes idle.
  static constexpr int64_t MinColumns(const CellTraits& cell) {
    return cell.element_bytes == 2 ? 32 : 20;
  }
  // Chains for a multiprocessor below which a tile with all steps is the fastest, and spreading
  // steps may pay: ...
  static constexpr int64_t kFewChains = 2;
  // ... where there is a chain for each multiprocessor, from so many steps on.
  static constexpr int64_t ManySteps(const CellTraits& cell) {
    return cell.is_gradient || cell.element_bytes == 2 ? 2200 : 1024;
  }
  // In gradients also where chains of so many tiles are worked on slice by slice; not in those of
  // gated cells, which have more to compute for what they load.
  static constexpr int64_t kManyTiles = 16;
  // A third of the blocks that run at a time are asked for ahead: what lies further ahead leaves
  // the cache again.
  static constexpr int64_t kPrefetchShare = 3;
  // Slice by slice, memory is best read; but a slice needs enough chains, or tiles would look back
  // far, ...
  static constexpr int64_t kMinChainsOfSlice = 8;
  // ... and enough tiles, in distances of the prefetch, as blocks do not ask for the next slice's.
  static constexpr int64_t kMinTilesOfSlice = 4;
};

struct SharedTilePolicy {
  // Smaller problems are cut into smaller tiles, so that of the multiprocessors this share has one.
  static constexpr double kBusyShare = 0.75;
  // Rows that a thread may have more than its share, to have an odd number of words.
  static constexpr int64_t kSpareRows = 3;
  // A quarter of the blocks that run at a time are asked for ahead.
  static constexpr int64_t kPrefetchShare = 4;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_POLICIES_H_
