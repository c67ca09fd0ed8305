// SPDX-License-Identifier: MIT
// The tuning constants of the plans, each with its reason. Tuned on an H100
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
  // Blocks have half the warps if cells are gated: some blocks then compute while others wait. They
  // also have half if each has little to do: if inputs have fewer bytes than this, ...
  static constexpr int64_t kSmallInputBytes = 8 << 20;
  // ... if there are at most this many steps, ...
  static constexpr int64_t FewSteps(const CellTraits& cell) { return cell.inputs > 2 ? 64 : 256; }
  // ... or if a cell with at most two inputs has fewer chains per multiprocessor than this.
  static constexpr int64_t kFewChains = 2;
  // Blocks per multiprocessor. Many more than fit at once even out the load.
  static constexpr int64_t kMaxBlocks = 32;
};

struct RegisterTilePolicy {
  // Rows shorter than this leave too many lanes idle. Lanes have two columns of 16 bits each.
  static constexpr int64_t MinColumns(const CellTraits& cell) {
    return cell.element_bytes == 2 ? 33 : 20;
  }
  // With fewer chains per multiprocessor than this, a tile that holds all steps is the fastest. If
  // no tile holds all steps, spreading them over blocks may pay: ...
  static constexpr int64_t kFewChains = 2;
  // ... with one chain per multiprocessor, from this many steps on; with more chains, from
  // proportionally more steps on.
  static constexpr int64_t ManySteps(const CellTraits& cell) {
    return cell.is_gradient || cell.element_bytes == 2 ? 2200 : 1024;
  }
  // Gradients also spread steps if chains have at least this many tiles and advance slice by slice.
  // Gradients of gated cells do not: they compute more for each byte they load.
  static constexpr int64_t kMinTilesToSpread = 16;
  // The prefetch distance is a third of the blocks that run at once. Lines that are prefetched
  // further ahead are evicted before they are used.
  static constexpr int64_t kPrefetchDivisor = 3;
  // Memory is read best if chains advance slice by slice. But a slice needs at least this many
  // chains, because tiles of few chains look back far; ...
  static constexpr int64_t kMinChainsOfSlice = 8;
  // ... and this many prefetch distances of tiles, because blocks do not prefetch the next slice.
  static constexpr int64_t kMinTilesOfSlice = 4;
};

struct SharedTilePolicy {
  // Small problems are cut into smaller tiles, so that this share of multiprocessors has one.
  static constexpr double kBusyShare = 0.75;
  // Additional rows that a thread may take to reach an odd number of words.
  static constexpr int64_t kSpareRows = 3;
  // The prefetch distance is a quarter of the blocks that run at once.
  static constexpr int64_t kPrefetchDivisor = 4;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_POLICIES_H_
