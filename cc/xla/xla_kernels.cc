// SPDX-License-Identifier: MIT
// The ops under XLA: each compiles to one custom call that runs the device's engine.
#include <cstdint>
#include <string>
#include <vector>

#include "cc/kernels/native_ops.h"
#include "cc/xla/xla_call_builder.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

using absl::StrCat;
using tensorflow::OpKernelConstruction;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernel;
using tensorflow::XlaOpKernelContext;

template <typename Op>
class XlaRecurrenceKernel : public XlaOpKernel {
 public:
  explicit XlaRecurrenceKernel(OpKernelConstruction* context)
      : XlaOpKernel(context), on_gpu_(context->device_type() == kXlaGpu) {
    OP_REQUIRES_OK(context, Attributes::Read(context, &attributes_));
  }

  void Compile(XlaOpKernelContext* context) override {
    const std::string& unregistered = RegisterXlaHandlers();
    OP_REQUIRES(context, unregistered.empty(), absl::InternalError(unregistered));
    const tensorflow::DataType type = context->input_type(0);

    CallInputs inputs;
    OP_REQUIRES_OK(context, inputs.Read(Op::kName, context));
    std::vector<TensorShape> output_shapes;
    std::vector<xla::Shape> results;
    Problem problem;
    OP_REQUIRES_OK(context, ReadShapes<Op>(inputs.shapes, attributes_, &problem, &output_shapes));
    for (const TensorShape& shape : output_shapes) {
      OP_REQUIRES_OK(context, ToXlaShape(type, shape, &results.emplace_back()));
    }
    if (on_gpu_) {
      results.push_back(
          xla::ShapeUtil::MakeShapeWithDescendingLayout(xla::U8, {WorkspaceBytes(type, problem)}));
    }
    const std::string attributes =
        StrCat("{outer = ", problem.outer, " : i64, steps = ", problem.steps,
               " : i64, inner = ", problem.inner, " : i64, reverse = ", problem.reverse ? 1 : 0,
               " : i64, algorithm = ", static_cast<int>(attributes_.algorithm), " : i64}");
    SetToCall(Op::kName, inputs, results, attributes, context);
  }

 private:
  // Of any GPU: which one will run the computation is not known here.
  int64_t WorkspaceBytes([[maybe_unused]] tensorflow::DataType type,
                         [[maybe_unused]] const Problem& problem) const {
#if defined(TF_PLR_CUDA)
    switch (type) {
#define TF_PLR_BYTES_OF(T, dtype, xla)                                                 \
  case tensorflow::dtype:                                                              \
    return gpu::MostWorkspaceBytes<typename Op::Cell, typename GpuElementOf<T>::type>( \
        problem, attributes_.algorithm);
      TF_PLR_FOR_EACH_TYPE(TF_PLR_BYTES_OF)
      default:
        return 0;  // Not registered.
    }
#else
    return 0;
#endif
  }

  Attributes attributes_;
  const bool on_gpu_;
};

// REGISTER_XLA_OP would take effect only in a library loaded before the first op runs.
#define TF_PLR_TYPE(T, dtype, xla) tensorflow::dtype,
#define TF_PLR_REGISTER_XLA(Op, DEVICE)                                                        \
  REGISTER_KERNEL_BUILDER(                                                                     \
      Name(Op::kName).Device(DEVICE).TypeConstraint("T", {TF_PLR_FOR_EACH_TYPE(TF_PLR_TYPE)}), \
      XlaRecurrenceKernel<Op>);

TF_PLR_REGISTER_XLA(LinearRecurrence, kXlaCpu)
TF_PLR_REGISTER_XLA(LinearRecurrenceGrad, kXlaCpu)
#if defined(TF_PLR_CUDA)
TF_PLR_REGISTER_XLA(LinearRecurrence, kXlaGpu)
TF_PLR_REGISTER_XLA(LinearRecurrenceGrad, kXlaGpu)
#endif

}  // namespace
}  // namespace tf_plr
