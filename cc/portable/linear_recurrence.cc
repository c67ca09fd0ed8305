// SPDX-License-Identifier: MIT
// The recurrence for any TensorFlow from the one that this is built with on: the CPU engine as
// handlers of XLA's custom calls, whose interface is C. See tf_plr/portable.py.
//
// Operands and results are those of the ops, with an initial state; that they fit is checked here,
// where their sizes are known.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "cc/kernels/recurrence_ops.h"
#include "cc/xla/platforms.h"
#include "cc/xla/recurrence_buffers.h"

namespace tf_plr {
namespace {

using Shape = std::vector<int64_t>;

std::string ToString(const Shape& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "[" : ",") + std::to_string(size);
  return text.empty() ? "[]" : text + "]";
}

ffi::Error CheckShape(const std::string& name, const Shape& shape, const std::string& of,
                      const Shape& expected) {
  if (shape == expected) return ffi::Error::Success();
  return ffi::Error::InvalidArgument(name + " must have the shape of " + of + ", " +
                                     ToString(expected) + ", but has shape " + ToString(shape));
}

// Checks the shapes of all operands; sets the problem.
template <typename Op>
ffi::Error ReadShapes(const ffi::RemainingArgs& args, int64_t axis, bool reverse,
                      Problem* problem) {
  constexpr size_t kStepInputs = std::size(Op::kStepInputs);
  if (args.size() != kStepInputs + 1) return ffi::Error::InvalidArgument("operands are missing");
  std::vector<Shape> shapes;
  for (size_t i = 0; i < args.size(); ++i) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return buffer.error();
    shapes.emplace_back(buffer->dimensions().begin(), buffer->dimensions().end());
  }
  const Shape& steps_shape = shapes[0];
  if (axis < 0 || axis >= static_cast<int64_t>(steps_shape.size())) {
    return ffi::Error::InvalidArgument("axis is " + std::to_string(axis) +
                                       ", but decays has shape " + ToString(steps_shape));
  }
  Shape columns_shape = steps_shape;
  columns_shape.erase(columns_shape.begin() + axis);
  for (size_t i = 1; i < kStepInputs; ++i) {
    ffi::Error error = CheckShape(Op::kStepInputs[i], shapes[i], "decays", steps_shape);
    if (error.failure()) return error;
  }
  *problem = {0, 0, 0, reverse};
  if (std::count(columns_shape.begin(), columns_shape.end(), 0) == 0) {
    *problem = {1, steps_shape[axis], 1, reverse};
    for (int64_t i = 0; i < axis; ++i) problem->outer *= columns_shape[i];
    for (size_t i = axis; i < columns_shape.size(); ++i) problem->inner *= columns_shape[i];
  }
  return CheckShape("initial_state", shapes.back(), "decays without axis", columns_shape);
}

template <typename Op>
ffi::Error Run(ffi::ThreadPool pool, int64_t axis, int64_t reverse, int64_t algorithm,
               ffi::RemainingArgs args, ffi::RemainingRets rets) {
  Problem problem;
  ffi::Error error = ReadShapes<Op>(args, axis, (reverse != 0) != Op::kAgainstTime, &problem);
  if (error.failure()) return error;
  return RunRecurrence<Op, Host>(pool, problem, algorithm, /*has_initial_state=*/true, args, rets);
}

template <typename Op>
XLA_FFI_Error* Call(XLA_FFI_CallFrame* call_frame) {
  static const ffi::Ffi* handler = ffi::Ffi::Bind()
                                       .Ctx<ffi::ThreadPool>()
                                       .template Attr<int64_t>("axis")
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
