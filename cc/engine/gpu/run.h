// SPDX-License-Identifier: MIT
// The GPU engine as plain functions, without CUDA headers; compiled in instantiate.cu.
#ifndef TF_PLR_ENGINE_GPU_RUN_H_
#define TF_PLR_ENGINE_GPU_RUN_H_

#include <cstddef>

#include "cc/engine/cells/gated.h"
#include "cc/engine/cells/recurrence.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {
namespace gpu {

// Device memory that Run may need beside its arguments, on the current device; 0 where steps are
// not split. Of the arrays only the alignment counts: null pointers are aligned.
template <typename Cell, typename T>
size_t WorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm);

// The most that WorkspaceBytes returns for this problem, whatever the GPU and the arrays.
template <typename Cell, typename T>
size_t MostWorkspaceBytes(const Problem& problem, Algorithm algorithm);

// Aligned to 16 bytes; may hold anything.
struct Workspace {
  void* data;
  size_t bytes;
};

// Enqueues Cell over `problem` on `stream` (a cudaStream_t) of the current device. Returns null, or
// what went wrong; then nothing may have been computed.
template <typename Cell, typename T>
const char* Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm,
                Workspace workspace, void* stream);

// Device memory that Reduce needs.
template <typename Cell, typename T>
size_t ReduceWorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays);

// Enqueues what finds the transition of all steps, for each column; only the inputs that Cell::Step
// uses are read, and the others, the outputs and the carries may be null. A: in which T is
// accumulated. Returns as Run.
template <typename Cell, typename T, typename A>
const char* Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const ColumnTransitions<A>& transitions, Workspace workspace, void* stream);

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_RUN_H_
