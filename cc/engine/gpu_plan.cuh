// SPDX-License-Identifier: MIT
// From a problem to a launch: how it is cut into tiles, and in which order blocks take them.
#ifndef TF_PLR_ENGINE_GPU_PLAN_CUH_
#define TF_PLR_ENGINE_GPU_PLAN_CUH_

#include <algorithm>
#include <utility>

#include "cc/engine/gpu_engine.cuh"
#include "cc/engine/gpu_recurrence.h"
#include "cc/engine/gpu_register_tiles.cuh"

namespace tf_plr {
namespace gpu {

// The storage type that device code uses for an element type of the interface.
template <typename T>
struct StorageOf {
  using type = T;
};
template <>
struct StorageOf<Half> {
  using type = __half;
};
template <>
struct StorageOf<BFloat16> {
  using type = __nv_bfloat16;
};

struct DeviceLimits {
  int multiprocessors, shared_per_block, shared_per_multiprocessor;

  static cudaError_t Read(DeviceLimits* limits) {
    int device;
    cudaError_t error = cudaGetDevice(&device);
    const std::pair<int*, cudaDeviceAttr> wanted[] = {
        {&limits->multiprocessors, cudaDevAttrMultiProcessorCount},
        {&limits->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
        {&limits->shared_per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor},
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

// To hand a type to a generic lambda.
template <typename Type>
struct TypeTag {
  using type = Type;
};

template <typename Cell, typename T>
class Plan {
 public:
  Plan(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
       const Tuning& tuning, const DeviceLimits& limits)
      : limits_(limits) {
    params_.problem = problem;
    params_.arrays = arrays;
    contiguous_ = problem.inner < 32;
    vector_ = !contiguous_ && sizeof(T) == 2 && RowsAreAligned(2 * sizeof(T)) ? 2 : 1;
    params_.wide_copies = RowsAreAligned(16);
    params_.lanes = contiguous_    ? PowerOfTwoFrom(problem.inner, kWarp)
                    : tuning.lanes ? tuning.lanes
                                   : kWarp;
    params_.column_tiles = CeilDiv(problem.inner, params_.lanes * vector_);
    params_.chains = problem.outer * params_.column_tiles;

    Cut(algorithm, tuning);
  }

  size_t workspace_bytes() const {
    if (!look_back_) return 0;
    return contiguous_ ? StatusBytes() + sizeof(StatusWord) : WithTile([this](auto tile) {
      return TileStatusBytes<typename decltype(tile)::type>();
    });
  }

  cudaError_t Launch(void* workspace, cudaStream_t stream) {
    if (look_back_ && !contiguous_) {
      return WithTile(
          [&](auto tile) { return LaunchTiles<typename decltype(tile)::type>(workspace, stream); });
    }
    if (look_back_) {
      params_.status = static_cast<StatusWord*>(workspace);
      params_.next_tile =
          reinterpret_cast<unsigned long long*>(static_cast<char*>(workspace) + StatusBytes());
      const cudaError_t error = cudaMemsetAsync(workspace, 0, workspace_bytes(), stream);
      if (error != cudaSuccess) return error;
    }
    if constexpr (sizeof(T) == 2) {
      if (vector_ == 2) {
        return LaunchKernel<Traits<Cell, T, Layout::kRows, Schedule::kStream, 2>>(stream);
      }
    }
    if (!contiguous_) {
      return LaunchKernel<Traits<Cell, T, Layout::kRows, Schedule::kStream, 1>>(stream);
    }
    return look_back_
               ? LaunchKernel<Traits<Cell, T, Layout::kContiguous, Schedule::kLookBack, 1>>(stream)
               : LaunchKernel<Traits<Cell, T, Layout::kContiguous, Schedule::kStream, 1>>(stream);
  }

 private:
  // Of any instance; they differ in the vector only.
  int64_t BytesBeforeStages() const {
    return Block<Traits<Cell, T, Layout::kRows, Schedule::kStream, kMaxVector>>::BytesBeforeStages(
        threads_);
  }

  // Smaller problems are cut into smaller tiles, so that all multiprocessors have some.
  static constexpr int64_t kSmallBytes = 8 << 20;

  int64_t problem_bytes() const {
    return params_.problem.size() * Cell::kInputs * static_cast<int64_t>(sizeof(T));
  }

  int rows_of_thread() const {
    return contiguous_ ? Traits<Cell, T, Layout::kContiguous, Schedule::kStream, 1>::kRows
                       : Traits<Cell, T, Layout::kRows, Schedule::kStream, 1>::kRows;
  }

  // Whether all rows of all arrays are aligned to `bytes`.
  bool RowsAreAligned(size_t bytes) const {
    uintptr_t bits = params_.problem.inner * sizeof(T);
    for (const T* input : params_.arrays.inputs) bits |= reinterpret_cast<uintptr_t>(input);
    for (const T* output : params_.arrays.outputs) bits |= reinterpret_cast<uintptr_t>(output);
    return (bits | reinterpret_cast<uintptr_t>(params_.arrays.boundary)) % bytes == 0;
  }

  // Chooses the schedule, the block and the tile, and how much to prefetch. The constants were
  // tuned on an H100 (benchmarks/gpu_kernel.py).
  void Cut(Algorithm algorithm, const Tuning& tuning) {
    const int64_t steps = params_.problem.steps;
    const bool few_streams = params_.chains < 2 * limits_.multiprocessors;
    look_back_ = algorithm == Algorithm::kParallel ||
                 (algorithm == Algorithm::kAuto &&
                  params_.chains < (contiguous_ ? 1 : 2) * limits_.multiprocessors);

    const bool half_blocks = problem_bytes() < kSmallBytes ||
                             (!look_back_ && (contiguous_ || (few_streams && Cell::kInputs == 2)));
    threads_ = tuning.threads ? tuning.threads : half_blocks ? kMaxThreads / 2 : kMaxThreads;
    while (BytesBeforeStages() + StageBytes() > limits_.shared_per_block) threads_ /= 2;
    params_.stage_elements = static_cast<int>(StageBytes() / (Cell::kInputs * sizeof(T)));

    const int all_groups = threads_ / params_.lanes;
    // In Layout::kRows a warp serves one slot, since its lanes copy for each other.
    const int64_t least_groups = contiguous_ ? 1 : kWarp / params_.lanes;
    params_.groups =
        PowerOfTwoFrom(std::max(least_groups, CeilDiv(steps, rows_of_thread())), all_groups);
    params_.slots = all_groups / params_.groups;
    params_.chain_tiles = CeilDiv(steps, params_.groups * rows_of_thread());
    look_back_ = look_back_ && params_.chain_tiles > 1;

    // Where nothing is waited for, blocks beyond those that fit even out the load.
    const int blocks = tuning.blocks_per_multiprocessor ? tuning.blocks_per_multiprocessor
                       : look_back_                     ? 2
                                                        : 4;
    const int64_t works =
        look_back_ ? params_.chains * params_.chain_tiles : CeilDiv(params_.chains, params_.slots);
    grid_ = std::min(works, int64_t{blocks} * limits_.multiprocessors);
    const int64_t turns = CeilDiv(works, grid_) * (look_back_ ? 1 : params_.chain_tiles);
    const int64_t room = std::min<int64_t>(limits_.shared_per_block,
                                           limits_.shared_per_multiprocessor / blocks - (1 << 10));
    const int64_t fitting = (room - BytesBeforeStages()) / StageBytes();
    const int64_t wanted = tuning.stages ? tuning.stages : kMaxStages;
    params_.stages = static_cast<int>(std::max(int64_t{1}, std::min({wanted, turns, fitting})));
  }

  // Of all inputs, rounded so that every input's part is aligned to 16 bytes.
  int64_t StageBytes() const {
    const int64_t columns = contiguous_ ? params_.problem.inner : params_.lanes * vector_;
    const int64_t elements = threads_ / params_.lanes * rows_of_thread() * columns;
    return Cell::kInputs * CeilDiv(elements, 16) * 16 * sizeof(T);
  }

  size_t StatusBytes() const {
    const int64_t segments = CeilDiv(params_.chain_tiles, kSegment);
    return (params_.chain_tiles + segments) * params_.chains * params_.lanes * vector_ *
           kStatusWords<Accumulator<T>> * sizeof(StatusWord);
  }

  // ---- Register tiles: rows, looking back ----

  template <typename Function>
  auto WithTile(const Function& function) const {
    if constexpr (sizeof(T) == 2) {
      if (vector_ == 2) return function(TypeTag<RegisterTile<Cell, T, 2>>());
    }
    return function(TypeTag<RegisterTile<Cell, T, 1>>());
  }

  template <typename Tile>
  typename Tile::Params TileParams() const {
    typename Tile::Params params{};
    params.problem = params_.problem;
    params.arrays = params_.arrays;
    params.column_tiles = CeilDiv(params.problem.inner, Tile::kColumns);
    params.chains = params.problem.outer * params.column_tiles;
    params.chain_tiles = CeilDiv(params.problem.steps, Tile::kTileRows);
    // Half of the blocks that run at a time: what lies further ahead leaves the cache again.
    params.prefetch_distance =
        std::max(1, limits_.multiprocessors * Tile::kBlocksPerMultiprocessor / 2);
    return params;
  }

  template <typename Tile>
  size_t TileStatusBytes() const {
    const auto params = TileParams<Tile>();
    return (params.chain_tiles + CeilDiv(params.chain_tiles, Tile::kSegment)) * params.chains *
           Tile::kColumns * kStatusWords<Accumulator<T>> * sizeof(StatusWord);
  }

  template <typename Tile>
  cudaError_t LaunchTiles(void* workspace, cudaStream_t stream) const {
    auto params = TileParams<Tile>();
    params.status = static_cast<StatusWord*>(workspace);
    const cudaError_t error = cudaMemsetAsync(workspace, 0, TileStatusBytes<Tile>(), stream);
    if (error != cudaSuccess) return error;
    const int64_t tiles = params.chains * params.chain_tiles;
    ScanTiles<Tile><<<static_cast<unsigned>(tiles), Tile::kThreads, 0, stream>>>(params);
    return cudaGetLastError();
  }

  template <typename Chosen>
  cudaError_t LaunchKernel(cudaStream_t stream) const {
    const size_t shared =
        Block<Chosen>::BytesBeforeStages(threads_) + params_.stages * StageBytes();
    cudaError_t error = cudaFuncSetAttribute(
        Scan<Chosen>, cudaFuncAttributeMaxDynamicSharedMemorySize, limits_.shared_per_block);
    if (error != cudaSuccess) return error;
    Scan<Chosen><<<static_cast<unsigned>(grid_), threads_, shared, stream>>>(params_);
    return cudaGetLastError();
  }

  const DeviceLimits limits_;
  Params<Cell, T> params_{};
  bool contiguous_, look_back_;
  int vector_, threads_;
  int64_t grid_;
};

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_PLAN_CUH_
