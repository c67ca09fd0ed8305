// SPDX-License-Identifier: MIT
#ifndef TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_BF16_H_
#define TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_BF16_H_

#include "Eigen/Core"

using __nv_bfloat16 = Eigen::bfloat16;
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}

#endif  // TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_BF16_H_
