// SPDX-License-Identifier: MIT
// The gated ops' custom calls at run time: from XLA's buffers to the device's engine.
#include <cstdint>
#include <string>
#include <vector>

#include "cc/kernels/gated_ops.h"
#include "cc/xla/buffers.h"
#include "cc/xla/gated_calls.h"
#include "cc/xla/platforms.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

template <typename Op>
std::vector<Expected> ExpectedInputs(const GatedCall& call, ffi::DataType type, int64_t width) {
  const int64_t rows = call.problem.outer * call.problem.steps;
  const int64_t columns = call.problem.columns();
  std::vector<Expected> inputs = {{rows * call.wide, type}};
  if (call.has_bias) {
    inputs.push_back({call.BiasWidth(), ffi::F32});
  }
  if (call.has_beside) {
    inputs.push_back({rows * (call.Name().in_front ? call.features : call.problem.inner), type});
  }
  if (call.has_initial_state) inputs.push_back({columns, Op::kIsGradient ? type : ffi::F32});
  if (call.has_mask) inputs.push_back({rows, ffi::PRED});
  if (Op::kIsGradient) {
    inputs.push_back({rows * width, type});
    inputs.push_back({rows * width, type});
    inputs.push_back({columns, ffi::F32});
  }
  return inputs;
}

template <typename Op>
std::vector<Expected> ExpectedOutputs(const GatedCall& call, ffi::DataType type, int64_t width) {
  const int64_t rows = call.problem.outer * call.problem.steps;
  std::vector<Expected> outputs = {{rows * (Op::kIsGradient ? call.wide : width), type}};
  if (Op::kIsGradient && call.has_bias) outputs.push_back({call.BiasWidth(), ffi::F32});
  const bool second = Op::kIsGradient ? GatedRecurrenceGrad::HasDBeside(call) : call.keeps_states;
  if (second) outputs.push_back({call.problem.size(), type});
  outputs.push_back({call.problem.columns(), ffi::F32});
  if (Op::kIsGradient && call.holds) outputs.push_back({rows * width, type});
  return outputs;
}

template <typename Op, typename Platform>
struct GatedHandler {
  template <typename Context>
  static ffi::Error Run(Context context, int64_t outer, int64_t steps, int64_t inner,
                        int64_t reverse, int64_t algorithm, int64_t cell, int64_t given,
                        int64_t blocks, int64_t features, ffi::RemainingArgs args,
                        ffi::RemainingRets rets) {
    GatedCall call;
    if (!GatedAttributes::Read(outer, steps, inner, reverse, algorithm, cell, given, blocks,
                               features, &call)) {
      return ffi::Error::InvalidArgument("an attribute is out of range");
    }
    auto product = args.get<ffi::AnyBuffer>(0);
    if (product.has_error()) return product.error();
    const ffi::DataType type = product->element_type();
    return ForGatedType(type, [&](auto tag) {
      using T = decltype(tag);
      using Element = typename Platform::template Element<T>;
      const int64_t width = call.InFront() + call.problem.inner;
      std::vector<void*> inputs, outputs;
      if (!Take(args, ExpectedInputs<Op>(call, type, width), 0, &inputs) ||
          !Take(rets, ExpectedOutputs<Op>(call, type, width), Platform::kWorkspaces, &outputs)) {
        return ffi::Error::InvalidArgument(kWrongBuffers);
      }
      void* d_outputs = nullptr;
      if (Op::kIsGradient && call.holds) {
        d_outputs = outputs.back();
        outputs.pop_back();
      }
      const GatedBinding<Element> binding(call, sizeof(T), inputs, outputs);
      if (d_outputs != nullptr) {
        void*& place = inputs[GatedRecurrenceGrad::DOutputs(call)];
        ffi::Error error = Platform::SumHeld(context, binding.HeldGradient(place, d_outputs));
        if (error.failure()) return error;
        place = d_outputs;
      }
      if (!Op::kIsGradient && call.InFront() > 0) {
        ffi::Error error = Platform::CopyInFront(context, binding.InFront());
        if (error.failure()) return error;
      }
      ffi::Error error = ForGatedCell(call.cell, [&](auto cell, auto gradient_cell) {
        using Cell = decltype(cell);
        if constexpr (Op::kIsGradient) {
          return Platform::Run(context, call.problem,
                               binding.template Gradient<Cell, decltype(gradient_cell)>(),
                               call.algorithm, rets);
        } else {
          return Platform::Run(context, call.problem, binding.template Forward<Cell>(),
                               call.algorithm, rets);
        }
      });
      if (!Op::kIsGradient && call.holds && error.success()) {
        return Platform::Hold(context, binding.Held());
      }
      if constexpr (Op::kIsGradient) {
        if (call.has_bias && error.success()) {
          return Platform::Sum(context, binding.BiasGradient(), rets);
        }
      }
      return error;
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
                                         .template Attr<int64_t>("cell")
                                         .template Attr<int64_t>("given")
                                         .template Attr<int64_t>("blocks")
                                         .template Attr<int64_t>("features")
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

void RegisterGatedXlaHandlers(std::string* problems) {
  GatedHandler<GatedRecurrence, Host>::Register(problems);
  GatedHandler<GatedRecurrenceGrad, Host>::Register(problems);
#if defined(TF_PLR_CUDA)
  GatedHandler<GatedRecurrence, Cuda>::Register(problems);
  GatedHandler<GatedRecurrenceGrad, Cuda>::Register(problems);
#endif
}

}  // namespace tf_plr
