// SPDX-License-Identifier: MIT
// The part of CUDA that the kernels use, emulated on a CPU. It tests their logic without a GPU, and
// under schedules that are rare on a GPU. It says nothing about speed.
//
// A block runs on one host thread, with one fiber for each of its threads. Fibers switch at
// barriers, shuffles and accesses to status words, in an order that changes from pass to pass. A
// few host threads take blocks in the order of their numbers; with clusters, each block of a
// cluster has a host thread.
#ifndef TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_RUNTIME_H_
#define TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_RUNTIME_H_

#include <setjmp.h>
#include <ucontext.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ __thread
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y;
  explicit dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y) {}
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

inline int multiprocessors = 1;
inline int architecture = 90;
inline int clusters_at_once = 1 << 20;
inline int cluster_launches = 0;

struct Barrier {
  int arrived = 0, turn = 0;
};

struct Warp {
  std::map<unsigned, Barrier> barriers;  // By the mask of those who meet.
  uint32_t values[32];
};

struct Cluster {
  std::vector<char*> shared;  // Memory of each block.
  std::atomic<unsigned> arrived{0};
};

// An asynchronous copy into shared memory that has not arrived yet.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  ucontext_t start;
  jmp_buf place;  // Where it goes on; _setjmp and _longjmp are much faster than contexts.
  bool started, done;
  bool waited;  // Has called WaitForPreviousKernel.
  unsigned cluster_arrivals, cluster_waits;
  std::vector<Copy> copies, committed_copies;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  const int* turn = nullptr;  // If not null, waits while *turn == turn_before.
  int turn_before;
  static constexpr size_t kStackBytes = 64 << 10;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Barrier barrier;
  unsigned votes = 0;
  Cluster* cluster;
  jmp_buf scheduler;
  const std::function<void()>* kernel;

  static Block*& Current() {
    static thread_local Block* block = nullptr;
    return block;
  }

  void Yield() {
    if (_setjmp(CurrentFiber().place) == 0) _longjmp(scheduler, 1);
  }

  void Continue(Fiber* fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber->started) _longjmp(fiber->place, 1);
    fiber->started = true;
    setcontext(&fiber->start);
  }

  void Meet(Barrier* barrier, int count) {
    if (++barrier->arrived == count) {
      barrier->arrived = 0;
      ++barrier->turn;
      return;
    }
    Fiber& self = CurrentFiber();
    self.turn_before = barrier->turn;
    self.turn = &barrier->turn;
    Yield();
  }

  Fiber& CurrentFiber() { return fibers[threadIdx.x]; }

  void ClusterArrive() {
    ++CurrentFiber().cluster_arrivals;
    ++cluster->arrived;
  }

  void WaitForCluster() {
    const unsigned threads = cluster->shared.size() * blockDim.x;
    const unsigned all = ++CurrentFiber().cluster_waits * threads;
    if (CurrentFiber().cluster_waits != CurrentFiber().cluster_arrivals) abort();
    while (cluster->arrived < all) Yield();
  }

  static void Enter() {
    Block& block = *Current();
    (*block.kernel)();
    block.CurrentFiber().done = true;
    block.Yield();
  }

  void Run(const std::function<void()>& function, std::mt19937* random) {
    kernel = &function;
    Current() = this;
    warps.assign(blockDim.x / 32, {});
    barrier = {};
    for (Fiber& fiber : fibers) {
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = fiber.stack.get();
      fiber.start.uc_stack.ss_size = Fiber::kStackBytes;
      fiber.start.uc_link = nullptr;
      fiber.started = fiber.done = fiber.waited = false;
      fiber.cluster_arrivals = fiber.cluster_waits = 0;
      fiber.copies.clear();
      fiber.committed_copies.clear();
      fiber.turn = nullptr;
      makecontext(&fiber.start, Enter, 0);
    }
    for (bool running = true; running; std::this_thread::yield()) {
      running = false;
      const unsigned shift = (*random)() % blockDim.x;
      for (unsigned i = 0; i < blockDim.x; ++i) {
        const unsigned thread = (i + shift) % blockDim.x;
        Fiber& fiber = fibers[thread];
        if (fiber.done) continue;
        running = true;
        if (fiber.turn != nullptr && *fiber.turn == fiber.turn_before) continue;
        fiber.turn = nullptr;
        threadIdx.x = thread;
        Continue(&fiber);
      }
    }
  }
};

inline uint32_t* ExchangeIn(Warp* warp, unsigned mask, uint32_t value) {
  Block& block = *Block::Current();
  warp->values[threadIdx.x % 32] = value;
  block.Meet(&warp->barriers[mask], __builtin_popcount(mask));
  return warp->values;
}

inline Warp* CurrentWarp() { return &Block::Current()->warps[threadIdx.x / 32]; }

inline void MeetWarp(unsigned mask) {
  Block::Current()->Meet(&CurrentWarp()->barriers[mask], __builtin_popcount(mask));
}

}  // namespace cuda_on_cpu

// ---- What kernels call ----

inline void __syncthreads() {
  cuda_on_cpu::Block& block = *cuda_on_cpu::Block::Current();
  block.Meet(&block.barrier, blockDim.x);
}

inline bool __syncthreads_and(bool predicate) {
  unsigned& votes = cuda_on_cpu::Block::Current()->votes;
  votes += predicate;
  __syncthreads();
  const bool all = votes == blockDim.x;
  __syncthreads();  // Everyone has read.
  votes -= predicate;
  return all;
}

inline void __syncwarp(unsigned mask = ~0u) { cuda_on_cpu::MeetWarp(mask); }

inline float __fmul_rn(float a, float b) { return a * b; }

inline uint32_t __shfl_sync(unsigned mask, uint32_t value, int lane, int width) {
  const int first = static_cast<int>(threadIdx.x % 32) / width * width;
  const uint32_t* values = cuda_on_cpu::ExchangeIn(cuda_on_cpu::CurrentWarp(), mask, value);
  const uint32_t result = values[first + (lane & (width - 1))];
  cuda_on_cpu::MeetWarp(mask);  // Everyone has read.
  return result;
}

inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  const uint32_t* values = cuda_on_cpu::ExchangeIn(cuda_on_cpu::CurrentWarp(), mask, predicate);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) result |= values[lane] << lane;
  }
  cuda_on_cpu::MeetWarp(mask);  // Everyone has read.
  return result;
}

inline bool __all_sync(unsigned mask, bool predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(value); }
inline float __uint_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}

// ---- What the host calls ----

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorInvalidConfiguration,
  cudaErrorNoKernelImageForDevice,
  cudaErrorInvalidDeviceFunction,
  cudaErrorInsufficientDriver,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributeNonPortableClusterSizeAllowed,
};
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice };
using cudaStream_t = void*;

inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 1 << 20;  // Too large for KeptForDevice, because tests change the device.
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = cuda_on_cpu::multiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = cuda_on_cpu::architecture / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = cuda_on_cpu::architecture % 10;
      break;
  }
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}

enum cudaLaunchAttributeID {
  cudaLaunchAttributeProgrammaticStreamSerialization,
  cudaLaunchAttributeClusterDimension,
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
struct cudaFuncAttributes {
  int ptxVersion, binaryVersion;
};
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  *attributes = {cuda_on_cpu::architecture, cuda_on_cpu::architecture};
  return cudaSuccess;
}

template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, Kernel*, const cudaLaunchConfig_t*) {
  *clusters = cuda_on_cpu::clusters_at_once;
  return cudaSuccess;
}

namespace tf_plr {
namespace gpu {
__attribute__((
    aligned(16))) __thread char shared[227 << 10];  // The kernels' dynamic shared memory.
}  // namespace gpu
}  // namespace tf_plr

template <typename Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params),
                               const Params& params) {
  const dim3 grid = config->gridDim, block = config->blockDim;
  const std::function<void()> call = [&] { kernel(params); };
  const bool clusters =
      config->numAttrs > 0 && config->attrs->id == cudaLaunchAttributeClusterDimension;
  const unsigned in_cluster = clusters ? config->attrs->val.clusterDim.x : 1;
  const unsigned blocks = grid.x * grid.y;
  if (blocks % in_cluster != 0) return cudaErrorInvalidConfiguration;
  cuda_on_cpu::cluster_launches += clusters;
  std::vector<cuda_on_cpu::Cluster> all_clusters(blocks / in_cluster);
  std::atomic<unsigned> next{0};
  const auto work = [&](unsigned thread) {
    std::mt19937 random(thread);
    gridDim = grid;
    blockDim = block;
    cuda_on_cpu::Block on_this_thread;
    on_this_thread.fibers.resize(block.x);
    const auto run = [&](unsigned number) {
      blockIdx = dim3(number % grid.x, number / grid.x);
      on_this_thread.cluster = &all_clusters[number / in_cluster];
      char*& shared = on_this_thread.cluster->shared[number % in_cluster];
      shared = tf_plr::gpu::shared;
      memset(shared, 0xFF, config->dynamicSmemBytes);  // NaN.
      on_this_thread.Run(call, &random);
      shared = nullptr;  // Nobody may write there any more.
    };
    if (clusters) {
      for (unsigned number = thread; number < blocks; number += in_cluster) run(number);
    } else {
      for (unsigned number; (number = next.fetch_add(1)) < blocks;) run(number);
    }
  };
  for (cuda_on_cpu::Cluster& cluster : all_clusters) cluster.shared.resize(in_cluster);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < (clusters ? in_cluster : std::min(3u, blocks)); ++i)
    threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  return cudaSuccess;
}

#endif  // TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_RUNTIME_H_
