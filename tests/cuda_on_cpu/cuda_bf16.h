// SPDX-License-Identifier: MIT
#ifndef TF_PLR_TESTS_CUDA_ON_CPU_CUDA_BF16_H_
#define TF_PLR_TESTS_CUDA_ON_CPU_CUDA_BF16_H_

#include "Eigen/Core"

using __nv_bfloat16 = Eigen::bfloat16;

#endif  // TF_PLR_TESTS_CUDA_ON_CPU_CUDA_BF16_H_
