// SPDX-License-Identifier: MIT
// The engines as a handler of XLA's custom calls calls them.
#ifndef TF_PLR_XLA_PLATFORMS_H_
#define TF_PLR_XLA_PLATFORMS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "Eigen/Core"
#include "cc/engine/causal_windows.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/copy_rows.h"
#include "cc/engine/cpu/run.h"
#include "cc/engine/gpu/run.h"
#include "cc/engine/held_rows.h"
#include "cc/kernels/types.h"
#include "xla/ffi/api/ffi.h"

// Null where TensorFlow does not export it, as tensorflow-cpu does not.
extern "C" __attribute__((weak)) const XLA_FFI_Api* XLA_FFI_GetApi();

namespace tf_plr {

namespace ffi = xla::ffi;

// Calls run(T{}) with the TensorFlow type of a data type; one function for the types of each list.
#define TF_PLR_RUN_WITH(T, dtype, xla) \
  case ffi::xla:                       \
    return run(T());
#define TF_PLR_DEFINE_FOR_TYPE(ForType, FOR_EACH)                                             \
  template <typename Run>                                                                     \
  ffi::Error ForType(ffi::DataType type, const Run& run) {                                    \
    switch (type) {                                                                           \
      FOR_EACH(TF_PLR_RUN_WITH)                                                               \
      default:                                                                                \
        return ffi::Error::InvalidArgument("the first operand has a dtype without a kernel"); \
    }                                                                                         \
  }
TF_PLR_DEFINE_FOR_TYPE(ForType, TF_PLR_FOR_EACH_TYPE)
TF_PLR_DEFINE_FOR_TYPE(ForGatedType, TF_PLR_FOR_EACH_GATED_TYPE)
#undef TF_PLR_DEFINE_FOR_TYPE
#undef TF_PLR_RUN_WITH

// A platform is where XLA's buffers lie. Its Context is what a handler gets beside them; of a
// recurrence's results the last kWorkspaces are not the op's.
struct Host {
  static constexpr const char* kName = "Host";
  static constexpr size_t kWorkspaces = 0;
  static constexpr XLA_FFI_Handler_Traits kTraits = 0;
  using Context = ffi::ThreadPool;
  template <typename T>
  using Element = typename CpuElementOf<T>::type;

  template <typename Cell, typename Element>
  static ffi::Error Run(ffi::ThreadPool pool, const Problem& problem,
                        const Arrays<Cell, Element>& arrays, Algorithm algorithm,
                        ffi::RemainingRets /*rets*/) {
    const char* error = cpu::Run(problem, arrays, algorithm, WorkersOf(pool));
    return error == nullptr ? ffi::Error::Success()
                            : ffi::Error(ffi::ErrorCode::kResourceExhausted, error);
  }

  static ffi::Error CopyInFront(ffi::ThreadPool pool, const CopyRows& copy) {
    cpu::Copy(copy, WorkersOf(pool));
    return ffi::Error::Success();
  }

  template <typename Element>
  static ffi::Error Sum(ffi::ThreadPool pool, const ColumnSums<Element>& sums,
                        ffi::RemainingRets /*rets*/) {
    const char* error = cpu::Sum(sums, WorkersOf(pool));
    return error == nullptr ? ffi::Error::Success()
                            : ffi::Error(ffi::ErrorCode::kResourceExhausted, error);
  }

  template <typename Element>
  static ffi::Error Hold(ffi::ThreadPool pool, const HeldRows<Element>& rows) {
    cpu::Hold(rows, WorkersOf(pool));
    return ffi::Error::Success();
  }

  template <typename Element>
  static ffi::Error SumHeld(ffi::ThreadPool pool, const HeldRows<Element>& rows) {
    const char* error = cpu::SumHeld(rows, WorkersOf(pool));
    return error == nullptr ? ffi::Error::Success()
                            : ffi::Error(ffi::ErrorCode::kResourceExhausted, error);
  }

  template <typename Element>
  static ffi::Error ToWindows(ffi::ThreadPool pool, const CausalWindows<Element>& windows) {
    cpu::ToWindows(windows, WorkersOf(pool));
    return ffi::Error::Success();
  }

  template <typename Element>
  static ffi::Error FromWindows(ffi::ThreadPool pool, const CausalWindows<Element>& windows) {
    const char* error = cpu::FromWindows(windows, WorkersOf(pool));
    return error == nullptr ? ffi::Error::Success()
                            : ffi::Error(ffi::ErrorCode::kResourceExhausted, error);
  }

  static Workers WorkersOf(ffi::ThreadPool& pool) {
    return {static_cast<int>(pool.num_threads()),
            [&pool](std::function<void()> work) { pool.Schedule(std::move(work)); }};
  }
};

#if defined(TF_PLR_CUDA)
struct Cuda {
  static constexpr const char* kName = "CUDA";
  static constexpr size_t kWorkspaces = 1;
  static constexpr XLA_FFI_Handler_Traits kTraits =
      static_cast<XLA_FFI_Handler_Traits>(ffi::Traits::kCmdBufferCompatible);
  using Context = ffi::PlatformStream<void*>;
  template <typename T>
  using Element = typename GpuElementOf<T>::type;

  template <typename Cell, typename Element>
  static ffi::Error Run(void* stream, const Problem& problem, const Arrays<Cell, Element>& arrays,
                        Algorithm algorithm, ffi::RemainingRets rets) {
    auto workspace = rets.get<ffi::AnyBuffer>(rets.size() - 1);
    if (workspace.has_error()) return workspace.error();
    const char* error =
        gpu::Run(problem, arrays, algorithm,
                 gpu::Workspace{(*workspace)->untyped_data(), (*workspace)->size_bytes()}, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  // In the same workspace: what has run before on the stream needs it no more.
  template <typename Element>
  static ffi::Error Sum(void* stream, const ColumnSums<Element>& sums, ffi::RemainingRets rets) {
    auto workspace = rets.get<ffi::AnyBuffer>(rets.size() - 1);
    if (workspace.has_error()) return workspace.error();
    if ((*workspace)->size_bytes() < sums.workspace_bytes()) {
      return ffi::Error::InvalidArgument("the workspace is too small");
    }
    const char* error = gpu::Sum(sums, (*workspace)->untyped_data(), stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  template <typename Element>
  static ffi::Error Hold(void* stream, const HeldRows<Element>& rows) {
    const char* error = gpu::Hold(rows, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  template <typename Element>
  static ffi::Error SumHeld(void* stream, const HeldRows<Element>& rows) {
    const char* error = gpu::SumHeld(rows, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  template <typename Element>
  static ffi::Error ToWindows(void* stream, const CausalWindows<Element>& windows) {
    const char* error = gpu::ToWindows(windows, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  template <typename Element>
  static ffi::Error FromWindows(void* stream, const CausalWindows<Element>& windows) {
    const char* error = gpu::FromWindows(windows, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }

  static ffi::Error CopyInFront(void* stream, const CopyRows& copy) {
    const char* error = gpu::Copy(copy, stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }
};
#endif

// Registers a handler under a name; *problems becomes what went wrong, first: others will, too.
inline void RegisterHandler(const char* name, const char* platform, XLA_FFI_Handler* call,
                            XLA_FFI_Handler_Traits traits, std::string* problems) {
  if (!problems->empty()) return;
  if (XLA_FFI_GetApi == nullptr) {
    *problems =
        "this TensorFlow does not export XLA's interface for custom calls, XLA_FFI_GetApi, which "
        "tf_plr needs under XLA. The package tensorflow does, tensorflow-cpu does not: install "
        "tensorflow, or leave jit_compile off";
    return;
  }
  const XLA_FFI_Api* api = XLA_FFI_GetApi();
  XLA_FFI_Error* error = ffi::Ffi::RegisterStaticHandler(api, name, platform, call, traits);
  if (error == nullptr) return;
  *problems = ffi::internal::GetErrorMessage(api, error);
  ffi::internal::DestroyError(api, error);
}

}  // namespace tf_plr

#endif  // TF_PLR_XLA_PLATFORMS_H_
