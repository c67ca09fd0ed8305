// SPDX-License-Identifier: MIT
// CausalWindows and its gradient under XLA: each compiles to one custom call.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/kernels/causal_windows.h"
#include "cc/kernels/types.h"
#include "cc/xla/xla_call_builder.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernel;
using tensorflow::XlaOpKernelContext;

template <typename Op>
class XlaWindowsKernel : public XlaOpKernel {
 public:
  explicit XlaWindowsKernel(OpKernelConstruction* context) : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, call_.Read(context));
  }

  void Compile(XlaOpKernelContext* context) override {
    const std::string& unregistered = RegisterXlaHandlers();
    OP_REQUIRES(context, unregistered.empty(), absl::InternalError(unregistered));
    WindowsCall call = call_;
    CallInputs inputs;
    OP_REQUIRES_OK(context, inputs.Read(Op::kName, context));
    std::vector<TensorShape> output_shapes;
    OP_REQUIRES_OK(context, Op::ReadShapes(inputs.shapes, &call, &output_shapes));
    std::vector<xla::Shape> results;
    for (const TensorShape& shape : output_shapes) {
      OP_REQUIRES_OK(context, ToXlaShape(context->input_type(0), shape, &results.emplace_back()));
    }
    const std::string attributes = absl::StrCat(
        "{batch = ", call.batch, " : i64, steps = ", call.steps, " : i64, width = ", call.width,
        " : i64, size = ", call.size, " : i64, has_mask = ", call.has_mask ? 1 : 0, " : i64}");
    SetToCall(Op::kName, inputs, results, attributes, context);
  }

 private:
  WindowsCall call_;
};

#define TF_PLR_TYPE(T, dtype, xla) tensorflow::dtype,
#define TF_PLR_REGISTER_XLA(Op, DEVICE)                                        \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(DEVICE).TypeConstraint(       \
                              "T", {TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_TYPE)}), \
                          XlaWindowsKernel<Op>);

TF_PLR_REGISTER_XLA(CausalWindowsForward, kXlaCpu)
TF_PLR_REGISTER_XLA(CausalWindowsGrad, kXlaCpu)
#if defined(TF_PLR_CUDA)
TF_PLR_REGISTER_XLA(CausalWindowsForward, kXlaGpu)
TF_PLR_REGISTER_XLA(CausalWindowsGrad, kXlaGpu)
#endif

}  // namespace
}  // namespace tf_plr
