// SPDX-License-Identifier: MIT
// Gives the CPU engine and the GPU engine the same interface, for calls.
#ifndef TF_PLR_CALLS_BACKEND_H_
#define TF_PLR_CALLS_BACKEND_H_

#include <type_traits>

#include "cc/calls/call.h"
#include "cc/engine/broadcast_gradient.h"
#include "cc/engine/causal_windows.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/copy_rows.h"
#include "cc/engine/cpu/run.h"
#include "cc/engine/gpu/run.h"
#include "cc/engine/held_rows.h"
#include "cc/engine/layer_normalization.h"
#include "cc/engine/widen.h"

namespace tf_plr {

// Defines passes over rows that need no scratch.
#define TF_PLR_PASS(engine, queue, Pass)     \
  template <typename Rows>                   \
  Status Pass(const Rows& rows) const {      \
    return Check(engine::Pass(rows, queue)); \
  }
#define TF_PLR_PASSES(engine, queue)      \
  TF_PLR_PASS(engine, queue, Copy)        \
  TF_PLR_PASS(engine, queue, SumHeld)     \
  TF_PLR_PASS(engine, queue, ToWindows)   \
  TF_PLR_PASS(engine, queue, FromWindows) \
  TF_PLR_PASS(engine, queue, Normalize)   \
  TF_PLR_PASS(engine, queue, DifferentiateNormalization)

struct Cpu {
  static constexpr bool kHasFixedCells = false;
  static constexpr bool kSumsGradients = false;  // Whether Run sums the gradients of biases.
  static constexpr bool kHasAllFlags = true;     // Whether all kernels take flags in 16 bits, too.

  const Workers& workers;
  const Scratch& scratch;

  template <DType kType>
  using Element = typename cpu::ElementOf<kType>::Type;

  template <typename Cell, typename T>
  Status Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) const {
    return Check(cpu::Run(problem, arrays, algorithm, workers));
  }
  template <typename Cell, typename T, typename A>
  Status Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                const ColumnTransitions<A>& transitions) const {
    return Check(cpu::Reduce(problem, arrays, transitions, workers));
  }
  template <typename T>
  Status Sum(const ColumnSums<T>& sums) const {
    return Check(cpu::Sum(sums, workers));
  }
  template <typename T>
  Status Differentiate(const BroadcastGradient<T>& gradient, void* workspace) const {
    return Check(cpu::Differentiate(gradient, workspace, workers));
  }
  TF_PLR_PASSES(cpu, workers)
  TF_PLR_PASS(cpu, workers, Hold)

 private:
  static Status Check(const char* error) {
    return error == nullptr ? Status{} : Status{Status::kResourceExhausted, error};
  }
};

#if defined(TF_PLR_CUDA)
struct Gpu {
  static constexpr bool kHasFixedCells = true;
  static constexpr bool kSumsGradients = true;
  static constexpr bool kHasAllFlags = false;

  void* stream;
  const Scratch& scratch;

  template <DType kType>
  using Element = typename gpu::ElementOf<kType>::Type;

  template <typename Cell, typename T>
  Status Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) const {
    gpu::Workspace workspace;
    TF_PLR_RETURN_IF_ERROR(Allocate(gpu::WorkspaceBytes(problem, arrays, algorithm), &workspace));
    return Check(gpu::Run(problem, arrays, algorithm, workspace, stream));
  }
  template <typename Cell, typename T, typename A>
  Status Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                const ColumnTransitions<A>& transitions) const {
    gpu::Workspace workspace;
    TF_PLR_RETURN_IF_ERROR(Allocate(gpu::ReduceWorkspaceBytes(problem, arrays), &workspace));
    return Check(gpu::Reduce(problem, arrays, transitions, workspace, stream));
  }
  template <typename T>
  Status Sum(const ColumnSums<T>& sums) const {
    gpu::Workspace workspace;
    TF_PLR_RETURN_IF_ERROR(Allocate(sums.workspace_bytes(), &workspace));
    return Check(gpu::Sum(sums, workspace.data, stream));
  }
  template <typename T>
  Status Hold(const HeldRows<T>& rows) const {
    gpu::Workspace workspace;
    TF_PLR_RETURN_IF_ERROR(Allocate(gpu::HoldWorkspaceBytes(rows), &workspace));
    return Check(gpu::Hold(rows, workspace.data, stream));
  }
  template <typename T>
  Status Differentiate(const BroadcastGradient<T>& gradient, void* workspace) const {
    return Check(gpu::Differentiate(gradient, workspace, stream));
  }
  // `narrow` is of 16 bits, `wide` of floats.
  template <typename T>
  Status Widen(const Buffer& narrow, const Buffer& wide) const {
    return Check(gpu::Widen(static_cast<const T*>(narrow.data), static_cast<float*>(wide.data),
                            narrow.size(), stream));
  }
  template <typename T>
  Status Narrow(const Buffer& wide, const Buffer& narrow) const {
    return Check(gpu::Narrow(static_cast<const float*>(wide.data), static_cast<T*>(narrow.data),
                             narrow.size(), stream));
  }
  TF_PLR_PASSES(gpu, stream)

 private:
  Status Allocate(size_t bytes, gpu::Workspace* workspace) const {
    workspace->bytes = bytes;
    return TakeScratch(scratch, bytes, -1, &workspace->data);
  }
  static Status Check(const char* error) {
    return error == nullptr ? Status{} : Status{Status::kInternal, error};
  }
};
#endif

#undef TF_PLR_PASSES
#undef TF_PLR_PASS

// The most bytes of workspace that a cell needs on any GPU.
template <typename Cell, DType kType>
size_t MaxWorkspaceBytes([[maybe_unused]] const Problem& problem,
                         [[maybe_unused]] Algorithm algorithm,
                         [[maybe_unused]] int64_t d_bias_width = 0) {
#if defined(TF_PLR_CUDA)
  return gpu::MaxWorkspaceBytes<Cell, Gpu::Element<kType>>(problem, algorithm, d_bias_width);
#else
  return 0;
#endif
}

// ForType and ForGatedType call run(type), where decltype(type)::value is the data type as a
// constant. Call::Plan has already checked that the data type is in the list.
#define TF_PLR_CASE(type, ...) \
  case DType::type:            \
    return run(std::integral_constant<DType, DType::type>());
#define TF_PLR_DEFINE_SWITCH(Function, FOR_EACH) \
  template <typename Run>                        \
  auto Function(DType type, const Run& run) {    \
    switch (type) {                              \
      FOR_EACH(TF_PLR_CASE)                      \
      default:                                   \
        __builtin_unreachable();                 \
    }                                            \
  }
TF_PLR_DEFINE_SWITCH(ForType, TF_PLR_FOR_EACH_TYPE)
TF_PLR_DEFINE_SWITCH(ForGatedType, TF_PLR_FOR_EACH_GATED_TYPE)
#undef TF_PLR_DEFINE_SWITCH
#undef TF_PLR_CASE

// The base class of calls whose template Run<Backend> runs on either engine.
template <typename Derived>
class CallOnBoth : public Call {
 public:
  Status RunOnCpu(const Buffers& inputs, const Buffers& outputs, const Scratch& scratch,
                  const Workers& workers) const override {
    return static_cast<const Derived*>(this)->Run(Cpu{workers, scratch}, inputs, outputs);
  }
#if defined(TF_PLR_CUDA)
  Status RunOnGpu(const Buffers& inputs, const Buffers& outputs, const Scratch& scratch,
                  void* stream) const override {
    return static_cast<const Derived*>(this)->Run(Gpu{stream, scratch}, inputs, outputs);
  }
#endif
};

// The data of a buffer, as elements of type T.
template <typename T>
T* Data(const Buffer& buffer) {
  return static_cast<T*>(buffer.data);
}
// Null if there is no buffer.
template <typename T>
T* DataOf(const Buffer* buffer) {
  return buffer == nullptr ? nullptr : Data<T>(*buffer);
}

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_BACKEND_H_
