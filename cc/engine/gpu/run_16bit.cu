// SPDX-License-Identifier: MIT
#include "cc/engine/gpu/run.cuh"

namespace tf_plr {
namespace gpu {

TF_PLR_INSTANTIATE(Half)
TF_PLR_INSTANTIATE(BFloat16)

}  // namespace gpu
}  // namespace tf_plr
