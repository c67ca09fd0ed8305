// SPDX-License-Identifier: MIT
// Replaces the engine's file of the same name in the emulation.
#ifndef TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CC_ENGINE_GPU_INSTRUCTIONS_CUH_
#define TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CC_ENGINE_GPU_INSTRUCTIONS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <mutex>

namespace tf_plr {
namespace gpu {

inline cuda_on_cpu::Fiber& CurrentFiber() { return cuda_on_cpu::Block::Current()->CurrentFiber(); }

// Copies arrive as late as allowed; until then, the target holds NaN.
template <int kBytes>
void CopyAsync(void* to, const void* from) {
  if (reinterpret_cast<uintptr_t>(to) % kBytes || reinterpret_cast<uintptr_t>(from) % kBytes) {
    abort();
  }
  if (kBytes < 4) {  // Not asynchronous on a GPU either.
    memcpy(to, from, kBytes);
    return;
  }
  memset(to, 0xFF, kBytes);
  CurrentFiber().copies.push_back({to, from, kBytes});
}
inline void CopyWordAsync(void* to, const void* from, int bytes) {
  constexpr int kWord = 4;
  if (bytes < 0 || bytes > kWord) abort();
  CopyAsync<kWord>(to, from);
  CurrentFiber().copies.back().bytes = bytes;
  memset(static_cast<char*>(to) + bytes, 0, kWord - bytes);
}
inline void CommitCopies() {
  cuda_on_cpu::Fiber& fiber = CurrentFiber();
  fiber.committed_copies.insert(fiber.committed_copies.end(), fiber.copies.begin(),
                                fiber.copies.end());
  fiber.copies.clear();
}
inline void WaitForCopies() {
  for (const cuda_on_cpu::Copy& copy : CurrentFiber().committed_copies) {
    memcpy(copy.to, copy.from, copy.bytes);
  }
  CurrentFiber().committed_copies.clear();
}
inline void Prefetch(const void*) {}
inline void LaunchDependents() {}
inline void WaitForPreviousKernel() { CurrentFiber().waited = true; }

inline void ClusterArrive() { cuda_on_cpu::Block::Current()->ClusterArrive(); }
inline void WaitForCluster() { cuda_on_cpu::Block::Current()->WaitForCluster(); }

template <typename V>
void StoreToClusterBlock(int block, V* place, V value) {
  if (CurrentFiber().cluster_waits == 0) abort();  // That block may not have started.
  char* const there = cuda_on_cpu::Block::Current()->cluster->shared[block];
  if (there == nullptr) abort();  // That block is done.
  memcpy(there + (reinterpret_cast<char*>(place) - shared), &value, sizeof(value));
}

struct alignas(16) StatusWord {
  uint64_t payload;
  uint64_t flag;
};

inline std::mutex status_mutex;

inline StatusWord LoadStatus(const StatusWord* word) {
  if (!CurrentFiber().waited) abort();
  cuda_on_cpu::Block::Current()->Yield();
  std::lock_guard<std::mutex> lock(status_mutex);
  return *word;
}

inline void StoreStatus(StatusWord* word, StatusWord value) {
  if (!CurrentFiber().waited) abort();
  cuda_on_cpu::Block::Current()->Yield();
  std::lock_guard<std::mutex> lock(status_mutex);
  *word = value;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CC_ENGINE_GPU_INSTRUCTIONS_CUH_
