// SPDX-License-Identifier: MIT
// The data types of the ops: how TensorFlow, XLA and the engines name them.
#ifndef TF_PLR_KERNELS_TYPES_H_
#define TF_PLR_KERNELS_TYPES_H_

#include <complex>
#include <type_traits>

#include "Eigen/Core"
#include "cc/engine/gpu/run.h"
#include "cc/engine/numeric.h"

// M(type, TensorFlow's number for it, XLA's)
#define TF_PLR_FOR_EACH_GATED_TYPE(M)   \
  M(Eigen::half, DT_HALF, F16)          \
  M(Eigen::bfloat16, DT_BFLOAT16, BF16) \
  M(float, DT_FLOAT, F32)
#define TF_PLR_FOR_EACH_TYPE(M)             \
  TF_PLR_FOR_EACH_GATED_TYPE(M)             \
  M(double, DT_DOUBLE, F64)                 \
  M(std::complex<float>, DT_COMPLEX64, C64) \
  M(std::complex<double>, DT_COMPLEX128, C128)

namespace tf_plr {

// In which TensorFlow's T is accumulated.
template <typename T>
using AccumulatorOf = std::conditional_t<sizeof(T) == 2, float, T>;

// How the CPU engine names TensorFlow's T.
template <typename T>
struct CpuElementOf {
  using type = T;
};
template <typename Real>
struct CpuElementOf<std::complex<Real>> {
  using type = Complex<Real>;
};

// How the GPU engine does.
template <typename T>
struct GpuElementOf : CpuElementOf<T> {};
template <>
struct GpuElementOf<Eigen::half> {
  using type = gpu::Half;
};
template <>
struct GpuElementOf<Eigen::bfloat16> {
  using type = gpu::BFloat16;
};

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_TYPES_H_
