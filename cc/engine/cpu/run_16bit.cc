// SPDX-License-Identifier: MIT
#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

TF_PLR_INSTANTIATE(Eigen::half)
TF_PLR_INSTANTIATE(Eigen::bfloat16)

}  // namespace cpu
}  // namespace tf_plr
