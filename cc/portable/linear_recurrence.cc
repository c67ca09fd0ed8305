// SPDX-License-Identifier: MIT
// The recurrence for any TensorFlow from the one that this is built with on: the CPU engine as
// handlers of XLA's custom calls, whose interface is C. See tf_plr/portable.py.
//
// Operands have three axes, [outer, steps, inner], of sizes that only the call knows.
#include <cstdint>
#include <string>

#include "cc/kernels/recurrence_ops.h"
#include "cc/xla/platforms.h"
#include "cc/xla/recurrence_buffers.h"

namespace tf_plr {
namespace {

template <typename Op>
ffi::Error Run(ffi::ThreadPool pool, int64_t reverse, int64_t algorithm, ffi::RemainingArgs args,
               ffi::RemainingRets rets) {
  auto decays = args.get<ffi::AnyBuffer>(0);
  if (decays.has_error()) return decays.error();
  const auto sizes = decays->dimensions();
  if (sizes.size() != 3) return ffi::Error::InvalidArgument("decays must have three axes");
  Problem problem{sizes[0], sizes[1], sizes[2], (reverse != 0) != Op::kAgainstTime};
  if (problem.outer == 0 || problem.inner == 0) problem = {0, 0, 0, problem.reverse};
  return RunRecurrence<Op, Host>(pool, problem, algorithm, /*has_initial_state=*/true, args, rets);
}

template <typename Op>
XLA_FFI_Error* Call(XLA_FFI_CallFrame* call_frame) {
  static const ffi::Ffi* handler = ffi::Ffi::Bind()
                                       .Ctx<ffi::ThreadPool>()
                                       .template Attr<int64_t>("reverse")
                                       .template Attr<int64_t>("algorithm")
                                       .RemainingArgs()
                                       .RemainingRets()
                                       .To(&Run<Op>)
                                       .release();
  return handler->Call(call_frame);
}

}  // namespace
}  // namespace tf_plr

// Registers the handlers with the XLA of this process; returns "" or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* TfPlrRegisterPortableHandlers() {
  using namespace tf_plr;
  static const std::string problems = [] {
    std::string problems;
    const auto add = [&](const char* name, XLA_FFI_Handler* call) {
      RegisterHandler(name, Host::kName, call, Host::kTraits, &problems);
    };
    add("TfPlr>PortableLinearRecurrence", &Call<LinearRecurrence>);
    add("TfPlr>PortableLinearRecurrenceGrad", &Call<LinearRecurrenceGrad>);
    return problems;
  }();
  return problems.c_str();
}
