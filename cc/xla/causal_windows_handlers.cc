// SPDX-License-Identifier: MIT
// The custom calls of CausalWindows and its gradient at run time.
#include <cstdint>
#include <string>
#include <vector>

#include "cc/kernels/causal_windows.h"
#include "cc/xla/buffers.h"
#include "cc/xla/platforms.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

// Whether the number of elements of every array fits in an int64.
bool IsPossible(const WindowsCall& call) {
  int64_t rows, elements;
  return call.batch >= 0 && call.steps >= 0 && call.size >= 2 && call.Fits() &&
         !__builtin_add_overflow(call.steps, call.size, &rows) &&
         !__builtin_mul_overflow(rows, call.batch, &rows) &&
         !__builtin_mul_overflow(rows, call.size * call.width, &elements);
}

template <typename Op, typename Platform>
struct WindowsHandler {
  template <typename Context>
  static ffi::Error Run(Context context, int64_t batch, int64_t steps, int64_t width, int64_t size,
                        int64_t has_mask, ffi::RemainingArgs args, ffi::RemainingRets rets) {
    const WindowsCall call{size, has_mask != 0, batch, steps, width};
    if (!IsPossible(call)) return ffi::Error::InvalidArgument("an attribute is out of range");
    auto first = args.get<ffi::AnyBuffer>(0);
    if (first.has_error()) return first.error();
    const ffi::DataType type = first->element_type();
    return ForGatedType(type, [&](auto tag) {
      using Element = typename Platform::template Element<decltype(tag)>;
      const int64_t rows = batch * steps;
      const std::vector<Expected> sources = {{rows * width, type},
                                             {batch * (size - 1) * width, type}};
      const std::vector<Expected> windows = {{rows * size * width, type}, sources[1]};
      std::vector<Expected> expected = Op::kIsGradient ? windows : sources;
      if (call.has_mask) expected.push_back({rows, ffi::PRED});
      std::vector<void*> inputs, outputs;
      if (!Take(args, expected, 0, &inputs) ||
          !Take(rets, Op::kIsGradient ? sources : windows, 0, &outputs)) {
        return ffi::Error::InvalidArgument(kWrongBuffers);
      }
      const auto arrays = call.Bind<Element>(Op::kIsGradient, inputs, outputs);
      if constexpr (Op::kIsGradient) {
        return Platform::FromWindows(context, arrays);
      } else {
        return Platform::ToWindows(context, arrays);
      }
    });
  }

  static XLA_FFI_Error* Call(XLA_FFI_CallFrame* call_frame) {
    using Context = typename ffi::CtxDecoding<typename Platform::Context>::Type;
    static const ffi::Ffi* handler = ffi::Ffi::Bind()
                                         .Ctx<typename Platform::Context>()
                                         .template Attr<int64_t>("batch")
                                         .template Attr<int64_t>("steps")
                                         .template Attr<int64_t>("width")
                                         .template Attr<int64_t>("size")
                                         .template Attr<int64_t>("has_mask")
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

void RegisterWindowsXlaHandlers(std::string* problems) {
  WindowsHandler<CausalWindowsForward, Host>::Register(problems);
  WindowsHandler<CausalWindowsGrad, Host>::Register(problems);
#if defined(TF_PLR_CUDA)
  WindowsHandler<CausalWindowsForward, Cuda>::Register(problems);
  WindowsHandler<CausalWindowsGrad, Cuda>::Register(problems);
#endif
}

}  // namespace tf_plr
