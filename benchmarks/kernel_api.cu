// SPDX-License-Identifier: MIT
// The GPU engine behind a C interface, so that it can be timed and checked where there is no
// TensorFlow. Build: see gpu_kernel.py.
#include "cc/engine/gpu/run.h"

using namespace tf_plr;

namespace {

struct Call {
  int64_t outer, steps, inner;
  int reverse, algorithm;
  void *inputs[3], *outputs[2], *initial_carry, *final_carry, *boundary;
  void* workspace;
  size_t workspace_bytes;
  void* stream;
};

template <typename Cell, typename T>
const char* Run(const Call& call, size_t* workspace_bytes) {
  const Problem problem{call.outer, call.steps, call.inner, call.reverse != 0};
  Arrays<Cell, T> arrays{};
  for (int k = 0; k < Cell::kInputs; ++k) arrays.inputs[k] = static_cast<T*>(call.inputs[k]);
  for (int k = 0; k < Cell::kOutputs; ++k) arrays.outputs[k] = static_cast<T*>(call.outputs[k]);
  arrays.initial_carry = static_cast<T*>(call.initial_carry);
  arrays.final_carry = static_cast<T*>(call.final_carry);
  arrays.boundary = static_cast<T*>(call.boundary);
  const auto algorithm = static_cast<Algorithm>(call.algorithm);
  if (workspace_bytes != nullptr) {
    *workspace_bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
    return nullptr;
  }
  return gpu::Run(problem, arrays, algorithm, gpu::Workspace{call.workspace, call.workspace_bytes},
                  call.stream);
}

template <typename T>
const char* RunCell(int gradient, const Call& call, size_t* workspace_bytes) {
  return gradient ? Run<RecurrenceGradientCell, T>(call, workspace_bytes)
                  : Run<RecurrenceCell, T>(call, workspace_bytes);
}

}  // namespace

// Runs the call, or, if workspace_bytes is not null, only says how much workspace it needs.
// dtype: 0 float16, 1 bfloat16, 2 float32, 3 float64, 4 complex64, 5 complex128.
// Returns null or an error message.
extern "C" __attribute__((visibility("default"))) const char* tf_plr_gpu_run(
    int dtype, int gradient, const Call* call, size_t* workspace_bytes) {
  switch (dtype) {
    case 0:
      return RunCell<gpu::Half>(gradient, *call, workspace_bytes);
    case 1:
      return RunCell<gpu::BFloat16>(gradient, *call, workspace_bytes);
    case 2:
      return RunCell<float>(gradient, *call, workspace_bytes);
    case 3:
      return RunCell<double>(gradient, *call, workspace_bytes);
    case 4:
      return RunCell<Complex<float>>(gradient, *call, workspace_bytes);
    default:
      return RunCell<Complex<double>>(gradient, *call, workspace_bytes);
  }
}
