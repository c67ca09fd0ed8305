// SPDX-License-Identifier: MIT
#include "cc/engine/gpu/run.cuh"

namespace tf_plr {
namespace gpu {

#define TF_PLR_INSTANTIATE_GATED(Name, activation, input, output) \
  TF_PLR_INSTANTIATE_CELL(Name##Cell, Half)                       \
  TF_PLR_INSTANTIATE_CELL(Name##GradientCell, Half)

TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_INSTANTIATE_GATED)

}  // namespace gpu
}  // namespace tf_plr
