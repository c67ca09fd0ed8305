// SPDX-License-Identifier: MIT
// The engines as an OpKernel calls them.
#ifndef TF_PLR_KERNELS_DEVICES_H_
#define TF_PLR_KERNELS_DEVICES_H_

#include <functional>
#include <utility>

#include "cc/engine/causal_windows.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/copy_rows.h"
#include "cc/engine/cpu/run.h"
#include "cc/engine/gpu/run.h"
#include "cc/engine/held_rows.h"
#include "cc/kernels/types.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#if defined(TF_PLR_CUDA)
#include "tensorflow/core/platform/stream_executor.h"
#endif

namespace tf_plr {

// What a tensor holds, as an engine names its elements.
template <typename Element>
Element* DataOf(const tensorflow::Tensor& tensor) {
  return reinterpret_cast<Element*>(const_cast<char*>(tensor.tensor_data().data()));
}

// A device says how its engine names TensorFlow's T, and runs it.
struct Cpu {
  template <typename T>
  using Element = typename CpuElementOf<T>::type;

  template <typename Cell, typename Element>
  static absl::Status Run(tensorflow::OpKernelContext* context, const Problem& problem,
                          const Arrays<Cell, Element>& arrays, Algorithm algorithm) {
    const char* error = cpu::Run(problem, arrays, algorithm, WorkersOf(context));
    return error == nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(error);
  }

  template <typename Cell, typename Element, typename A>
  static absl::Status Reduce(tensorflow::OpKernelContext* context, const Problem& problem,
                             const Arrays<Cell, Element>& arrays,
                             const ColumnTransitions<A>& transitions) {
    const char* error = cpu::Reduce(problem, arrays, transitions, WorkersOf(context));
    return error == nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(error);
  }

  static absl::Status CopyInFront(tensorflow::OpKernelContext* context, const CopyRows& copy) {
    cpu::Copy(copy, WorkersOf(context));
    return absl::OkStatus();
  }

  template <typename Element>
  static absl::Status Sum(tensorflow::OpKernelContext* context, const ColumnSums<Element>& sums) {
    const char* error = cpu::Sum(sums, WorkersOf(context));
    return error == nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(error);
  }

  template <typename Element>
  static absl::Status Hold(tensorflow::OpKernelContext* context, const HeldRows<Element>& rows) {
    cpu::Hold(rows, WorkersOf(context));
    return absl::OkStatus();
  }

  template <typename Element>
  static absl::Status SumHeld(tensorflow::OpKernelContext* context, const HeldRows<Element>& rows) {
    const char* error = cpu::SumHeld(rows, WorkersOf(context));
    return error == nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(error);
  }

  template <typename Element>
  static absl::Status ToWindows(tensorflow::OpKernelContext* context,
                                const CausalWindows<Element>& windows) {
    cpu::ToWindows(windows, WorkersOf(context));
    return absl::OkStatus();
  }

  template <typename Element>
  static absl::Status FromWindows(tensorflow::OpKernelContext* context,
                                  const CausalWindows<Element>& windows) {
    const char* error = cpu::FromWindows(windows, WorkersOf(context));
    return error == nullptr ? absl::OkStatus() : absl::ResourceExhaustedError(error);
  }

  static Workers WorkersOf(tensorflow::OpKernelContext* context) {
    auto* pool = context->device()->tensorflow_cpu_worker_threads()->workers;
    return {pool->NumThreads(),
            [pool](std::function<void()> work) { pool->Schedule(std::move(work)); }};
  }
};

#if defined(TF_PLR_CUDA)
struct Gpu {
  template <typename T>
  using Element = typename GpuElementOf<T>::type;

  template <typename Cell, typename Element>
  static absl::Status Run(tensorflow::OpKernelContext* context, const Problem& problem,
                          const Arrays<Cell, Element>& arrays, Algorithm algorithm) {
    const size_t bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
    tensorflow::Tensor workspace;
    if (bytes > 0) {
      TF_RETURN_IF_ERROR(context->allocate_temp(
          tensorflow::DT_INT8, tensorflow::TensorShape({static_cast<int64_t>(bytes)}), &workspace));
    }
    void* const data = bytes > 0 ? workspace.data() : nullptr;
    const char* error =
        gpu::Run(problem, arrays, algorithm, gpu::Workspace{data, bytes}, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Cell, typename Element, typename A>
  static absl::Status Reduce(tensorflow::OpKernelContext* context, const Problem& problem,
                             const Arrays<Cell, Element>& arrays,
                             const ColumnTransitions<A>& transitions) {
    const size_t bytes = gpu::ReduceWorkspaceBytes(problem, arrays);
    tensorflow::Tensor workspace;
    TF_RETURN_IF_ERROR(context->allocate_temp(
        tensorflow::DT_INT8, tensorflow::TensorShape({static_cast<int64_t>(bytes)}), &workspace));
    const char* error = gpu::Reduce(problem, arrays, transitions,
                                    gpu::Workspace{workspace.data(), bytes}, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  static absl::Status CopyInFront(tensorflow::OpKernelContext* context, const CopyRows& copy) {
    const char* error = gpu::Copy(copy, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Element>
  static absl::Status Sum(tensorflow::OpKernelContext* context, const ColumnSums<Element>& sums) {
    tensorflow::Tensor workspace;
    TF_RETURN_IF_ERROR(context->allocate_temp(
        tensorflow::DT_INT8,
        tensorflow::TensorShape({static_cast<int64_t>(sums.workspace_bytes())}), &workspace));
    const char* error = gpu::Sum(sums, workspace.data(), StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Element>
  static absl::Status Hold(tensorflow::OpKernelContext* context, const HeldRows<Element>& rows) {
    const char* error = gpu::Hold(rows, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Element>
  static absl::Status SumHeld(tensorflow::OpKernelContext* context, const HeldRows<Element>& rows) {
    const char* error = gpu::SumHeld(rows, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Element>
  static absl::Status ToWindows(tensorflow::OpKernelContext* context,
                                const CausalWindows<Element>& windows) {
    const char* error = gpu::ToWindows(windows, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  template <typename Element>
  static absl::Status FromWindows(tensorflow::OpKernelContext* context,
                                  const CausalWindows<Element>& windows) {
    const char* error = gpu::FromWindows(windows, StreamOf(context));
    return error == nullptr ? absl::OkStatus() : absl::InternalError(error);
  }

  static void* StreamOf(tensorflow::OpKernelContext* context) {
    return context->op_device_context()->stream()->platform_specific_handle().stream;
  }
};
#endif

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_DEVICES_H_
