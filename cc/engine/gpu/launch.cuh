// SPDX-License-Identifier: MIT
// How kernels are launched: alone, with a cleared status to look back at, or in clusters.
#ifndef TF_PLR_ENGINE_GPU_LAUNCH_CUH_
#define TF_PLR_ENGINE_GPU_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cc/engine/gpu/choice.h"
#include "cc/engine/gpu/instructions.cuh"
#include "cc/engine/gpu/look_back/look_back.cuh"

namespace tf_plr {
namespace gpu {

struct Grid {
  int64_t x, y;
  Grid(int64_t x, int64_t y = 1) : x(x), y(y) {}
};

// `bytes` is the shared memory of this launch; `most` is the limit that is set for the kernel. All
// host threads share that limit, so it must be the same for every launch of the kernel.
struct SharedMemory {
  size_t bytes, most;
  SharedMemory(size_t bytes) : bytes(bytes), most(bytes) {}
  SharedMemory(size_t bytes, size_t most) : bytes(bytes), most(most) {}
};

struct Launch {
  Grid grid;
  int threads;
  SharedMemory shared;
  cudaStream_t stream;
};

// `attribute` may be null.
inline cudaLaunchConfig_t ConfigOf(const Launch& launch, cudaLaunchAttribute* attribute) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launch.grid.x), static_cast<unsigned>(launch.grid.y));
  config.blockDim = dim3(launch.threads);
  config.dynamicSmemBytes = launch.shared.bytes;
  config.stream = launch.stream;
  config.attrs = attribute;
  config.numAttrs = attribute == nullptr ? 0 : 1;
  return config;
}

// Keeps a number that is not negative for each device, because asking CUDA for it takes about as
// long as a launch.
class KeptForDevice {
 public:
  // Calls compute(), unless it has been called on the current device before. Does not keep negative
  // numbers.
  template <typename Compute>
  int Get(const Compute& compute) {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess || device >= kDevices) return compute();
    int number = numbers_[device].load(std::memory_order_relaxed) - 1;
    if (number < 0) number = compute();  // Threads that do this at once get the same number.
    if (number >= 0) numbers_[device].store(number + 1, std::memory_order_relaxed);
    return number;
  }

 private:
  static constexpr int kDevices = 64;
  std::atomic<int> numbers_[kDevices] = {};  // One more than the number; 0 if there is none yet.
};

// `attribute` may be null.
template <auto kKernel, typename Params>
cudaError_t LaunchKernel(const Launch& launch, const Params& params,
                         cudaLaunchAttribute* attribute = nullptr) {
  if (launch.grid.x > INT32_MAX) return cudaErrorInvalidConfiguration;
  static KeptForDevice shared_memory;
  const int error = shared_memory.Get([&] {
    return -static_cast<int>(cudaFuncSetAttribute(kKernel,
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  static_cast<int>(launch.shared.most)));
  });
  const cudaLaunchConfig_t config = ConfigOf(launch, attribute);
  return error == 0 ? cudaLaunchKernelEx(&config, kKernel, params)
                    : static_cast<cudaError_t>(-error);
}

// Whether the GPU and the code that was built for it are at least of the Hopper architecture.
template <auto kKernel>
bool IsForHopper() {
  static KeptForDevice version;
  const int found = version.Get([] {
    cudaFuncAttributes code;
    if (cudaFuncGetAttributes(&code, kKernel) == cudaSuccess) {
      return std::min(code.ptxVersion, code.binaryVersion);
    }
    cudaGetLastError();  // Clears the error, which a later call would otherwise report.
    return -1;
  });
  return found >= 90;
}

// ---- With a cleared status ----

struct StatusWords {
  StatusWord* first;
  int64_t count;
};

static __global__ void ClearStatus(const __grid_constant__ StatusWords words) {
  LaunchDependents();
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words.count;
       i += int64_t{gridDim.x} * blockDim.x) {
    words.first[i] = {0, kNothing};
  }
}

// Launches a kernel whose tiles look back. The kernel may load its first tiles while ClearStatus
// still runs: ClearStatus starts after the kernel before it has ended, so the inputs are complete.
// Each thread waits (WaitForPreviousKernel) before it reads the status or writes anything.
template <auto kKernel, typename Params>
cudaError_t LaunchLookBack(const Launch& launch, const Params& params, int64_t status_words) {
  constexpr int kThreads = 256, kMaxBlocks = 512;
  const int64_t blocks = std::min<int64_t>(CeilDiv(status_words, kThreads), kMaxBlocks);
  const cudaError_t error = LaunchKernel<ClearStatus>({blocks, kThreads, 0, launch.stream},
                                                      StatusWords{params.status, status_words});
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  return error == cudaSuccess
             ? LaunchKernel<kKernel>(launch, params, IsForHopper<kKernel>() ? &overlap : nullptr)
             : error;
}

// ---- In clusters of neighbouring blocks ----

inline cudaLaunchAttribute ClustersOf(int64_t blocks) {
  cudaLaunchAttribute clusters{};
  clusters.id = cudaLaunchAttributeClusterDimension;
  clusters.val.clusterDim.x = static_cast<unsigned>(blocks);
  clusters.val.clusterDim.y = clusters.val.clusterDim.z = 1;
  return clusters;
}

// The number of clusters of `blocks` blocks that can run at once; 0 if the GPU has no clusters, or
// none of this size. Also allows the kernel to be launched in such clusters.
template <auto kKernel>
int ClustersAtOnce(const Launch& launch, int64_t blocks) {
  constexpr int kMostBlocks = 16;
  if (!IsForHopper<kKernel>() || blocks > kMostBlocks) return 0;
  static KeptForDevice counts[kMostBlocks + 1];
  const int count = counts[blocks].Get([&] {
    cudaLaunchAttribute clusters = ClustersOf(blocks);
    const cudaLaunchConfig_t config = ConfigOf(launch, &clusters);
    int count = 0;
    cudaError_t error = cudaFuncSetAttribute(  // More than 8 blocks.
        kKernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&count, kKernel, &config);
    if (error == cudaSuccess) return count;
    cudaGetLastError();  // Clears the error, which a later call would otherwise report.
    return -1;
  });
  return std::max(0, count);
}

template <auto kKernel, typename Params>
cudaError_t LaunchClusters(const Launch& launch, const Params& params, int64_t blocks) {
  cudaLaunchAttribute clusters = ClustersOf(blocks);
  return LaunchKernel<kKernel>(launch, params, &clusters);
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_LAUNCH_CUH_
