// SPDX-License-Identifier: MIT
// Address arithmetic for which the compiler would generate slow code.
#ifndef TF_PLR_ENGINE_GPU_ADDRESSES_CUH_
#define TF_PLR_ENGINE_GPU_ADDRESSES_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace tf_plr {
namespace gpu {

// Advances an address by a row. The empty asm makes the compiler add: left alone, it multiplies in
// 64 bits for every row, which costs several times as much as the work on the row. The compiler
// then no longer knows that the address is in global memory; that costs nothing measurable.
template <typename T>
__device__ __forceinline__ T* AdvanceRow(T* address, int64_t bytes) {
  const int64_t sum = reinterpret_cast<int64_t>(address) + bytes;
  int64_t opaque = sum;
  asm volatile("" : "+l"(opaque));
  return reinterpret_cast<T*>(opaque);
}

// Divides in 32 bits if both numbers fit, which is much faster.
__device__ __forceinline__ int64_t Divide(int64_t a, int64_t b) {
  return (a | b) >> 32 == 0 ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_ADDRESSES_CUH_
