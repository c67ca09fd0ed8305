// SPDX-License-Identifier: MIT
// For the files that compile the functions of run.h. They are compiled once for each element,
// TF_PLR_ELEMENT or TF_PLR_GATED_ELEMENT, so that builds compile several at once; or, without
// either, for all elements together. TF_PLR_INSTANTIATE_CELL(Cell, T) is theirs, and so is
// TF_PLR_FIXED_CELLS(M, T): the cells of fixed functions that the engine has.
#ifndef TF_PLR_ENGINE_INSTANTIATE_H_
#define TF_PLR_ENGINE_INSTANTIATE_H_

#include "cc/engine/cells/gated.h"
#include "cc/engine/types.h"

#define TF_PLR_INSTANTIATE_GATED_CELL(T, Name, ...) \
  TF_PLR_INSTANTIATE_CELL(Name##Cell, T)            \
  TF_PLR_INSTANTIATE_CELL(Name##GradientCell, T)
#define TF_PLR_INSTANTIATE(type, element, ...)              \
  TF_PLR_INSTANTIATE_CELL(RecurrenceCell, element)          \
  TF_PLR_INSTANTIATE_CELL(RecurrenceGradientCell, element)  \
  TF_PLR_INSTANTIATE_CELL(BroadcastRecurrenceCell, element) \
  TF_PLR_INSTANTIATE_CELL(BroadcastImpulseGradientCell, element)
#define TF_PLR_INSTANTIATE_GATED(type, element, ...)                 \
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_INSTANTIATE_GATED_CELL, element) \
  TF_PLR_FIXED_CELLS(TF_PLR_INSTANTIATE_GATED_CELL, element)

#if defined(TF_PLR_GATED_ELEMENT)
#define TF_PLR_INSTANTIATE_ELEMENTS          \
  TF_PLR_INSTANTIATE(, TF_PLR_GATED_ELEMENT) \
  TF_PLR_INSTANTIATE_GATED(, TF_PLR_GATED_ELEMENT)
#elif defined(TF_PLR_ELEMENT)
#define TF_PLR_INSTANTIATE_ELEMENTS TF_PLR_INSTANTIATE(, TF_PLR_ELEMENT)
#else
#define TF_PLR_INSTANTIATE_ELEMENTS        \
  TF_PLR_FOR_EACH_TYPE(TF_PLR_INSTANTIATE) \
  TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE_GATED)
#endif

#endif  // TF_PLR_ENGINE_INSTANTIATE_H_
