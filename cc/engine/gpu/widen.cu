// SPDX-License-Identifier: MIT
#include <algorithm>

#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/widen.h"

namespace tf_plr {
namespace gpu {

template <typename From, typename To>
struct ConvertParams {
  const From* from;
  To* to;
  int64_t size;
};

constexpr int kConvertThreads = 256;

template <typename From, typename To>
__global__ void __launch_bounds__(kConvertThreads)
    Convert(const __grid_constant__ ConvertParams<From, To> p) {
  const int64_t stride = int64_t{gridDim.x} * kConvertThreads;
#pragma unroll 4
  for (int64_t i = int64_t{blockIdx.x} * kConvertThreads + threadIdx.x; i < p.size; i += stride) {
    p.to[i] = To(static_cast<float>(p.from[i]));
  }
}

template <typename From, typename To>
const char* LaunchConvert(const From* from, To* to, int64_t size, void* stream) {
  constexpr int64_t kMostBlocks = 1 << 14;
  if (size == 0) return nullptr;
  const cudaError_t error =
      LaunchKernel<Convert<From, To>>({std::min(kMostBlocks, CeilDiv(size, kConvertThreads)),
                                       kConvertThreads, 0, static_cast<cudaStream_t>(stream)},
                                      ConvertParams<From, To>{from, to, size});
  return error == cudaSuccess ? nullptr : Explain(error);
}

template <typename T>
const char* Widen(const T* from, float* to, int64_t size, void* stream) {
  using Stored = typename StorageOf<T>::type;
  return LaunchConvert(reinterpret_cast<const Stored*>(from), to, size, stream);
}

template <typename T>
const char* Narrow(const float* from, T* to, int64_t size, void* stream) {
  using Stored = typename StorageOf<T>::type;
  return LaunchConvert(from, reinterpret_cast<Stored*>(to), size, stream);
}

#define TF_PLR_INSTANTIATE(T)                                   \
  template const char* Widen(const T*, float*, int64_t, void*); \
  template const char* Narrow(const float*, T*, int64_t, void*);
TF_PLR_INSTANTIATE(Half)
TF_PLR_INSTANTIATE(BFloat16)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
