// SPDX-License-Identifier: MIT
#include "cc/engine/gpu/run.cuh"

namespace tf_plr {
namespace gpu {

TF_PLR_INSTANTIATE(float)
TF_PLR_INSTANTIATE(double)

}  // namespace gpu
}  // namespace tf_plr
