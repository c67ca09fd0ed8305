// SPDX-License-Identifier: MIT
// The gated ops under XLA: each compiles to one custom call that runs the device's engine.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cc/kernels/gated_ops.h"
#include "cc/xla/gated_calls.h"
#include "cc/xla/xla_call_builder.h"
#include "cc/xla/xla_calls.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernel;
using tensorflow::XlaOpKernelContext;

template <typename Op>
class XlaGatedKernel : public XlaOpKernel {
 public:
  explicit XlaGatedKernel(OpKernelConstruction* context)
      : XlaOpKernel(context), on_gpu_(context->device_type() == kXlaGpu) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &call_));
    call_.keeps_states = !Op::kIsGradient && context->num_outputs() == 3;
  }

  void Compile(XlaOpKernelContext* context) override {
    const std::string& unregistered = RegisterXlaHandlers();
    OP_REQUIRES(context, unregistered.empty(), absl::InternalError(unregistered));
    const tensorflow::DataType type = context->input_type(0);
    GatedCall call = call_;
    CallInputs inputs;
    OP_REQUIRES_OK(context, inputs.Read(Op::kName, context));
    std::vector<TensorShape> output_shapes;
    OP_REQUIRES_OK(context, Op::ReadShapes(inputs.shapes, &call, &output_shapes));
    std::vector<xla::Shape> results;
    for (size_t i = 0; i < output_shapes.size(); ++i) {
      const auto of = Op::IsFloat(call, i) ? tensorflow::DT_FLOAT : type;
      OP_REQUIRES_OK(context, ToXlaShape(of, output_shapes[i], &results.emplace_back()));
    }
    if (Op::kIsGradient && call.holds) {  // Room for the gradient by outputs that are not held.
      const TensorShape& shape = inputs.shapes[GatedRecurrenceGrad::DOutputs(call)];
      OP_REQUIRES_OK(context, ToXlaShape(type, shape, &results.emplace_back()));
    }
    if (on_gpu_) {
      results.push_back(
          xla::ShapeUtil::MakeShapeWithDescendingLayout(xla::U8, {WorkspaceBytes(type, call)}));
    }
    SetToCall(Op::kName, inputs, results, GatedAttributes::Of(call), context);
  }

 private:
  // Of any GPU: which one will run the computation is not known here.
  static int64_t WorkspaceBytes([[maybe_unused]] tensorflow::DataType type,
                                [[maybe_unused]] const GatedCall& call) {
#if defined(TF_PLR_CUDA)
    const int64_t of_engine =
        ForGatedCell(call.cell, [&](auto cell, auto gradient_cell) -> int64_t {
          using Cell = std::conditional_t<Op::kIsGradient, decltype(gradient_cell), decltype(cell)>;
          switch (type) {
#define TF_PLR_BYTES_OF(T, dtype, xla)                                                 \
  case tensorflow::dtype:                                                              \
    return gpu::MostWorkspaceBytes<Cell, typename GpuElementOf<T>::type>(call.problem, \
                                                                         call.algorithm);
            TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_BYTES_OF)
            default:
              return 0;  // Not registered.
          }
        });
    if (!Op::kIsGradient || !call.has_bias) return of_engine;
    const ColumnSums<float> sums{nullptr, call.problem.outer * call.problem.steps, call.BiasWidth(),
                                 call.wide, nullptr};
    return std::max(of_engine, static_cast<int64_t>(sums.workspace_bytes()));
#else
    return 0;
#endif
  }

  GatedCall call_;
  const bool on_gpu_;
};

#define TF_PLR_TYPE(T, dtype, xla) tensorflow::dtype,
#define TF_PLR_REGISTER_XLA(Op, DEVICE)                                        \
  REGISTER_KERNEL_BUILDER(Name(Op::kName).Device(DEVICE).TypeConstraint(       \
                              "T", {TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_TYPE)}), \
                          XlaGatedKernel<Op>);

TF_PLR_REGISTER_XLA(GatedRecurrence, kXlaCpu)
TF_PLR_REGISTER_XLA(GatedRecurrenceGrad, kXlaCpu)
#if defined(TF_PLR_CUDA)
TF_PLR_REGISTER_XLA(GatedRecurrence, kXlaGpu)
TF_PLR_REGISTER_XLA(GatedRecurrenceGrad, kXlaGpu)
#endif

}  // namespace
}  // namespace tf_plr
