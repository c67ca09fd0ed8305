// SPDX-License-Identifier: MIT
#ifndef TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_FP16_H_
#define TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_FP16_H_

#include "Eigen/Core"

using __half = Eigen::half;

#endif  // TF_PLR_TESTS_ENGINE_CUDA_ON_CPU_CUDA_FP16_H_
