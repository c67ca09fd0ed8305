// SPDX-License-Identifier: MIT
// PTX instructions that the kernels use and that CUDA C++ has no functions for.
#ifndef TF_PLR_ENGINE_GPU_INSTRUCTIONS_CUH_
#define TF_PLR_ENGINE_GPU_INSTRUCTIONS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace tf_plr {
namespace gpu {

// ---- Copies into shared memory, which a thread starts and later waits for ----

template <int kBytes>
__device__ __forceinline__ void CopyAsync(void* to, const void* from) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  } else if constexpr (kBytes == 8) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(address), "l"(from) : "memory");
  } else if constexpr (kBytes == 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
  } else {  // Too small for an asynchronous copy.
    static_assert(kBytes == 2);
    *static_cast<uint16_t*>(to) = *static_cast<const uint16_t*>(from);
  }
}

// Copies the first `bytes` bytes of a word, and zeros after them.
__device__ __forceinline__ void CopyWordAsync(void* to, const void* from, int bytes) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;"); }

// Waits for all of this thread's copies.
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// Prefetches a line into the L2 cache.
__device__ __forceinline__ void Prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// ---- A kernel that starts while the one before it on the stream still runs ----

// Once all blocks have called this, the next kernel of the stream may start, if it was launched
// with programmatic stream serialization.
__device__ __forceinline__ void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Waits until all writes of the kernel before are visible.
__device__ __forceinline__ void WaitForPreviousKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// ---- Blocks that run at the same time, as a cluster ----

__device__ __forceinline__ void ClusterArrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
#endif
}

// Waits until all threads of the cluster have arrived as often as this one. Their writes before
// that are then visible.
__device__ __forceinline__ void WaitForCluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

// Writes to the same place in another block's shared memory.
template <typename V>
__device__ __forceinline__ void StoreToClusterBlock(int block, V* place, V value) {
  static_assert(sizeof(V) % sizeof(uint64_t) == 0);
#if __CUDA_ARCH__ >= 900
  uint64_t words[sizeof(V) / sizeof(uint64_t)];
  memcpy(words, &value, sizeof(value));
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(place));
  asm("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(address) : "r"(block));
#pragma unroll
  for (uint64_t word : words) {
    asm volatile("st.shared::cluster.b64 [%0], %1;" ::"r"(address), "l"(word) : "memory");
    address += sizeof(word);
  }
#endif
}

// ---- Words between blocks: 128 bits that are written and read whole ----

struct alignas(16) StatusWord {
  uint64_t payload;
  uint64_t flag;
};

__device__ __forceinline__ StatusWord LoadStatus(const StatusWord* word) {
  StatusWord value;
  asm volatile(
      "{ .reg .b128 word; ld.relaxed.gpu.global.b128 word, [%2]; mov.b128 {%0, %1}, word; }"
      : "=l"(value.payload), "=l"(value.flag)
      : "l"(word)
      : "memory");
  return value;
}

__device__ __forceinline__ void StoreStatus(StatusWord* word, StatusWord value) {
  asm volatile(
      "{ .reg .b128 word; mov.b128 word, {%0, %1}; st.relaxed.gpu.global.b128 [%2], word; }" ::"l"(
          value.payload),
      "l"(value.flag), "l"(word)
      : "memory");
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_INSTRUCTIONS_CUH_
