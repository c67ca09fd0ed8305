// SPDX-License-Identifier: MIT
// From a problem to a launch: which kernel, how the problem is cut into tiles, how many blocks. The
// constants were tuned on an H100 (benchmarks/gpu_kernel.py).
#ifndef TF_PLR_ENGINE_GPU_PLAN_CUH_
#define TF_PLR_ENGINE_GPU_PLAN_CUH_

#include <algorithm>
#include <utility>

#include "cc/engine/gpu_recurrence.h"
#include "cc/engine/gpu_register_tiles.cuh"
#include "cc/engine/gpu_shared_tiles.cuh"
#include "cc/engine/gpu_streams.cuh"

namespace tf_plr {
namespace gpu {

struct DeviceLimits {
  int multiprocessors, shared_per_block;

  static cudaError_t Read(DeviceLimits* limits) {
    int device;
    cudaError_t error = cudaGetDevice(&device);
    const std::pair<int*, cudaDeviceAttr> wanted[] = {
        {&limits->multiprocessors, cudaDevAttrMultiProcessorCount},
        {&limits->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
    };
    for (const auto& [value, attribute] : wanted) {
      if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, device);
    }
    return error;
  }
};

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int PowerOfTwoFrom(int64_t n, int most) {
  int power = 1;
  while (power < n && power < most) power *= 2;
  return power;
}

// Whether all rows of all step arrays, and the boundary, are aligned to `bytes`.
template <typename Cell, typename T>
bool RowsAreAligned(const Problem& problem, const Arrays<Cell, T>& arrays, size_t bytes) {
  uintptr_t bits = problem.inner * sizeof(T);
  for (const T* input : arrays.inputs) bits |= reinterpret_cast<uintptr_t>(input);
  for (const T* output : arrays.outputs) bits |= reinterpret_cast<uintptr_t>(output);
  return (bits | reinterpret_cast<uintptr_t>(arrays.boundary)) % bytes == 0;
}

template <typename Params>
cudaError_t LaunchKernel(void (*kernel)(Params), int64_t blocks, int threads, size_t shared_bytes,
                         cudaStream_t stream, Params params) {
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  void* arguments[] = {&params};
  return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads), arguments,
                          shared_bytes, stream);
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
    constexpr bool kForward = Kernel::Cell::kInputs == 2;
    const int64_t bytes = problem.size() * Kernel::Cell::kInputs * sizeof(typename Kernel::T);
    const bool half_blocks = bytes < (8 << 20) || problem.steps <= (kForward ? 256 : 64) ||
                             (kForward && params_.chains < 2 * limits.multiprocessors);
    warps_ = half_blocks ? Kernel::kMaxWarps / 2 : Kernel::kMaxWarps;
    while (Kernel::SharedBytes(warps_) > static_cast<size_t>(limits.shared_per_block)) warps_ /= 2;

    params_.groups = PowerOfTwoFrom(CeilDiv(problem.steps, Kernel::kRows), warps_);
    params_.slots = warps_ / params_.groups;
    params_.chain_tiles = CeilDiv(problem.steps, params_.groups * Kernel::kRows);
    // Many more blocks than fit even out the load.
    grid_ = std::min(CeilDiv(params_.chains, params_.slots), int64_t{32} * limits.multiprocessors);
  }

  size_t workspace_bytes() const { return 0; }

  cudaError_t Launch(void*, cudaStream_t stream) const {
    return LaunchKernel(ScanStreams<Kernel>, grid_, warps_ * kWarp, Kernel::SharedBytes(warps_),
                        stream, params_);
  }

 private:
  typename Kernel::Params params_{};
  int warps_;
  int64_t grid_;
};

template <typename Tile>
class RegisterTilePlan {
 public:
  template <typename Arrays>
  RegisterTilePlan(const Problem& problem, const Arrays& arrays, const DeviceLimits& limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.column_tiles = CeilDiv(problem.inner, Tile::kColumns);
    params_.chains = problem.outer * params_.column_tiles;
    params_.chain_tiles = CeilDiv(problem.steps, Tile::kTileRows);
    // A third of the blocks that run at a time: what lies further ahead leaves the cache again.
    params_.prefetch_distance = limits.multiprocessors * Tile::kBlocksPerMultiprocessor / 3;
  }

  int64_t chains() const { return params_.chains; }
  int64_t chain_tiles() const { return params_.chain_tiles; }

  size_t workspace_bytes() const {
    return (params_.chain_tiles + CeilDiv(params_.chain_tiles, Tile::kSegment)) * params_.chains *
           Tile::kColumns * kStatusWords<typename Tile::A> * sizeof(StatusWord);
  }

  cudaError_t Launch(void* workspace, cudaStream_t stream) {
    params_.status = static_cast<StatusWord*>(workspace);
    const cudaError_t error = cudaMemsetAsync(workspace, 0, workspace_bytes(), stream);
    if (error != cudaSuccess) return error;
    const int64_t tiles = params_.chains * params_.chain_tiles;
    return LaunchKernel(ScanTiles<Tile>, tiles, Tile::kThreads, sizeof(typename Tile::Shared),
                        stream, params_);
  }

 private:
  typename Tile::Params params_{};
};

template <typename Tile>
class SharedTilePlan {
 public:
  template <typename Arrays>
  SharedTilePlan(const Problem& problem, const Arrays& arrays, const DeviceLimits& limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.lanes = PowerOfTwoFrom(problem.inner, kWarp);
    const int all_groups = Tile::kThreads / params_.lanes;
    // Smaller problems are cut into smaller tiles, so that most multiprocessors have some.
    const int64_t share = CeilDiv(problem.size(), std::max(1, limits.multiprocessors * 3 / 4));
    const int64_t elements = std::min<int64_t>(Tile::kTileElements, share);
    const int64_t most_rows = std::max(kMinRows, Odd(elements / (all_groups * problem.inner)));
    params_.groups = PowerOfTwoFrom(CeilDiv(problem.steps, most_rows), all_groups);
    params_.rows = std::min(most_rows, Odd(CeilDiv(problem.steps, params_.groups) + 1));
    params_.slots = all_groups / params_.groups;
    params_.chain_tiles = CeilDiv(problem.steps, params_.groups * params_.rows);
    params_.chain_sets = CeilDiv(problem.outer, params_.slots);
    params_.prefetch_distance = limits.multiprocessors * Tile::kBlocksPerMultiprocessor / 4;
  }

  int64_t chain_tiles() const { return params_.chain_tiles; }

  size_t workspace_bytes() const {
    if (!Tile::kLookBack) return 0;
    return (params_.chain_tiles + CeilDiv(params_.chain_tiles, kTeam)) * params_.problem.columns() *
           kStatusWords<typename Tile::A> * sizeof(StatusWord);
  }

  cudaError_t Launch(void* workspace, cudaStream_t stream) {
    params_.status = static_cast<StatusWord*>(workspace);
    if (Tile::kLookBack) {
      const cudaError_t error = cudaMemsetAsync(workspace, 0, workspace_bytes(), stream);
      if (error != cudaSuccess) return error;
    }
    const int64_t blocks = params_.chain_sets * (Tile::kLookBack ? params_.chain_tiles : 1);
    return LaunchKernel(ScanSharedTiles<Tile>, blocks, Tile::kThreads, Tile::kSharedBytes, stream,
                        params_);
  }

 private:
  // Of a thread: shorter tiles wait for each other longer than more rows take.
  static constexpr int64_t kMinRows = 5;

  // The largest odd number up to n, at least 1: threads that read shared memory in odd strides meet
  // in no bank.
  static int64_t Odd(int64_t n) { return std::max<int64_t>(n - 1, 0) | 1; }

  typename Tile::Params params_{};
};

// ---- Which kernel ----

// What `function` returns for the plan of this problem. Steps are spread over blocks as the
// algorithm says; for "auto" they are always where rows are short, and else where chains are few.
template <typename Cell, typename T, typename Function>
auto WithPlan(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
              const DeviceLimits& limits, const Function& function) {
  const bool may_spread = algorithm != Algorithm::kSerial;
  if (problem.inner < kWarp) {
    const SharedTilePlan<SharedTile<Cell, T, true>> spread(problem, arrays, limits);
    if (may_spread && spread.chain_tiles() > 1) return function(spread);
    return function(SharedTilePlan<SharedTile<Cell, T, false>>(problem, arrays, limits));
  }
  const auto of_rows = [&](auto vector) {
    constexpr int kVector = decltype(vector)::value;
    const RegisterTilePlan<RegisterTile<Cell, T, kVector>> spread(problem, arrays, limits);
    const bool pays = problem.steps > 256 && spread.chains() < 2 * limits.multiprocessors;
    if (may_spread && spread.chain_tiles() > 1 && (pays || algorithm == Algorithm::kParallel)) {
      return function(spread);
    }
    return function(StreamPlan<Stream<Cell, T, kVector>>(problem, arrays, limits));
  };
  if constexpr (sizeof(T) == 2) {
    if (RowsAreAligned(problem, arrays, 2 * sizeof(T))) {
      return of_rows(std::integral_constant<int, 2>());
    }
  }
  return of_rows(std::integral_constant<int, 1>());
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_PLAN_CUH_
