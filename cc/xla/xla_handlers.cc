// SPDX-License-Identifier: MIT
// The custom calls at run time: from XLA's buffers to the device's engine.
#include <cstdint>
#include <string>

#include "cc/kernels/recurrence_ops.h"
#include "cc/xla/platforms.h"
#include "cc/xla/recurrence_buffers.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

template <typename Op, typename Platform>
struct Handler {
  template <typename Context>
  static ffi::Error Run(Context context, int64_t outer, int64_t steps, int64_t inner,
                        int64_t reverse, int64_t algorithm, int64_t initial_states,
                        ffi::RemainingArgs args, ffi::RemainingRets rets) {
    return RunRecurrence<Op, Platform>(context, {outer, steps, inner, reverse != 0}, algorithm,
                                       initial_states != 0, args, rets);
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
                                         .template Attr<int64_t>("initial_states")
                                         .RemainingArgs()
                                         .RemainingRets()
                                         .To(&Run<Context>)
                                         .release();
    return handler->Call(call_frame);
  }

  static void Register(std::string* problems) {
    RegisterHandler(Op::kName, Platform::kName, &Call, Platform::kTraits, problems);
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
    RegisterGatedXlaHandlers(&problems);
    RegisterWindowsXlaHandlers(&problems);
    return problems;
  }();
  return problems;
}

}  // namespace tf_plr
