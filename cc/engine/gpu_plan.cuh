// SPDX-License-Identifier: MIT
// From a problem to a launch: which kernel, how the problem is cut into tiles, how many blocks. The
// constants were tuned on an H100 (benchmarks/gpu_kernel.py).
#ifndef TF_PLR_ENGINE_GPU_PLAN_CUH_
#define TF_PLR_ENGINE_GPU_PLAN_CUH_

#include <algorithm>
#include <utility>

#include "cc/engine/gpu_launch.cuh"
#include "cc/engine/gpu_recurrence.h"
#include "cc/engine/gpu_register_tiles.cuh"
#include "cc/engine/gpu_shared_tiles.cuh"
#include "cc/engine/gpu_streams.cuh"

namespace tf_plr {
namespace gpu {

struct DeviceLimits {
  int multiprocessors, shared_per_block;
  bool clusters;  // Whether GPUs of this architecture have them.

  static cudaError_t Read(DeviceLimits* limits) {
    int device, architecture;
    cudaError_t error = cudaGetDevice(&device);
    const std::pair<int*, cudaDeviceAttr> wanted[] = {
        {&limits->multiprocessors, cudaDevAttrMultiProcessorCount},
        {&limits->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
        {&architecture, cudaDevAttrComputeCapabilityMajor},
    };
    for (const auto& [value, attribute] : wanted) {
      if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, device);
    }
    limits->clusters = error == cudaSuccess && architecture >= 9;
    return error;
  }
};

// 2^bits is the least power of two from n on.
inline int BitsOf(int64_t n) {
  int bits = 0;
  while (int64_t{1} << bits < n) ++bits;
  return bits;
}

// Whether all rows of all step arrays, and the boundary, are aligned to `bytes`.
template <typename Cell, typename T>
bool RowsAreAligned(const Problem& problem, const Arrays<Cell, T>& arrays, size_t bytes) {
  uintptr_t bits = problem.inner * sizeof(T);
  for (const T* input : arrays.inputs) bits |= reinterpret_cast<uintptr_t>(input);
  for (const T* output : arrays.outputs) bits |= reinterpret_cast<uintptr_t>(output);
  return (bits | reinterpret_cast<uintptr_t>(arrays.boundary)) % bytes == 0;
}

// ---- A plan for each kernel ----

template <typename Kernel>
class StreamPlan {
 public:
  template <typename Arrays>
  StreamPlan(const Problem& problem, const Arrays& arrays, const DeviceLimits& limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.wide_copies = RowsAreAligned(problem, arrays, 16);
    params_.column_tiles = CeilDiv(problem.inner, Kernel::kColumns);
    params_.chains = problem.outer * params_.column_tiles;

    // Small blocks where there is little for each to do.
    const int64_t bytes = problem.size() * Kernel::Cell::kInputs * sizeof(typename Kernel::T);
    const bool half_blocks = bytes < (8 << 20) ||
                             problem.steps <= (Kernel::kManyInputs ? 64 : 256) ||
                             (!Kernel::kManyInputs && params_.chains < 2 * limits.multiprocessors);
    warps_ = half_blocks ? Kernel::kMaxWarps / 2 : Kernel::kMaxWarps;
    int most_warps = Kernel::kMaxWarps;
    while (Kernel::SharedBytes(most_warps) > static_cast<size_t>(limits.shared_per_block)) {
      most_warps /= 2;
    }
    warps_ = std::min(warps_, most_warps);
    most_shared_bytes_ = Kernel::SharedBytes(most_warps);

    params_.groups = 1 << BitsOf(std::min<int64_t>(CeilDiv(problem.steps, Kernel::kRows), warps_));
    params_.slots = warps_ / params_.groups;
    params_.chain_tiles = CeilDiv(problem.steps, params_.groups * Kernel::kRows);
    // Many more blocks than fit even out the load.
    grid_ = std::min(CeilDiv(params_.chains, params_.slots), int64_t{32} * limits.multiprocessors);
  }

  size_t workspace_bytes() const { return 0; }

  cudaError_t Launch(void*, cudaStream_t stream) const {
    const SharedMemory shared(Kernel::SharedBytes(warps_), most_shared_bytes_);
    return LaunchKernel(ScanStreams<Kernel>, {grid_, warps_ * kWarp, shared, stream}, params_);
  }

 private:
  typename Kernel::Params params_{};
  int warps_;
  size_t most_shared_bytes_;
  int64_t grid_;
};

template <typename Cell, typename T, int kVector>
class RegisterTilePlan {
 public:
  RegisterTilePlan(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const DeviceLimits& limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.column_tiles = CeilDiv(problem.inner, Tile::kColumns);
    params_.chains = problem.outer * params_.column_tiles;
    params_.chain_tiles = CeilDiv(problem.steps, Tile::kTileRows);
    const int64_t places = limits.multiprocessors * Tile::kBlocksPerMultiprocessor;
    suits_clusters_ = limits.clusters && chain_tiles() > 1 &&
                      chain_tiles() <= ClusterTile::Exchange::kMaxTiles &&
                      chains() * chain_tiles() <= places;
    // A third of the blocks that run at a time: what lies further ahead leaves the cache again.
    params_.prefetch_distance = places / 3;
    // Slice by slice, memory is best read; but a slice needs enough chains, or tiles would look
    // back far, and enough tiles, as blocks do not prefetch from the next. Slices are rows of the
    // grid.
    constexpr int64_t kMinChains = 8, kMaxGridRows = 65535;
    const bool by_slice =
        !suits_clusters_ && params_.column_tiles >= kMinChains && problem.outer <= kMaxGridRows &&
        params_.column_tiles * params_.chain_tiles >= 4 * params_.prefetch_distance;
    params_.together = by_slice ? params_.column_tiles : params_.chains;
  }

  int64_t chains() const { return params_.chains; }
  int64_t chain_tiles() const { return params_.chain_tiles; }
  bool by_slice() const { return params_.together < params_.chains; }

  // Whether the tiles of each chain can be a cluster of a GPU with as many multiprocessors. If they
  // cannot here, or not all clusters at once, they look back; the results are the same.
  bool suits_clusters() const { return suits_clusters_; }

  size_t workspace_bytes() const { return status_words() * sizeof(StatusWord); }

  cudaError_t Launch(void* workspace, cudaStream_t stream) {
    const gpu::Launch in_clusters = LaunchOf<ClusterTile>(stream);
    if (suits_clusters_ &&
        chains() <= ClustersAtOnce(ScanTiles<ClusterTile>, in_clusters, chain_tiles())) {
      return LaunchClusters(ScanTiles<ClusterTile>, in_clusters, params_, chain_tiles());
    }
    const gpu::Launch launch = LaunchOf<Tile>(stream);
    params_.status = static_cast<StatusWord*>(workspace);
    if (status_words() == 0) return LaunchKernel(ScanTiles<Tile>, launch, params_);
    return LaunchLookBack(ScanTiles<Tile>, launch, params_, status_words());
  }

 private:
  using Tile = RegisterTile<Cell, T, kVector, /*kCluster=*/false>;
  using ClusterTile = RegisterTile<Cell, T, kVector, /*kCluster=*/true>;

  template <typename OneTile>
  gpu::Launch LaunchOf(cudaStream_t stream) const {
    const Grid tiles{params_.together * chain_tiles(), chains() / params_.together};
    return {tiles, OneTile::kThreads, sizeof(typename OneTile::Shared), stream};
  }

  int64_t status_words() const {
    if (chain_tiles() == 1) return 0;
    return (chain_tiles() + CeilDiv(chain_tiles(), Tile::Exchange::kSegment)) *
           params_.problem.columns() * kStatusWords<typename Tile::A>;
  }

  RegisterTileParams<Cell, T> params_{};
  bool suits_clusters_;
};

template <typename Tile>
class SharedTilePlan {
 public:
  template <typename Arrays>
  SharedTilePlan(const Problem& problem, const Arrays& arrays, const DeviceLimits& limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.lane_bits = BitsOf(problem.inner);
    const int all_groups = Tile::kThreads >> params_.lane_bits;
    // Smaller problems are cut into smaller tiles, so that most multiprocessors have some.
    const int64_t share = CeilDiv(problem.size(), std::max(1, limits.multiprocessors * 3 / 4));
    const int64_t elements = std::min<int64_t>(Tile::kTileElements, share);
    const int64_t most_rows = std::max(kMinRows, OddWords(elements / (all_groups * problem.inner)));
    params_.group_bits = BitsOf(std::min<int64_t>(CeilDiv(problem.steps, most_rows), all_groups));
    const int groups = 1 << params_.group_bits;
    params_.rows = std::min(most_rows, OddWords(CeilDiv(problem.steps, groups) + 3));
    params_.slots = all_groups / groups;
    params_.chain_tiles = CeilDiv(problem.steps, groups * params_.rows);
    params_.chain_sets = CeilDiv(problem.outer, params_.slots);
    params_.prefetch_distance = limits.multiprocessors * Tile::kBlocksPerMultiprocessor / 4;
  }

  int64_t chain_tiles() const { return params_.chain_tiles; }

  size_t workspace_bytes() const { return status_words() * sizeof(StatusWord); }

  cudaError_t Launch(void* workspace, cudaStream_t stream) {
    params_.status = static_cast<StatusWord*>(workspace);
    const int64_t blocks = params_.chain_sets * (Tile::kLookBack ? params_.chain_tiles : 1);
    const gpu::Launch launch{blocks, Tile::kThreads, Tile::kSharedBytes, stream};
    if constexpr (!Tile::kLookBack) return LaunchKernel(ScanSharedTiles<Tile>, launch, params_);
    return LaunchLookBack(ScanSharedTiles<Tile>, launch, params_, status_words());
  }

 private:
  int64_t status_words() const {
    if (!Tile::kLookBack) return 0;
    return (params_.chain_tiles + CeilDiv(params_.chain_tiles, kTeam)) * params_.problem.columns() *
           kStatusWords<typename Tile::A>;
  }

  // Of rows of a thread, the largest number up to n, or the least, that is an odd number of words:
  // so threads that read shared memory in strides meet in few banks.
  static constexpr int kOfWord = sizeof(typename Tile::T) == 2 ? 2 : 1;
  static constexpr int64_t OddWords(int64_t n) {
    return std::max<int64_t>((n / kOfWord - 1) | 1, 1) * kOfWord;
  }

  // Shorter tiles wait for each other longer than more rows take.
  static constexpr int64_t kMinRows = 4 + kOfWord;

  typename Tile::Params params_{};
};

// ---- Which kernel ----

// From so many on, register tiles keep enough of their lanes busy.
template <typename T>
constexpr int64_t kMinColumnsOfRegisterTiles = sizeof(T) == 2 ? kWarp : 20;

// What `function` returns for the plan of this problem. Steps are spread over blocks as the
// algorithm says; for "auto" they are where rows are short, where chains can be clusters or are few
// for their length, and in gradients where they are long and many to a slice. A register tile that
// has all steps spreads nothing, and is the fastest where chains are few. The plan, and so every
// bit of the results, is a function of the arguments and the limits.
template <typename Cell, typename T, typename Function>
auto WithPlan(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
              const DeviceLimits& limits, const Function& function) {
  const bool may_spread = algorithm != Algorithm::kSerial;
  const auto of_short_rows = [&] {
    const SharedTilePlan<SharedTile<Cell, T, true>> spread(problem, arrays, limits);
    if (may_spread && spread.chain_tiles() > 1) return function(spread);
    return function(SharedTilePlan<SharedTile<Cell, T, false>>(problem, arrays, limits));
  };
  const auto of_rows = [&](auto vector) {
    constexpr int kVector = decltype(vector)::value;
    const RegisterTilePlan<Cell, T, kVector> spread(problem, arrays, limits);
    const int64_t chains = spread.chains();
    const bool few = chains < 2 * limits.multiprocessors;
    // Where there is a chain for each multiprocessor, spreading pays from so many steps on.
    constexpr bool kGradient = Cell::kLookahead >= 0;
    constexpr int64_t kManySteps = kGradient || sizeof(T) == 2 ? 2200 : 1024;
    const bool pays = spread.suits_clusters() ||
                      (few && problem.steps * limits.multiprocessors >= kManySteps * chains) ||
                      (kGradient && spread.by_slice() && spread.chain_tiles() >= 16);
    const bool all_steps = spread.chain_tiles() == 1;
    if (all_steps ? few : may_spread && (algorithm == Algorithm::kParallel || pays)) {
      return function(spread);
    }
    if (problem.inner < kWarp) return of_short_rows();
    return function(StreamPlan<Stream<Cell, T, kVector>>(problem, arrays, limits));
  };
  if (problem.inner < kMinColumnsOfRegisterTiles<T>) return of_short_rows();
  if constexpr (sizeof(T) == 2) {
    if (problem.inner > kWarp && RowsAreAligned(problem, arrays, 2 * sizeof(T))) {
      return of_rows(std::integral_constant<int, 2>());
    }
  }
  return of_rows(std::integral_constant<int, 1>());
}

// The most workspace that a plan of this problem has, whatever the GPU and the alignment: more
// multiprocessors have smaller tiles, and so more of them.
template <typename Cell, typename T>
size_t MostWorkspaceBytesOf(const Problem& problem, Algorithm algorithm) {
  constexpr DeviceLimits kManyMultiprocessors{1 << 20, 227 << 10, false};
  if (problem.size() == 0 || algorithm == Algorithm::kSerial) return 0;
  size_t bytes = 0;
  const auto consider = [&](const auto& plan) { bytes = std::max(bytes, plan.workspace_bytes()); };
  const Arrays<Cell, T> aligned{};
  if (problem.inner < kWarp) {
    consider(SharedTilePlan<SharedTile<Cell, T, true>>(problem, aligned, kManyMultiprocessors));
  }
  if (problem.inner >= kMinColumnsOfRegisterTiles<T>) {
    consider(RegisterTilePlan<Cell, T, 1>(problem, aligned, kManyMultiprocessors));
    if constexpr (sizeof(T) == 2) {
      consider(RegisterTilePlan<Cell, T, 2>(problem, aligned, kManyMultiprocessors));
    }
  }
  return bytes;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_PLAN_CUH_
