// SPDX-License-Identifier: MIT
// Turns a problem into a launch: how the kernel that choice.h chooses cuts the problem into tiles,
// and how many blocks it launches.
#ifndef TF_PLR_ENGINE_GPU_PLAN_CUH_
#define TF_PLR_ENGINE_GPU_PLAN_CUH_

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "cc/engine/column_sums.h"
#include "cc/engine/gpu/choice.h"
#include "cc/engine/gpu/kernels/register_tiles.cuh"
#include "cc/engine/gpu/kernels/shared_tiles.cuh"
#include "cc/engine/gpu/kernels/streams.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/policies.h"
#include "cc/engine/gpu/run.h"

namespace tf_plr {
namespace gpu {

// An attribute of the current device; negative if CUDA reports an error.
template <cudaDeviceAttr kAttribute>
int AttributeOfDevice() {
  static KeptForDevice kept;
  return kept.Get([] {
    int device = 0, value = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, kAttribute, device);
    return error == cudaSuccess ? value : -static_cast<int>(error);
  });
}

inline cudaError_t Read(DeviceLimits* limits) {
  limits->multiprocessors = AttributeOfDevice<cudaDevAttrMultiProcessorCount>();
  limits->shared_per_block = AttributeOfDevice<cudaDevAttrMaxSharedMemoryPerBlockOptin>();
  const int architecture = AttributeOfDevice<cudaDevAttrComputeCapabilityMajor>();
  limits->clusters = architecture >= 9;
  const int least = std::min({limits->multiprocessors, limits->shared_per_block, architecture});
  return least < 0 ? static_cast<cudaError_t>(-least) : cudaSuccess;
}

// Returns the least `bits` for which 2^bits >= n.
inline int BitsOf(int64_t n) {
  int bits = 0;
  while (int64_t{1} << bits < n) ++bits;
  return bits;
}

// ---- A plan for each kernel ----

// Rows of sums that a scan writes if the gradients of biases are wanted. They follow the rest of
// the workspace, and are followed by that of the pass that adds them.
struct SumsInWorkspace {
  int64_t rows = 0, width = 0;

  template <typename Cell, typename T>
  SumsInWorkspace(const Arrays<Cell, T>& arrays, int64_t rows_of_scan) {
    if constexpr (kSumsOutputs<Cell>) {
      if (arrays.gated.d_bias == nullptr) return;
      rows = rows_of_scan;
      width = arrays.gated.d_bias_width;
    }
  }
  size_t bytes() const {
    return width == 0 ? 0 : BytesOfRows() + WholeWords(Pass(nullptr, nullptr).workspace_bytes());
  }
  float* RowsAt(char* memory) const {
    return width == 0 ? nullptr : reinterpret_cast<float*>(memory);
  }
  const char* Add(char* memory, float* sums, void* stream) const {
    return width == 0 ? nullptr : Sum(Pass(RowsAt(memory), sums), memory + BytesOfRows(), stream);
  }

 private:
  static size_t WholeWords(size_t bytes) {
    return (bytes + sizeof(StatusWord) - 1) / sizeof(StatusWord) * sizeof(StatusWord);
  }
  size_t BytesOfRows() const { return WholeWords(rows * width * sizeof(float)); }
  ColumnSums<float> Pass(const float* from, float* sums) const {
    return {from, rows, width, width, sums};
  }
};

template <typename Kernel>
class StreamPlan {
 public:
  template <typename Arrays>
  StreamPlan(const Problem& problem, const Arrays& arrays, const DeviceLimits& limits)
      : sums_(arrays, problem.outer) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.wide_copies = RowsAreAligned(problem, arrays, 16);
    params_.column_tiles = CeilDiv(problem.inner, Kernel::kColumns);
    params_.chains = problem.outer * params_.column_tiles;

    using Policy = StreamPolicy;
    constexpr CellTraits kCell = TraitsOf<typename Kernel::Cell, typename Kernel::T>();
    const int64_t bytes = problem.size() * kCell.inputs * kCell.element_bytes;
    const bool few_chains =
        kCell.inputs <= 2 && params_.chains < Policy::kFewChains * limits.multiprocessors;
    const bool half_blocks = kCell.is_gated || bytes < Policy::kSmallInputBytes ||
                             problem.steps <= Policy::FewSteps(kCell) || few_chains;
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
    grid_ = std::min(CeilDiv(params_.chains, params_.slots),
                     Policy::kMaxBlocks * limits.multiprocessors);
  }

  const SumsInWorkspace& sums() const { return sums_; }
  size_t bytes_before_sums() const { return 0; }

  cudaError_t Launch(char* workspace, cudaStream_t stream) {
    params_.sums = sums_.RowsAt(workspace);
    const SharedMemory shared(Kernel::SharedBytes(warps_), most_shared_bytes_);
    return LaunchKernel<ScanStreams<Kernel>>({grid_, warps_ * kWarp, shared, stream}, params_);
  }

 private:
  const SumsInWorkspace sums_;
  typename Kernel::Params params_{};
  int warps_;
  size_t most_shared_bytes_;
  int64_t grid_;
};

template <typename Cell, typename T, int kVector, bool kAligned>
class RegisterTilePlan {
 public:
  RegisterTilePlan(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const DeviceLimits& limits)
      : cut_(problem, Tile::Shape(), WithClustersOnlyIf(kHasClusters, limits)),
        sums_(arrays, problem.outer * cut_.chain_tiles) {
    params_.problem = problem;
    params_.arrays = arrays;
    params_.column_tiles = cut_.column_tiles;
    params_.chains = cut_.chains;
    params_.chain_tiles = cut_.chain_tiles;
    params_.prefetch_distance = cut_.prefetch_distance;
    params_.concurrent_chains = cut_.concurrent_chains();
  }

  const RegisterTilePartition& cut() const { return cut_; }

  const SumsInWorkspace& sums() const { return sums_; }
  size_t bytes_before_sums() const { return status_words() * sizeof(StatusWord); }

  cudaError_t Launch(char* workspace, cudaStream_t stream) {
    params_.sums = sums_.RowsAt(workspace + bytes_before_sums());
    if constexpr (kHasClusters) {
      const gpu::Launch in_clusters = LaunchOf<ClusterTile>(stream);
      if (cut_.suits_clusters &&
          cut_.chains <= ClustersAtOnce<ScanTiles<ClusterTile>>(in_clusters, cut_.chain_tiles)) {
        return LaunchClusters<ScanTiles<ClusterTile>>(in_clusters, params_, cut_.chain_tiles);
      }
    }
    const gpu::Launch launch = LaunchOf<Tile>(stream);
    params_.status = reinterpret_cast<StatusWord*>(workspace);
    if (status_words() == 0) return LaunchKernel<ScanTiles<Tile>>(launch, params_);
    return LaunchLookBack<ScanTiles<Tile>>(launch, params_, status_words());
  }

 private:
  // To keep the library small, there are kernels for clusters only for rows of floats, without
  // flags or broadcast decays, and only if a gated cell's functions are fixed.
  static constexpr bool kHasClusters =
      std::is_same_v<T, float> && Cell::Functions::kFixed && !Cell::kFlags && Cell::kBroadcast < 0;
  static DeviceLimits WithClustersOnlyIf(bool has_clusters, DeviceLimits limits) {
    limits.clusters &= has_clusters;
    return limits;
  }

  using Tile = RegisterTile<Cell, T, kVector, /*kCluster=*/false, kAligned>;
  using ClusterTile = RegisterTile<Cell, T, kVector, /*kCluster=*/true, kAligned>;

  template <typename OneTile>
  gpu::Launch LaunchOf(cudaStream_t stream) const {
    const Grid tiles{cut_.concurrent_chains() * cut_.chain_tiles,
                     cut_.chains / cut_.concurrent_chains()};
    return {tiles, OneTile::kThreads, sizeof(typename OneTile::Shared), stream};
  }

  int64_t status_words() const {
    if (cut_.chain_tiles == 1) return 0;
    const Problem& problem = params_.problem;
    return ChainStatus<typename Tile::A>::Count(problem.outer * Tile::StatusColumns(problem.inner),
                                                cut_.chain_tiles, Tile::Exchange::kSegment);
  }

  const RegisterTilePartition cut_;
  const SumsInWorkspace sums_;
  RegisterTileParams<Cell, T> params_{};
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
    using Policy = SharedTilePolicy;
    const auto busy = static_cast<int64_t>(limits.multiprocessors * Policy::kBusyShare);
    const int64_t share = CeilDiv(problem.size(), std::max<int64_t>(1, busy));
    const int64_t elements = std::min<int64_t>(Tile::kTileElements, share);
    const int64_t most_rows = std::max(kMinRows, OddWords(elements / (all_groups * problem.inner)));
    params_.group_bits = BitsOf(std::min<int64_t>(CeilDiv(problem.steps, most_rows), all_groups));
    const int groups = 1 << params_.group_bits;
    params_.rows =
        std::min(most_rows, OddWords(CeilDiv(problem.steps, groups) + Policy::kSpareRows));
    params_.slots = all_groups / groups;
    params_.chain_tiles = CeilDiv(problem.steps, groups * params_.rows);
    params_.chain_sets = CeilDiv(problem.outer, params_.slots);
    params_.prefetch_distance =
        limits.multiprocessors * Tile::kBlocksPerMultiprocessor / Policy::kPrefetchDivisor;
  }

  int64_t chain_tiles() const { return params_.chain_tiles; }

  SumsInWorkspace sums() const { return {params_.arrays, 0}; }
  size_t bytes_before_sums() const { return status_words() * sizeof(StatusWord); }

  cudaError_t Launch(char* workspace, cudaStream_t stream) {
    params_.status = reinterpret_cast<StatusWord*>(workspace);
    const int64_t blocks = params_.chain_sets * (Tile::kLookBack ? params_.chain_tiles : 1);
    const gpu::Launch launch{blocks, Tile::kThreads, Tile::kSharedBytes, stream};
    if constexpr (!Tile::kLookBack) return LaunchKernel<ScanSharedTiles<Tile>>(launch, params_);
    return LaunchLookBack<ScanSharedTiles<Tile>>(launch, params_, status_words());
  }

 private:
  int64_t status_words() const {
    if (!Tile::kLookBack) return 0;
    return ChainStatus<typename Tile::A>::Count(params_.problem.columns(), params_.chain_tiles,
                                                kTeam);
  }

  // The largest number of rows per thread, at most n, that fills an odd number of words; at least
  // one word. With an odd stride, threads that read shared memory together have few bank conflicts.
  static constexpr int kElementsPerWord = sizeof(typename Tile::T) == 2 ? 2 : 1;
  static constexpr int64_t OddWords(int64_t n) {
    return std::max<int64_t>((n / kElementsPerWord - 1) | 1, 1) * kElementsPerWord;
  }

  // With fewer rows, tiles wait for each other for longer than the additional rows take.
  static constexpr int64_t kMinRows = 4 + kElementsPerWord;

  typename Tile::Params params_{};
};

template <typename Plan>
size_t WorkspaceBytesOf(const Plan& plan) {
  return plan.bytes_before_sums() + plan.sums().bytes();
}

// ---- The plan of a problem ----

// The cell that computes the same as a cell of fixed functions, but chooses them at run time.
template <typename Cell>
struct GeneralCell {
  using Type = Cell;
};
template <InputGate kInputGate, Output kOutput, Activation kActivation, Activation kOfStates>
struct GeneralCell<GatedCell<kInputGate, kOutput, FixedFunctions<kActivation, kOfStates>>> {
  using Type = GatedCell<kInputGate, kOutput, GatedFunctions>;
};
template <InputGate kInputGate, Output kOutput, Activation kActivation, Activation kOfStates>
struct GeneralCell<GatedGradientCell<kInputGate, kOutput, FixedFunctions<kActivation, kOfStates>>> {
  using Type = GatedGradientCell<kInputGate, kOutput, GatedFunctions>;
};

// The same arrays for another type of cell.
template <typename Other, typename Cell, typename T>
Arrays<Other, T> ForCell(const Arrays<Cell, T>& arrays) {
  Arrays<Other, T> other{};
  std::copy(std::begin(arrays.inputs), std::end(arrays.inputs), other.inputs);
  std::copy(std::begin(arrays.outputs), std::end(arrays.outputs), other.outputs);
  other.initial_carry = arrays.initial_carry;
  other.final_carry = arrays.final_carry;
  other.boundary = arrays.boundary;
  other.flags = arrays.flags;
  return other;
}

template <typename Cell, typename T>
auto WithGeneralCell(const Arrays<Cell, T>& arrays) {
  using General = typename GeneralCell<Cell>::Type;
  if constexpr (std::is_same_v<General, Cell>) {
    return arrays;
  } else {
    using Functions = typename Cell::Functions;
    auto general = ForCell<General>(arrays);
    const auto& from = arrays.gated;
    auto& to = general.gated;
    std::copy(std::begin(from.input_strides), std::end(from.input_strides), to.input_strides);
    std::copy(std::begin(from.output_strides), std::end(from.output_strides), to.output_strides);
    std::copy(std::begin(from.biases), std::end(from.biases), to.biases);
    to.d_bias = from.d_bias;
    to.d_bias_width = from.d_bias_width;
    std::copy(std::begin(from.d_bias_offsets), std::end(from.d_bias_offsets), to.d_bias_offsets);
    to.functions = {Functions::activation, Functions::state_activation, Functions::gate};
    return general;
  }
}

template <typename Cell, typename T>
auto ForCellWithFlags(const Arrays<Cell, T>& arrays) {
  auto flagged = ForCell<WithFlags<Cell>>(arrays);
  if constexpr (Cell::kGated) {
    memcpy(static_cast<void*>(&flagged.gated), &arrays.gated, sizeof(arrays.gated));
  }
  if constexpr (Cell::kBroadcast >= 0) flagged.broadcast = arrays.broadcast;
  return flagged;
}

// To keep the library small, gated cells have no streams for float16; with flags, only floats of
// equal shapes have them.
template <typename Cell, typename T>
constexpr bool kHasStreams =
    Cell::kFlags ? !Cell::kGated && Cell::kBroadcast < 0 && std::is_same_v<T, float>
                 : !(Cell::kGated && std::is_same_v<T, __half>);
template <typename Cell>
constexpr bool kHasSharedTiles = !Cell::kGated && !Cell::kFlags;

// Calls `function` with the plan of this problem and returns its result. The plan, and so every bit
// of the results, depends on the arguments, on how arrays are aligned, and on the limits only.
template <int kVector, bool kAligned, typename Cell, typename T, typename Function>
auto WithPlanOf(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                const DeviceLimits& limits, const Function& function) {
  constexpr CellTraits kCell = TraitsOf<Cell, T>();
  const RegisterTilePlan<Cell, T, kVector, kAligned> register_tiles(problem, arrays, limits);
  if constexpr (!kHasStreams<Cell, T>) {
    return function(register_tiles);
  } else {
    const auto choose = [&](bool one_shared_tile) {
      return Choose(problem, kCell, register_tiles.cut(), one_shared_tile, algorithm, limits);
    };
    if constexpr (kHasSharedTiles<Cell>) {
      if (problem.inner <= kWarp) {
        const SharedTilePlan<SharedTile<Cell, T, true>> spread(problem, arrays, limits);
        const Path path = choose(spread.chain_tiles() == 1);
        if (path == Path::kSpreadSharedTiles) return function(spread);
        if (path == Path::kSharedTiles) {
          return function(SharedTilePlan<SharedTile<Cell, T, false>>(problem, arrays, limits));
        }
      }
    }
    const Path path = choose(false);
    const bool spreads = path == Path::kRegisterTiles || path == Path::kSpreadSharedTiles;
    if (spreads) return function(register_tiles);
    return function(StreamPlan<Stream<Cell, T, kVector, kAligned>>(problem, arrays, limits));
  }
}

// A lane has two neighbouring columns of 16 bits, unless rows are so short that some lanes would
// have none.
template <typename Cell, typename T>
bool HasPairs(const Problem& problem) {
  return sizeof(T) == 2 && (Cell::kGated || problem.inner > kWarp);
}

// To keep the library small, there are kernels with flags in 16 bits only for pairs of bfloat16 of
// gated cells with the layers' default functions.
template <typename Cell, typename T>
constexpr bool kHasFlaggedKernels =
    sizeof(T) > 2 ||
    (Cell::kGated && Cell::Functions::kAreDefaults && std::is_same_v<T, __nv_bfloat16>);

// Arrays of a cell for which there are kernels with flags.
template <typename Cell, typename T>
auto WithFlaggedCell(const Arrays<Cell, T>& arrays) {
  if constexpr (Cell::kGated && !Cell::Functions::kAreDefaults) {
    return ForCellWithFlags(WithGeneralCell(arrays));
  } else {
    return ForCellWithFlags(arrays);
  }
}

// To keep the library small, cells of fixed functions have no kernels for float16.
template <typename Cell, typename T>
constexpr bool kHasKernels =
    !std::is_same_v<T, __half> || std::is_same_v<Cell, typename GeneralCell<Cell>::Type>;

// Whether the steps have flags that only kernels with flags heed.
template <typename Cell, typename T>
bool NeedsFlags(const Arrays<Cell, T>& arrays) {
  return arrays.flags.resets != nullptr || (!Cell::kGated && arrays.flags.mask != nullptr);
}

// Whether there are kernels with flags for arrays of such rows.
template <typename Cell, typename T>
bool HasKernelsWithFlags(const Problem& problem, const Arrays<Cell, T>& arrays) {
  return kHasFlaggedKernels<Cell, T> &&
         (sizeof(T) > 2 || RowsAreAligned(problem, arrays, 2 * sizeof(T)));
}

// Pairs that are not aligned take kernels of their own. To keep the library small, gated cells have
// them only with functions that are chosen at run time, and broadcast decays have no others.
template <typename Cell, typename T, typename Function>
auto WithPlan(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
              const DeviceLimits& limits, const Function& function) {
  if constexpr (kHasFlaggedKernels<Cell, T>) {
    if (NeedsFlags(arrays)) {
      constexpr int kVector = sizeof(T) == 2 ? 2 : 1;
      return WithPlanOf<kVector, true>(problem, WithFlaggedCell(arrays), algorithm, limits,
                                       function);
    }
  }
  if constexpr (!kHasKernels<Cell, T>) {
    return WithPlan(problem, WithGeneralCell(arrays), algorithm, limits, function);
  } else if constexpr (sizeof(T) > 2) {
    return WithPlanOf<1, true>(problem, arrays, algorithm, limits, function);
  } else {
    if constexpr (Cell::kBroadcast < 0) {
      // Kernels for short rows take any alignment.
      if (RowsAreAligned(problem, arrays, 2 * sizeof(T)) || !HasPairs<Cell, T>(problem)) {
        return WithPlanOf<2, true>(problem, arrays, algorithm, limits, function);
      }
    }
    return WithPlanOf<2, false>(problem, WithGeneralCell(arrays), algorithm, limits, function);
  }
}

// The most workspace that any plan of this problem needs, on any GPU and for any alignment. A GPU
// with very many multiprocessors has the smallest tiles, and so the most of them. Register tiles
// need more than streams, so they count even where a serial plan takes streams. They count for
// short rows, too, whose steps may have flags.
template <typename Cell, typename T>
size_t MaxWorkspaceBytesOf(const Problem& problem, Algorithm algorithm, int64_t d_bias_width) {
  if constexpr (!kHasKernels<Cell, T>) {
    return MaxWorkspaceBytesOf<typename GeneralCell<Cell>::Type, T>(problem, algorithm,
                                                                    d_bias_width);
  }
  constexpr DeviceLimits kManyMultiprocessors{1 << 20, 227 << 10, false};
  if (problem.size() == 0) return 0;
  // With flags, a serial plan may take register tiles.
  constexpr bool kFlagsTakeStreams =
      !kHasFlaggedKernels<Cell, T> || kHasStreams<WithFlags<Cell>, T>;
  if (algorithm == Algorithm::kSerial && !Cell::kGated && kFlagsTakeStreams) return 0;
  size_t bytes = 0;
  const auto consider = [&](const auto& plan) { bytes = std::max(bytes, WorkspaceBytesOf(plan)); };
  Arrays<Cell, T> arrays{};
  if constexpr (kSumsOutputs<Cell>) {
    static float any;
    arrays.gated.d_bias = d_bias_width == 0 ? nullptr : &any;
    arrays.gated.d_bias_width = d_bias_width;
  }
  if constexpr (!Cell::kGated) {
    if (problem.inner <= kWarp) {
      consider(SharedTilePlan<SharedTile<Cell, T, true>>(problem, arrays, kManyMultiprocessors));
    }
  }
  constexpr int kVector = sizeof(T) == 2 ? 2 : 1;
  consider(RegisterTilePlan<Cell, T, kVector, true>(problem, arrays, kManyMultiprocessors));
  if constexpr (sizeof(T) == 2) {
    const auto general = WithGeneralCell(arrays);
    consider(RegisterTilePlan<typename GeneralCell<Cell>::Type, T, 2, false>(problem, general,
                                                                             kManyMultiprocessors));
  }
  if constexpr (kHasFlaggedKernels<Cell, T>) {
    const auto flagged = WithFlaggedCell(arrays);
    using Plan = RegisterTilePlan<typename decltype(flagged)::Cell, T, kVector, true>;
    consider(Plan(problem, flagged, kManyMultiprocessors));
  }
  return bytes;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_PLAN_CUH_
