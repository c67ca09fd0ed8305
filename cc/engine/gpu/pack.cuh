// SPDX-License-Identifier: MIT
// Elements in device code: how they are stored, accumulated and packed.
#ifndef TF_PLR_ENGINE_GPU_PACK_CUH_
#define TF_PLR_ENGINE_GPU_PACK_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cc/engine/gpu/run.h"

namespace tf_plr {
namespace gpu {

// The device type that stores an element type of the interface.
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

// The type in which a stored type is accumulated.
template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<__half> {
  using type = float;
};
template <>
struct AccumulatorOf<__nv_bfloat16> {
  using type = float;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

// Neighbouring elements, loaded or stored at once. Words give each pack registers of its own,
// whatever the element type.
template <typename T, int kVector>
struct alignas(kVector * sizeof(T)) Pack {
  using Word = std::conditional_t<kVector * sizeof(T) == 2, uint16_t, uint32_t>;
  Word words[kVector * sizeof(T) / sizeof(Word)];

  __device__ Accumulator<T> Get(int v) const {
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {  // The upper half of a float.
      const uint32_t word = words[v / 2];
      return __uint_as_float(v % 2 == 0 ? word << 16 : word & 0xffff0000u);
    }
    T values[kVector];
    memcpy(values, words, sizeof(words));
    return Accumulator<T>(values[v]);
  }
  // Makes the compiler unpack again, so that values unpacked before need not stay in registers.
  __device__ Pack Rematerialize() const {
    Pack same = *this;
    if constexpr (sizeof(T) == 2 && kVector == 2) asm volatile("" : "+r"(same.words[0]));
    return same;
  }
  __device__ static Pack Filled(float value) {
    T values[kVector];
    for (T& element : values) element = T(value);
    Pack pack;
    memcpy(pack.words, values, sizeof(values));
    return pack;
  }
  __device__ static Pack Of(const Accumulator<T> (&accumulators)[kVector]) {
    Pack pack;
    if constexpr (std::is_same_v<T, __nv_bfloat16> && kVector == 2) {  // One instruction.
      const __nv_bfloat162 pair = __floats2bfloat162_rn(accumulators[0], accumulators[1]);
      memcpy(pack.words, &pair, sizeof(pair));
    } else {
      T values[kVector];
      for (int v = 0; v < kVector; ++v) values[v] = T(accumulators[v]);
      memcpy(pack.words, values, sizeof(values));
    }
    return pack;
  }
};

// Load and store a thread's pack. If it may not be aligned, they do so element by element, and only
// for the first `columns` elements; the others are zeros.
template <int kVector, typename T>
__device__ Pack<T, kVector> LoadPack(const T* from, bool aligned, int columns) {
  if constexpr (kVector > 1) {
    if (!aligned) {
      T values[kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) values[v] = v < columns ? from[v] : T(0.0f);
      Pack<T, kVector> pack;
      memcpy(pack.words, values, sizeof(values));
      return pack;
    }
  }
  return *reinterpret_cast<const Pack<T, kVector>*>(from);
}
template <int kVector, typename T>
__device__ void StorePack(T* to, const Pack<T, kVector>& pack, bool aligned, int columns) {
  if constexpr (kVector > 1) {
    if (!aligned) {
      T values[kVector];
      memcpy(values, pack.words, sizeof(values));
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        if (v < columns) to[v] = values[v];
      }
      return;
    }
  }
  *reinterpret_cast<Pack<T, kVector>*>(to) = pack;
}

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_PACK_CUH_
