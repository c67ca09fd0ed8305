// SPDX-License-Identifier: MIT
// The custom calls at run time: from XLA's buffers to the device's engine.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Core"
#include "cc/engine/cpu/run.h"
#include "cc/kernels/native_ops.h"
#include "cc/xla/xla_calls.h"
#include "xla/ffi/api/ffi.h"

extern "C" const XLA_FFI_Api* XLA_FFI_GetApi();

namespace tf_plr {
namespace {

namespace ffi = xla::ffi;

// Calls run(T{}) with the TensorFlow type of a data type.
template <typename Run>
ffi::Error ForType(ffi::DataType type, const Run& run) {
  switch (type) {
#define TF_PLR_RUN_WITH(T, dtype, xla) \
  case ffi::xla:                       \
    return run(T());
    TF_PLR_FOR_EACH_TYPE(TF_PLR_RUN_WITH)
    default:
      return ffi::Error::InvalidArgument("decays has a dtype without a kernel");
  }
}

// Binds the op's buffers: all arguments, and the results but the last `not_the_ops`. Only a call
// that somebody wrote by hand can fail.
template <typename Op, typename Element>
ffi::ErrorOr<Arrays<typename Op::Cell, Element>> BindBuffers(const Problem& problem,
                                                             ffi::DataType type,
                                                             ffi::RemainingArgs args,
                                                             ffi::RemainingRets rets,
                                                             size_t not_the_ops) {
  constexpr size_t kStepInputs = std::size(Op::kStepInputs);
  const size_t initial_states = args.size() - kStepInputs;
  const size_t returned = Op::kReturnsFinalCarry ? initial_states : 0;
  if (initial_states > 1 || rets.size() != Op::kStepOutputs + returned + not_the_ops) {
    return ffi::Unexpected(ffi::Error::InvalidArgument("wrong number of operands or results"));
  }
  std::vector<Element*> inputs, outputs;
  // Step arrays come first, then those of columns.
  const auto take = [&](auto buffer, size_t step_arrays, std::vector<Element*>* elements) {
    const int64_t size = elements->size() < step_arrays ? problem.size() : problem.columns();
    if (buffer.element_type() != type || int64_t(buffer.element_count()) < size) return false;
    elements->push_back(static_cast<Element*>(buffer.untyped_data()));
    return true;
  };
  bool fits = true;
  for (size_t i = 0; i < args.size() && fits; ++i) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return ffi::Unexpected(buffer.error());
    fits = take(*buffer, kStepInputs, &inputs);
  }
  for (size_t i = 0; i + not_the_ops < rets.size() && fits; ++i) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return ffi::Unexpected(buffer.error());
    fits = take(**buffer, Op::kStepOutputs, &outputs);
  }
  if (!fits) {
    return ffi::Unexpected(
        ffi::Error::InvalidArgument("an operand or result has another dtype, or too few elements"));
  }
  return Op::Bind(inputs, outputs);
}

// A platform is where XLA's buffers lie. Its Context is what a handler gets beside them, and of
// the results the last kWorkspaces are not the op's.
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
    const Workers workers = {
        static_cast<int>(pool.num_threads()),
        [&pool](std::function<void()> work) { pool.Schedule(std::move(work)); }};
    const char* error = cpu::Run(problem, arrays, algorithm, workers);
    return error == nullptr ? ffi::Error::Success()
                            : ffi::Error(ffi::ErrorCode::kResourceExhausted, error);
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
};
#endif

template <typename Op, typename Platform>
struct Handler {
  template <typename Context>
  static ffi::Error Run(Context context, int64_t outer, int64_t steps, int64_t inner,
                        int64_t reverse, int64_t algorithm, ffi::RemainingArgs args,
                        ffi::RemainingRets rets) {
    auto decays = args.get<ffi::AnyBuffer>(0);
    if (decays.has_error()) return decays.error();
    const Problem problem{outer, steps, inner, reverse != 0};
    int64_t columns, size;
    if (std::min({outer, steps, inner}) < 0 || __builtin_mul_overflow(outer, inner, &columns) ||
        __builtin_mul_overflow(columns, steps, &size) || algorithm < 0 ||
        algorithm > static_cast<int64_t>(Algorithm::kSerial)) {
      return ffi::Error::InvalidArgument("an attribute is out of range");
    }
    return ForType(decays->element_type(), [&](auto type) {
      using Element = typename Platform::template Element<decltype(type)>;
      auto arrays = BindBuffers<Op, Element>(problem, decays->element_type(), args, rets,
                                             Platform::kWorkspaces);
      if (arrays.has_error()) return arrays.error();
      return Platform::Run(context, problem, *arrays, static_cast<Algorithm>(algorithm), rets);
    });
  }

  static XLA_FFI_Error* Call(XLA_FFI_CallFrame* call_frame) {
    using Context = typename ffi::CtxDecoding<typename Platform::Context>::Type;
    static const ffi::Ffi* handler = ffi::Ffi::Bind()
                                         .Ctx<typename Platform::Context>()
                                         .template Attr<int64_t>("outer")
                                         .template Attr<int64_t>("steps")
                                         .template Attr<int64_t>("inner")
                                         .template Attr<int64_t>("reverse")
                                         .template Attr<int64_t>("algorithm")
                                         .RemainingArgs()
                                         .RemainingRets()
                                         .To(&Run<Context>)
                                         .release();
    return handler->Call(call_frame);
  }

  // Appends to *problems what went wrong.
  static void Register(std::string* problems) {
    const XLA_FFI_Api* api = XLA_FFI_GetApi();
    XLA_FFI_Error* error =
        ffi::Ffi::RegisterStaticHandler(api, Op::kName, Platform::kName, &Call, Platform::kTraits);
    if (error == nullptr) return;
    *problems += ffi::internal::GetErrorMessage(api, error);
    ffi::internal::DestroyError(api, error);
  }
};

}  // namespace

const std::string& RegisterXlaHandlers() {
  static const std::string problems = [] {
    std::string problems;
    Handler<LinearRecurrence, Host>::Register(&problems);
    Handler<LinearRecurrenceGrad, Host>::Register(&problems);
#if defined(TF_PLR_CUDA)
    Handler<LinearRecurrence, Cuda>::Register(&problems);
    Handler<LinearRecurrenceGrad, Cuda>::Register(&problems);
#endif
    return problems;
  }();
  return problems;
}

}  // namespace tf_plr
