// SPDX-License-Identifier: MIT
// The GPU engine behind a C interface, so that it can be timed and checked where there is no
// TensorFlow. Build: see gpu_kernel.py.
#include <cstring>

#include "cc/engine/broadcast_gradient.h"
#include "cc/engine/gpu/run.h"
#include "cc/engine/layer_normalization.h"

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

// Sets what is alike for all cells, and runs; or only says how much workspace that needs.
template <typename Cell, typename T>
const char* Run(const Call& call, Arrays<Cell, T> arrays, size_t* workspace_bytes) {
  using Column = typename Arrays<Cell, T>::Column;
  const Problem problem{call.outer, call.steps, call.inner, call.reverse != 0};
  arrays.initial_carry = static_cast<Column*>(call.initial_carry);
  arrays.final_carry = static_cast<Column*>(call.final_carry);
  arrays.boundary = static_cast<T*>(call.boundary);
  const auto algorithm = static_cast<Algorithm>(call.algorithm);
  if (workspace_bytes != nullptr) {
    *workspace_bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
    return nullptr;
  }
  return gpu::Run(problem, arrays, algorithm, gpu::Workspace{call.workspace, call.workspace_bytes},
                  call.stream);
}

template <typename Cell, typename T>
const char* RunPlain(const Call& call, size_t* workspace_bytes) {
  Arrays<Cell, T> arrays{};
  for (int k = 0; k < Cell::kInputs; ++k) arrays.inputs[k] = static_cast<T*>(call.inputs[k]);
  for (int k = 0; k < Cell::kOutputs; ++k) arrays.outputs[k] = static_cast<T*>(call.outputs[k]);
  return Run(call, arrays, workspace_bytes);
}

template <typename T>
const char* RunCell(int gradient, const Call& call, size_t* workspace_bytes) {
  return gradient ? RunPlain<RecurrenceGradientCell, T>(call, workspace_bytes)
                  : RunPlain<RecurrenceCell, T>(call, workspace_bytes);
}

// Which axes decays have; on the others they are broadcast.
struct DecayAxes {
  bool outer, steps, inner;

  BroadcastIndex IndexIn(const Call& call) const {
    const int64_t row = inner ? call.inner : 1;
    BroadcastIndex index{};
    index.inner = {1, {call.inner}, {inner ? 1 : 0}};
    index.step_stride = steps ? row : 0;
    index.outer = {1, {call.outer}, {outer ? (steps ? call.steps : 1) * row : 0}};
    return index;
  }
};

template <typename Cell, typename T>
const char* RunBroadcast(const Call& call, const DecayAxes& axes, size_t* workspace_bytes) {
  Arrays<Cell, T> arrays{};
  for (int k = 0; k < Cell::kInputs; ++k) arrays.inputs[k] = static_cast<T*>(call.inputs[k]);
  arrays.outputs[0] = static_cast<T*>(call.outputs[0]);
  arrays.broadcast = axes.IndexIn(call);
  return Run(call, arrays, workspace_bytes);
}

// Inputs are states and d_impulses; the output is d_decays; there is no initial state.
template <typename T>
const char* SumOverBroadcast(const Call& call, const DecayAxes& axes, size_t* workspace_bytes) {
  BroadcastGradient<T> gradient{};
  gradient.problem = {call.outer, call.steps, call.inner, call.reverse != 0};
  gradient.axes.Append(call.outer, !axes.outer);
  gradient.axes.Append(call.steps, !axes.steps);
  gradient.axes.Append(call.inner, !axes.inner);
  gradient.states = static_cast<T*>(call.inputs[0]);
  gradient.d_impulses = static_cast<T*>(call.inputs[1]);
  gradient.d_decays = static_cast<T*>(call.outputs[0]);
  if (workspace_bytes != nullptr) {
    *workspace_bytes = gradient.workspace_size() * sizeof(float);
    return nullptr;
  }
  return gpu::Differentiate(gradient, call.workspace, call.stream);
}

enum BroadcastPass { kStates, kDImpulses, kDDecays };

template <typename T>
const char* RunBroadcastPass(int pass, const Call& call, const DecayAxes& axes, size_t* bytes) {
  switch (pass) {
    case kStates:
      return RunBroadcast<BroadcastRecurrenceCell, T>(call, axes, bytes);
    case kDImpulses:
      return RunBroadcast<BroadcastImpulseGradientCell, T>(call, axes, bytes);
    default:
      return SumOverBroadcast<T>(call, axes, bytes);
  }
}

// Pointers and strides in the order of the cell's inputs and outputs.
struct GatedCall {
  Call call;
  void *inputs[8], *outputs[6];
  int64_t input_strides[8], output_strides[6];
  float* biases[8];
  bool *mask, *resets;                     // Or null.
  int activation, state_activation, gate;  // Numbered as in cells/activations.h.
};

template <typename Cell, typename T>
const char* RunGated(const GatedCall& gated, size_t* workspace_bytes) {
  static_assert(Cell::kInputs <= 8 && Cell::kOutputs <= 6);
  Arrays<Cell, T> arrays{};
  memcpy(arrays.inputs, gated.inputs, sizeof(arrays.inputs));
  memcpy(arrays.outputs, gated.outputs, sizeof(arrays.outputs));
  memcpy(arrays.gated.input_strides, gated.input_strides, sizeof(arrays.gated.input_strides));
  memcpy(arrays.gated.output_strides, gated.output_strides, sizeof(arrays.gated.output_strides));
  memcpy(arrays.gated.biases, gated.biases, sizeof(arrays.gated.biases));
  arrays.flags = {gated.mask, gated.resets};
  if constexpr (!Cell::Functions::kFixed) {
    arrays.gated.functions = {static_cast<Activation>(gated.activation),
                              static_cast<Activation>(gated.state_activation),
                              static_cast<GateFunction>(gated.gate)};
  }
  return Run(gated.call, arrays, workspace_bytes);
}

template <typename T>
const char* RunGatedCell(int cell, int gradient, const GatedCall& call, size_t* workspace_bytes) {
  int i = 0;
#define TF_PLR_RUN(T_, Name, ...)                                            \
  if (cell == i++) {                                                         \
    return gradient ? RunGated<Name##GradientCell, T>(call, workspace_bytes) \
                    : RunGated<Name##Cell, T>(call, workspace_bytes);        \
  }
  TF_PLR_FOR_EACH_FIXED_CELL(TF_PLR_RUN, )
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_RUN, )
  return "no such cell";
}

// pointers: the arrays of LayerNormalization, or those of its gradient, in their order.
template <typename T>
const char* RunNormalization(int gradient, int64_t rows, int64_t width, void* const* pointers,
                             void* stream) {
  const auto elements = [&](int i) { return static_cast<T*>(pointers[i]); };
  const auto floats = [&](int i) { return static_cast<float*>(pointers[i]); };
  if (gradient) {
    return gpu::DifferentiateNormalization(
        LayerNormalizationGradient<T>{elements(0), elements(1), floats(2), floats(3), rows, width,
                                      elements(4), floats(5), floats(6)},
        stream);
  }
  return gpu::Normalize(LayerNormalization<T>{elements(0), floats(1), floats(2), rows, width, 1e-3f,
                                              elements(3), floats(4)},
                        stream);
}

// The rivals of table 1: each column on a thread of its own, as others' serial kernels have it.
// Told that arrays do not overlap, the compiler loads some steps ahead.
__global__ void OneThreadAColumn(const float* decays, const float* impulses, float* states,
                                 int64_t steps, int64_t columns) {
  const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  float state = 0;
  for (int64_t i = column; i < steps * columns; i += columns) {
    state = decays[i] * state + impulses[i];
    states[i] = state;
  }
}

__global__ void OneThreadAColumnAhead(const float* __restrict__ decays,
                                      const float* __restrict__ impulses,
                                      float* __restrict__ states, int64_t steps, int64_t columns) {
  const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  float state = 0;
#pragma unroll 8
  for (int64_t i = column; i < steps * columns; i += columns) {
    state = decays[i] * state + impulses[i];
    states[i] = state;
  }
}

}  // namespace

// As tf_plr_gpu_run, for decays that are broadcast, in bfloat16 (1) or float32 (2).
extern "C" __attribute__((visibility("default"))) const char* tf_plr_gpu_run_broadcast(
    int dtype, int pass, const Call* call, const DecayAxes* axes, size_t* workspace_bytes) {
  return dtype == 1 ? RunBroadcastPass<gpu::BFloat16>(pass, *call, *axes, workspace_bytes)
                    : RunBroadcastPass<float>(pass, *call, *axes, workspace_bytes);
}

// Of a call with one outer slice, in float32.
extern "C" __attribute__((visibility("default"))) const char* tf_plr_gpu_one_thread_a_column(
    const Call* call, bool ahead) {
  constexpr int kThreads = 32;
  const auto blocks = static_cast<unsigned>((call->inner + kThreads - 1) / kThreads);
  const auto kernel = ahead ? OneThreadAColumnAhead : OneThreadAColumn;
  kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(call->stream)>>>(
      static_cast<float*>(call->inputs[0]), static_cast<float*>(call->inputs[1]),
      static_cast<float*>(call->outputs[0]), call->steps, call->inner);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

extern "C" __attribute__((visibility("default"))) const char* tf_plr_gpu_normalize(
    int dtype, int gradient, int64_t rows, int64_t width, void* const* pointers, void* stream) {
  switch (dtype) {
    case 0:
      return RunNormalization<gpu::Half>(gradient, rows, width, pointers, stream);
    case 1:
      return RunNormalization<gpu::BFloat16>(gradient, rows, width, pointers, stream);
    default:
      return RunNormalization<float>(gradient, rows, width, pointers, stream);
  }
}

// As tf_plr_gpu_run, for the gated cells of cells/gated.h: those of fixed functions, then the
// others.
extern "C" __attribute__((visibility("default"))) const char* tf_plr_gpu_run_gated(
    int dtype, int cell, int gradient, const GatedCall* call, size_t* workspace_bytes) {
  switch (dtype) {
    case 0:
      return RunGatedCell<gpu::Half>(cell, gradient, *call, workspace_bytes);
    case 1:
      return RunGatedCell<gpu::BFloat16>(cell, gradient, *call, workspace_bytes);
    default:
      return RunGatedCell<float>(cell, gradient, *call, workspace_bytes);
  }
}

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
