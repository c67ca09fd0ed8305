// SPDX-License-Identifier: MIT
#include "cc/engine/cpu/run.h"

#include "cc/engine/cpu/engine.h"
#include "cc/engine/cpu/half_precision.h"

namespace tf_plr {
namespace cpu {

#define TF_PLR_INSTANTIATE_CELL(Cell, T) \
  template const char* Run(const Problem&, const Arrays<Cell, T>&, Algorithm, const Workers&);
#define TF_PLR_INSTANTIATE(T)                \
  TF_PLR_INSTANTIATE_CELL(RecurrenceCell, T) \
  TF_PLR_INSTANTIATE_CELL(RecurrenceGradientCell, T)

TF_PLR_INSTANTIATE(Eigen::half)
TF_PLR_INSTANTIATE(Eigen::bfloat16)
TF_PLR_INSTANTIATE(float)
TF_PLR_INSTANTIATE(double)
TF_PLR_INSTANTIATE(Complex<float>)
TF_PLR_INSTANTIATE(Complex<double>)

}  // namespace cpu
}  // namespace tf_plr
