// SPDX-License-Identifier: MIT
// Instantiates the functions of run.h. TF_PLR_ELEMENT or TF_PLR_GATED_ELEMENT selects one element,
// so that a build can compile several in parallel; with neither, this file instantiates all.
#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

#define TF_PLR_INSTANTIATE_GATED_CELL(T, Name, ...) \
  TF_PLR_INSTANTIATE_CELL(Name##Cell, T)            \
  TF_PLR_INSTANTIATE_CELL(Name##GradientCell, T)
#define TF_PLR_INSTANTIATE(type, element, ...)     \
  TF_PLR_INSTANTIATE_CELL(RecurrenceCell, element) \
  TF_PLR_INSTANTIATE_CELL(RecurrenceGradientCell, element)
#define TF_PLR_INSTANTIATE_GATED(type, element, ...) \
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_INSTANTIATE_GATED_CELL, element)

#if defined(TF_PLR_GATED_ELEMENT)
TF_PLR_INSTANTIATE(, TF_PLR_GATED_ELEMENT)
TF_PLR_INSTANTIATE_GATED(, TF_PLR_GATED_ELEMENT)
#elif defined(TF_PLR_ELEMENT)
TF_PLR_INSTANTIATE(, TF_PLR_ELEMENT)
#else
TF_PLR_FOR_EACH_TYPE(TF_PLR_INSTANTIATE)
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE_GATED)
#endif

}  // namespace cpu
}  // namespace tf_plr
