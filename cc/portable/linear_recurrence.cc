// SPDX-License-Identifier: MIT
// The recurrence for any TensorFlow from the one that this is built with on: the engines as
// handlers of XLA's custom calls, whose interface is C. See tf_plr/portable.py.
//
// Operands and results are those of the ops, with an initial state; that they fit is checked here,
// where their sizes are known.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
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

template <typename Op, typename Platform, typename Context>
ffi::Error Run(Context context, int64_t axis, int64_t reverse, int64_t algorithm,
               ffi::RemainingArgs args, ffi::RemainingRets rets) {
  Problem problem;
  ffi::Error error = ReadShapes<Op>(args, axis, (reverse != 0) != Op::kAgainstTime, &problem);
  if (error.failure()) return error;
  return RunRecurrence<Op, Platform>(context, problem, algorithm, /*has_initial_state=*/true, args,
                                     rets);
}

// What the calls of all platforms have, after what the platform's engine needs.
template <typename Binding>
auto WithCall(Binding binding) {
  return std::move(binding)
      .template Attr<int64_t>("axis")
      .template Attr<int64_t>("reverse")
      .template Attr<int64_t>("algorithm")
      .RemainingArgs()
      .RemainingRets();
}

template <typename Op>
XLA_FFI_Error* CallOnHost(XLA_FFI_CallFrame* call_frame) {
  static const ffi::Ffi* handler = WithCall(ffi::Ffi::Bind().Ctx<ffi::ThreadPool>())
                                       .To(&Run<Op, Host, ffi::ThreadPool>)
                                       .release();
  return handler->Call(call_frame);
}

#if defined(TF_PLR_CUDA)
// The op's results are all that there are: XLA lends the workspace for the time of a call.
struct CudaWithScratch : Cuda {
  static constexpr XLA_FFI_Handler_Traits kTraits = 0;  // Another one each time: no CUDA graphs.
  static constexpr size_t kWorkspaces = 0;
  struct StreamAndScratch {
    void* stream;
    ffi::ScratchAllocator* scratch;
  };

  template <typename Cell, typename Element>
  static ffi::Error Run(StreamAndScratch context, const Problem& problem,
                        const Arrays<Cell, Element>& arrays, Algorithm algorithm,
                        ffi::RemainingRets /*rets*/) {
    gpu::Workspace workspace{nullptr, gpu::WorkspaceBytes(problem, arrays, algorithm)};
    if (workspace.bytes > 0) {
      std::optional<void*> data = context.scratch->Allocate(workspace.bytes, /*alignment=*/16);
      if (!data.has_value()) {
        return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                          "tf_plr needs a workspace of " + std::to_string(workspace.bytes) +
                              " bytes, which XLA could not lend");
      }
      workspace.data = *data;
    }
    const char* error = gpu::Run(problem, arrays, algorithm, workspace, context.stream);
    return error == nullptr ? ffi::Error::Success() : ffi::Error::Internal(error);
  }
};

template <typename Op>
XLA_FFI_Error* CallOnCuda(XLA_FFI_CallFrame* call_frame) {
  static const ffi::Ffi* handler =
      WithCall(ffi::Ffi::Bind().Ctx<Cuda::Context>().Ctx<ffi::ScratchAllocator>())
          .To([](void* stream, ffi::ScratchAllocator scratch, auto... operands) {
            return Run<Op, CudaWithScratch>(CudaWithScratch::StreamAndScratch{stream, &scratch},
                                            operands...);
          })
          .release();
  return handler->Call(call_frame);
}
#endif

template <typename Op>
void Register(const char* name, std::string* problems) {
  RegisterHandler(name, Host::kName, &CallOnHost<Op>, Host::kTraits, problems);
#if defined(TF_PLR_CUDA)
  using Platform = CudaWithScratch;
  RegisterHandler(name, Platform::kName, &CallOnCuda<Op>, Platform::kTraits, problems);
#endif
}

}  // namespace
}  // namespace tf_plr

// Registers the handlers with the XLA of this process; returns "" or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* TfPlrRegisterPortableHandlers() {
  using namespace tf_plr;
  static const std::string problems = [] {
    std::string problems;
    Register<LinearRecurrence>("TfPlr>PortableLinearRecurrence", &problems);
    Register<LinearRecurrenceGrad>("TfPlr>PortableLinearRecurrenceGrad", &problems);
    return problems;
  }();
  return problems.c_str();
}
