// SPDX-License-Identifier: MIT
// The functions of run.h; instantiate.cu compiles them.
#ifndef TF_PLR_ENGINE_GPU_RUN_CUH_
#define TF_PLR_ENGINE_GPU_RUN_CUH_

#include <cstring>
#include <string>

#include "cc/engine/gpu/kernels/reduction.cuh"
#include "cc/engine/gpu/plan.cuh"
#include "cc/engine/gpu/run.h"

namespace tf_plr {
namespace gpu {

template <typename Cell, typename T>
auto Stored(const Arrays<Cell, T>& arrays) {
  Arrays<Cell, typename StorageOf<T>::type> stored;
  static_assert(sizeof(stored) == sizeof(arrays));
  memcpy(static_cast<void*>(&stored), &arrays, sizeof(stored));  // Pointers and strides.
  return stored;
}

// Valid until the calling thread's next call.
inline const char* StoreMessage(const std::string& message) {
  static thread_local std::string kept;
  kept = message;
  return kept.c_str();
}

inline const char* Explain(cudaError_t error) {
  cudaGetLastError();  // Clears the error, which a later call would otherwise report.
  if (error == cudaErrorInsufficientDriver) {
    return "tf_plr was built with a CUDA release that this GPU's driver is too old for. Update the "
           "driver, or rebuild tf_plr with an older CUDA toolkit.";
  }
  // Without code for this architecture, a launch reports a missing image, but an earlier query
  // about the kernel reports an invalid function.
  if (error != cudaErrorNoKernelImageForDevice && error != cudaErrorInvalidDeviceFunction) {
    return cudaGetErrorString(error);
  }
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  const std::string architecture = std::to_string(10 * major + minor);
  return StoreMessage("tf_plr was not built for this GPU's architecture, sm_" + architecture +
                      ". Rebuild it with TF_PLR_CUDA_ARCHITECTURES=\"" + architecture + "\".");
}

template <typename Cell, typename T>
size_t WorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) {
  DeviceLimits limits;
  if (problem.size() == 0) return 0;
  if (Read(&limits) != cudaSuccess) {
    cudaGetLastError();  // Run will say what is wrong.
    return 0;
  }
  return WithPlan(problem, Stored(arrays), algorithm, limits,
                  [](const auto& plan) { return WorkspaceBytesOf(plan); });
}

template <typename Cell, typename T>
size_t MaxWorkspaceBytes(const Problem& problem, Algorithm algorithm, int64_t d_bias_width) {
  return MaxWorkspaceBytesOf<Cell, typename StorageOf<T>::type>(problem, algorithm, d_bias_width);
}

template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                Workspace workspace, void* stream) {
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaSuccess;
  if (problem.size() > 0) {
    DeviceLimits limits;
    error = Read(&limits);
    if (error != cudaSuccess) return Explain(error);
    if (NeedsFlags(arrays) && !HasKernelsWithFlags(problem, Stored(arrays))) {
      return "tf_plr has no GPU kernels in 16 bits for a mask or resets with these functions and "
             "units";
    }
    size_t needed = 0;
    const char* message = nullptr;
    error = WithPlan(problem, Stored(arrays), algorithm, limits, [&](auto plan) {
      needed = WorkspaceBytesOf(plan);
      if (needed > workspace.bytes) return cudaErrorInvalidValue;
      auto* const memory = static_cast<char*>(workspace.data);
      const cudaError_t error = plan.Launch(memory, cuda_stream);
      if constexpr (kSumsOutputs<Cell>) {
        if (error == cudaSuccess) {
          message = plan.sums().Add(memory + plan.bytes_before_sums(), arrays.gated.d_bias, stream);
        }
      }
      return error;
    });
    if (needed > workspace.bytes) {
      return StoreMessage("tf_plr needs a workspace of " + std::to_string(needed) +
                          " bytes on this GPU, but got " + std::to_string(workspace.bytes));
    }
    if (message != nullptr) return message;
  } else if (arrays.final_carry != nullptr && problem.columns() > 0) {  // No steps.
    using Column = typename decltype(Stored(arrays))::Column;
    const size_t bytes = problem.columns() * sizeof(Column);
    error = arrays.initial_carry == nullptr
                ? cudaMemsetAsync(arrays.final_carry, 0, bytes, cuda_stream)
                : cudaMemcpyAsync(arrays.final_carry, arrays.initial_carry, bytes,
                                  cudaMemcpyDeviceToDevice, cuda_stream);
  }
  if constexpr (kSumsOutputs<Cell>) {
    const size_t bytes = arrays.gated.d_bias_width * sizeof(float);
    if (problem.size() == 0 && arrays.gated.d_bias != nullptr && bytes > 0 &&
        error == cudaSuccess) {
      error = cudaMemsetAsync(arrays.gated.d_bias, 0, bytes, cuda_stream);
    }
  }
  return error == cudaSuccess ? nullptr : Explain(error);
}

// To keep the library small, gated cells have no reduction for float16.
template <typename Cell, typename T>
constexpr bool kHasReduction = !Cell::kGated || !std::is_same_v<T, Half>;

template <typename Cell, typename T, typename Function>
auto WithReductionPlan(const Problem& problem, const Arrays<Cell, T>& arrays,
                       const Function& function) {
  using Element = typename StorageOf<T>::type;
  const auto stored = WithGeneralCell(Stored(arrays));
  constexpr bool kPairs = sizeof(Element) == 2;
  // Few need a reduction, so those of gated cells are compiled only once.
  if constexpr (Cell::kGated || !kPairs) {
    if (Cell::kGated || NeedsFlags(stored)) {
      const auto flagged = ForCellWithFlags(stored);
      using OfCell = Reduction<typename decltype(flagged)::Cell, Element, kPairs ? 2 : 1>;
      return function(ReductionPlan<OfCell>(problem, flagged));
    }
  }
  if constexpr (!Cell::kGated) {
    if constexpr (kPairs) {
      if (HasPairs<Cell, Element>(problem)) {
        return function(ReductionPlan<Reduction<Cell, Element, 2>>(problem, stored));
      }
    }
    return function(ReductionPlan<Reduction<Cell, Element, 1>>(problem, stored));
  }
}

template <typename Cell, typename T>
size_t ReduceWorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays) {
  if constexpr (kHasReduction<Cell, T>) {
    if (problem.columns() == 0) return 0;
    return WithReductionPlan(problem, arrays,
                             [](const auto& plan) { return plan.workspace_bytes(); });
  } else {
    return 0;
  }
}

template <typename Cell, typename T, typename A>
const char* Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const ColumnTransitions<A>& transitions, Workspace workspace, void* stream) {
  if constexpr (kHasReduction<Cell, T>) {
    if (problem.columns() == 0) return nullptr;
    const cudaError_t error = WithReductionPlan(problem, arrays, [&](auto plan) {
      return plan.workspace_bytes() > workspace.bytes
                 ? cudaErrorInvalidValue
                 : plan.Launch(transitions, workspace.data, static_cast<cudaStream_t>(stream));
    });
    return error == cudaSuccess ? nullptr : Explain(error);
  } else {
    return "tf_plr has no GPU kernels for transitions of gated cells in float16";
  }
}

#define TF_PLR_FIXED_CELLS TF_PLR_FOR_EACH_FIXED_CELL
#define TF_PLR_INSTANTIATE_CELL(Cell, T)                                                         \
  template size_t WorkspaceBytes(const Problem&, const Arrays<Cell, T>&, Algorithm);             \
  template size_t MaxWorkspaceBytes<Cell, T>(const Problem&, Algorithm, int64_t);                \
  template const char* Run(const Problem&, const Arrays<Cell, T>&, Algorithm, Workspace, void*); \
  template size_t ReduceWorkspaceBytes(const Problem&, const Arrays<Cell, T>&);                  \
  template const char* Reduce(const Problem&, const Arrays<Cell, T>&,                            \
                              const ColumnTransitions<Accumulator<StorageOf<T>::type>>&,         \
                              Workspace, void*);

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_RUN_CUH_
