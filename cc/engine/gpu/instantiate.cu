// SPDX-License-Identifier: MIT
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/instantiate.h"

namespace tf_plr {
namespace gpu {

TF_PLR_INSTANTIATE_ELEMENTS

}  // namespace gpu
}  // namespace tf_plr
