// SPDX-License-Identifier: MIT
// Arithmetic of addresses, where the compiler's own is slow.
#ifndef TF_PLR_ENGINE_GPU_ADDRESSES_CUH_
#define TF_PLR_ENGINE_GPU_ADDRESSES_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace tf_plr {
namespace gpu {

// Addresses of successive rows are found by adding, row by row: left alone, the compiler multiplies
// for each, in 64 bits, and rows cost several times as much as what is computed in them. (It then
// does not know that they are global memory; that costs nothing measurable.)
template <typename T>
__device__ __forceinline__ T* AddBytes(T* address, int64_t bytes) {
  const int64_t sum = reinterpret_cast<int64_t>(address) + bytes;
  int64_t opaque = sum;
  asm volatile("" : "+l"(opaque));
  return reinterpret_cast<T*>(opaque);
}

// In 32 bits where these do, which is much faster.
__device__ __forceinline__ int64_t Divide(int64_t a, int64_t b) {
  return (a | b) >> 32 == 0 ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_ADDRESSES_CUH_
