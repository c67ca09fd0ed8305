// SPDX-License-Identifier: MIT
// The GPU engine as plain functions, without CUDA headers; compiled in instantiate.cu.
#ifndef TF_PLR_ENGINE_GPU_RUN_H_
#define TF_PLR_ENGINE_GPU_RUN_H_

#include <cstddef>
#include <cstdint>

#include "cc/engine/cells/gated.h"
#include "cc/engine/cells/recurrence.h"
#include "cc/engine/problem.h"
#include "cc/engine/types.h"

namespace tf_plr {
namespace gpu {

// Bytes of device memory that Run may need besides its arguments, on the current device; 0 if steps
// are not split. Only the alignment of the arrays matters; a null pointer counts as aligned.
template <typename Cell, typename T>
size_t WorkspaceBytes(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm);

// The most that WorkspaceBytes returns for this problem, whatever the GPU and the arrays.
// d_bias_width: as in the arrays of a gated gradient; 0: the gradients of biases are not wanted.
template <typename Cell, typename T>
size_t MaxWorkspaceBytes(const Problem& problem, Algorithm algorithm, int64_t d_bias_width = 0);

// Aligned to 16 bytes; its contents do not matter.
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

// Enqueues the reduction of all steps to one transition for each column. Reads only the inputs that
// Cell::Step uses; the other inputs, the outputs and the carries may be null. A is the accumulator
// of T. Returns as Run does.
template <typename Cell, typename T, typename A>
const char* Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                   const ColumnTransitions<A>& transitions, Workspace workspace, void* stream);

}  // namespace gpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_GPU_RUN_H_
