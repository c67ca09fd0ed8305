// SPDX-License-Identifier: MIT
// The CPU engine as plain functions, compiled in instantiate.cc.
#ifndef TF_PLR_ENGINE_CPU_RUN_H_
#define TF_PLR_ENGINE_CPU_RUN_H_

#include "cc/engine/cells/gated.h"
#include "cc/engine/cells/recurrence.h"
#include "cc/engine/cpu/workers.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {
namespace cpu {

// Runs Cell over `problem`. T is the element type of a data type in types.h: of any data type for
// RecurrenceCell and RecurrenceGradientCell, of a gated one for the cells of cells/gated.h. Returns
// null, or a message that says what went wrong; in that case, nothing has been computed.
template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                const Workers& workers);

// Computes the transition of all steps for each column. Reads only the inputs that Cell::Step uses;
// the other inputs, the outputs and the carries may be null. A is the accumulator of T. The
// result is as in Run.
template <typename Cell, typename T, typename A>
const char* Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const ColumnTransitions<A>& transitions, const Workers& workers);

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_RUN_H_
