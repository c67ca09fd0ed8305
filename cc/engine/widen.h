// SPDX-License-Identifier: MIT
// Elements of 16 bits as float32, and back: for what a GPU has kernels for in float32 only.
#ifndef TF_PLR_ENGINE_WIDEN_H_
#define TF_PLR_ENGINE_WIDEN_H_

#include <cstdint>

namespace tf_plr {
namespace gpu {

// T: Half or BFloat16; on a cudaStream_t. Each returns null, or what went wrong.
template <typename T>
const char* Widen(const T* from, float* to, int64_t size, void* stream);
template <typename T>
const char* Narrow(const float* from, T* to, int64_t size, void* stream);

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_WIDEN_H_
