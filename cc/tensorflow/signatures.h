// SPDX-License-Identifier: MIT
// The data types in the ops' signatures, from the list of engine/types.h.
#ifndef TF_PLR_TENSORFLOW_SIGNATURES_H_
#define TF_PLR_TENSORFLOW_SIGNATURES_H_

#include <string>

#include "cc/engine/types.h"

namespace tf_plr {

#define TF_PLR_NAME(type, element, tf, xla, name) name ", "
inline std::string TypeAttr() { return "T: {" TF_PLR_FOR_EACH_TYPE(TF_PLR_NAME) "}"; }
inline std::string GatedTypeAttr() { return "T: {" TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_NAME) "}"; }
#undef TF_PLR_NAME
// The types of sums.
inline std::string SumTypeAttr() {
  std::string names;
#define TF_PLR_NAME(type, element, tf, xla, name) \
  if (SumTypeOf(DType::type) == DType::type) names += name ", ";
  TF_PLR_FOR_EACH_TYPE(TF_PLR_NAME)
#undef TF_PLR_NAME
  return "A: {" + names + "}";
}

}  // namespace tf_plr

#endif  // TF_PLR_TENSORFLOW_SIGNATURES_H_
