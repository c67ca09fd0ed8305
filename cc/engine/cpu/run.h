// SPDX-License-Identifier: MIT
// The CPU engine as plain functions, compiled in run.cc for the six data types.
#ifndef TF_PLR_ENGINE_CPU_RUN_H_
#define TF_PLR_ENGINE_CPU_RUN_H_

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace cpu {

// Runs Cell (RecurrenceCell or RecurrenceGradientCell) over `problem`. T: Eigen::half,
// Eigen::bfloat16, float, double, Complex<float> or Complex<double>.
// Returns null, or what went wrong; then nothing has been computed.
template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                const Workers& workers);

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_RUN_H_
