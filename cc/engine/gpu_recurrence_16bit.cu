// SPDX-License-Identifier: MIT
#include "cc/engine/gpu_recurrence.cuh"

namespace tf_plr {
namespace gpu {

TF_PLR_INSTANTIATE(Half)
TF_PLR_INSTANTIATE(BFloat16)

}  // namespace gpu
}  // namespace tf_plr
