// SPDX-License-Identifier: MIT
#include "cc/engine/instantiate.h"

#include "cc/engine/cpu/engine.h"

namespace tf_plr {
namespace cpu {

TF_PLR_INSTANTIATE_ELEMENTS

}  // namespace cpu
}  // namespace tf_plr
