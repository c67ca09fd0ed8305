// SPDX-License-Identifier: MIT
#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

#define TF_PLR_INSTANTIATE_GATED(Name, activation, input, output) \
  TF_PLR_INSTANTIATE_CELL(Name##Cell, float)                      \
  TF_PLR_INSTANTIATE_CELL(Name##GradientCell, float)

TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_INSTANTIATE_GATED)

}  // namespace cpu
}  // namespace tf_plr
