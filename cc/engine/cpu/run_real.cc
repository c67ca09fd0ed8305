// SPDX-License-Identifier: MIT
#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

TF_PLR_INSTANTIATE(float)
TF_PLR_INSTANTIATE(double)

}  // namespace cpu
}  // namespace tf_plr
