// SPDX-License-Identifier: MIT
#include "cc/engine/gpu_recurrence.cuh"

namespace tf_plr {
namespace gpu {

TF_PLR_INSTANTIATE(float)
TF_PLR_INSTANTIATE(double)

}  // namespace gpu
}  // namespace tf_plr
