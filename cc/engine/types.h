// SPDX-License-Identifier: MIT
// The data types of arrays: the one list from which all others are made.
#ifndef TF_PLR_ENGINE_TYPES_H_
#define TF_PLR_ENGINE_TYPES_H_

#include "cc/engine/numeric.h"

// M(type, element, TensorFlow's name, XLA's name, name in an op's signature). `element` is a C++
// type; the types that C++ lacks are declared below, for each engine.
#define TF_PLR_FOR_EACH_GATED_TYPE(M)                   \
  M(kHalf, Half, DT_HALF, F16, "half")                  \
  M(kBFloat16, BFloat16, DT_BFLOAT16, BF16, "bfloat16") \
  M(kFloat, float, DT_FLOAT, F32, "float")
#define TF_PLR_FOR_EACH_TYPE(M)                            \
  TF_PLR_FOR_EACH_GATED_TYPE(M)                            \
  M(kDouble, double, DT_DOUBLE, F64, "double")             \
  M(kComplex64, Complex64, DT_COMPLEX64, C64, "complex64") \
  M(kComplex128, Complex128, DT_COMPLEX128, C128, "complex128")

namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

namespace tf_plr {

using Complex64 = Complex<float>;
using Complex128 = Complex<double>;

#define TF_PLR_NAME(type, ...) type,
enum class DType { TF_PLR_FOR_EACH_TYPE(TF_PLR_NAME) kBool, kOther };
#undef TF_PLR_NAME

constexpr int BytesOf(DType type) {
  switch (type) {
    case DType::kBool:
      return 1;
    case DType::kHalf:
    case DType::kBFloat16:
      return 2;
    case DType::kFloat:
      return 4;
    case DType::kComplex128:
      return 16;
    default:
      return 8;
  }
}

// Whether the cells of cells/gated.h take a type.
constexpr bool IsGated(DType type) { return type <= DType::kFloat; }

// The type in which values of `type` are accumulated.
constexpr DType SumTypeOf(DType type) { return BytesOf(type) == 2 ? DType::kFloat : type; }

// ElementOf<type>::Type is how an engine names the elements of an array.
#define TF_PLR_DEFINE_ELEMENT(type, element, ...) \
  template <>                                     \
  struct ElementOf<DType::type> {                 \
    using Type = element;                         \
  };

namespace cpu {
using Half = Eigen::half;
using BFloat16 = Eigen::bfloat16;
template <DType kType>
struct ElementOf;
TF_PLR_FOR_EACH_TYPE(TF_PLR_DEFINE_ELEMENT)
}  // namespace cpu

namespace gpu {
struct Half;  // Declared only: CUDA's headers define the types that device code uses.
struct BFloat16;
template <DType kType>
struct ElementOf;
TF_PLR_FOR_EACH_TYPE(TF_PLR_DEFINE_ELEMENT)
}  // namespace gpu
#undef TF_PLR_DEFINE_ELEMENT

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_TYPES_H_
