// SPDX-License-Identifier: MIT
// How data moves on a GPU: asynchronous copies into shared memory, values between the lanes of a
// warp, and words between blocks.
#ifndef TF_PLR_ENGINE_GPU_MEMORY_CUH_
#define TF_PLR_ENGINE_GPU_MEMORY_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cc/engine/monoid.h"

namespace tf_plr {
namespace gpu {

constexpr int kWarp = 32;

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

__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;"); }

// Waits for all of this thread's copies.
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// The value of another lane among `mask`, numbered within `width` lanes.
template <typename V>
__device__ __forceinline__ V Shuffle(V value, int lane, int width = kWarp, unsigned mask = ~0u) {
  uint32_t words[sizeof(V) / sizeof(uint32_t)];
  memcpy(words, &value, sizeof(value));
#pragma unroll
  for (uint32_t& word : words) word = __shfl_sync(mask, word, lane, width);
  memcpy(&value, words, sizeof(value));
  return value;
}

// What a tile or a segment has published of one column, in 128-bit words that are written and read
// whole.
struct alignas(16) StatusWord {
  uint64_t payload;
  uint64_t flag;
};
enum StatusFlag : uint64_t {
  kNothing = 0,     // As the workspace is initialised.
  kTransition = 1,  // The transition is available.
  kState = 2,       // The state after the segment is available, as `impulse`.
};
template <typename A>
constexpr int kStatusWords = sizeof(Transition<A>) / sizeof(uint64_t);

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

template <typename A>
__device__ void Publish(StatusWord* words, Transition<A> value, StatusFlag flag) {
  uint64_t payload[kStatusWords<A>];
  memcpy(payload, &value, sizeof(value));
#pragma unroll
  for (int i = 0; i < kStatusWords<A>; ++i) StoreStatus(words + i, {payload[i], flag});
}

// kNothing until all words are there with the same flag.
template <typename A>
__device__ uint64_t Inspect(const StatusWord* words, Transition<A>* value) {
  uint64_t payload[kStatusWords<A>], flag = kNothing;
#pragma unroll
  for (int i = 0; i < kStatusWords<A>; ++i) {
    const StatusWord word = LoadStatus(words + i);
    payload[i] = word.payload;
    flag = i == 0 || word.flag == flag ? word.flag : uint64_t{kNothing};
  }
  memcpy(value, payload, sizeof(*value));
  return flag;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_MEMORY_CUH_
