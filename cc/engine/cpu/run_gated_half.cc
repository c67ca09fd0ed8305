// SPDX-License-Identifier: MIT
#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

#define TF_PLR_INSTANTIATE_CELL(Cell)                                                   \
  template const char* Run(const Problem&, const Arrays<Cell, Eigen::half>&, Algorithm, \
                           const Workers&);
#define TF_PLR_INSTANTIATE(Name, activation, input, output) \
  TF_PLR_INSTANTIATE_CELL(Name##Cell)                       \
  TF_PLR_INSTANTIATE_CELL(Name##GradientCell)

TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_INSTANTIATE)

}  // namespace cpu
}  // namespace tf_plr
