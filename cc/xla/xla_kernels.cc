// SPDX-License-Identifier: MIT
// The ops under XLA: each compiles to one custom call that runs the device's engine. All in one
// file, as XLA's headers take longer to compile than all that is here.
#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/kernels/causal_windows.h"
#include "cc/kernels/gated_ops.h"
#include "cc/kernels/native_ops.h"
#include "cc/xla/gated_calls.h"
#include "cc/xla/xla_calls.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape_util.h"

namespace tf_plr {
namespace {

using absl::Status;
using absl::StrCat;
using tensorflow::DataType;
using tensorflow::OpKernelConstruction;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernel;
using tensorflow::XlaOpKernelContext;

constexpr char kXlaCpu[] = "XLA_CPU_JIT";
constexpr char kXlaGpu[] = "XLA_GPU_JIT";

// The row-major shape.
Status ToXlaShape(DataType type, const TensorShape& shape, xla::Shape* result) {
  TF_RETURN_IF_ERROR(tensorflow::TensorShapeToXLAShape(type, shape, result));
  *result =
      xla::ShapeUtil::MakeShapeWithDescendingLayout(result->element_type(), result->dimensions());
  return absl::OkStatus();
}

// What there is to say of a call beside its operands, which are the op's inputs.
struct CustomCall {
  std::vector<xla::Shape> results;  // The op's outputs, then what the handler needs.
  std::string attributes;

  Status Append(DataType type, const TensorShape& shape) {
    return ToXlaShape(type, shape, &results.emplace_back());
  }
};

// An op whose call has the op's name.
class CustomCallKernel : public XlaOpKernel {
 public:
  CustomCallKernel(const char* name, OpKernelConstruction* context)
      : XlaOpKernel(context), name_(name), on_gpu_(context->device_type() == kXlaGpu) {}

  void Compile(XlaOpKernelContext* context) override {
    const std::string& unregistered = RegisterXlaHandlers();
    OP_REQUIRES(context, unregistered.empty(), absl::InternalError(unregistered));
    std::vector<xla::XlaOp> operands;
    std::vector<xla::Shape> operand_shapes;
    std::vector<TensorShape> shapes;
    for (int i = 0; i < context->num_inputs(); ++i) {
      auto shape = context->InputXlaShape(i);
      OP_REQUIRES_OK(context, shape.status());
      OP_REQUIRES(context, shape->is_static(),
                  absl::InvalidArgumentError(
                      StrCat(name_, " needs static shapes under XLA, but input ", i, " has shape ",
                             shape->ToString(), ", whose size depends on values")));
      operands.push_back(context->Input(i));
      OP_REQUIRES_OK(context, tensorflow::XLAShapeToTensorShape(*shape, &shapes.emplace_back()));
      OP_REQUIRES_OK(context, ToXlaShape(context->input_type(i), shapes.back(),
                                         &operand_shapes.emplace_back()));
    }
    CustomCall call;
    OP_REQUIRES_OK(context, Plan(context->input_type(0), shapes, &call));
    const xla::XlaOp results = xla::CustomCallWithLayout(
        context->builder(), name_, operands, xla::ShapeUtil::MakeTupleShape(call.results),
        operand_shapes, call.attributes, /*has_side_effect=*/false, /*output_operand_aliasing=*/{},
        /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (int i = 0; i < context->num_outputs(); ++i) {
      context->SetOutput(i, xla::GetTupleElement(results, i));
    }
  }

 protected:
  // `type` is that of the first input.
  virtual Status Plan(DataType type, const std::vector<TensorShape>& inputs,
                      CustomCall* call) const = 0;

  // On a GPU, the workspace; for any GPU, as which one will run the computation is not known here.
  template <typename Bytes>
  void AppendWorkspace(const Bytes& bytes, CustomCall* call) const {
    if (!on_gpu_) return;
    call->results.push_back(xla::ShapeUtil::MakeShapeWithDescendingLayout(xla::U8, {bytes()}));
  }

 private:
  const char* const name_;
  const bool on_gpu_;
};

// The most bytes of workspace that a cell needs on any GPU.
template <typename Cell, typename T>
int64_t MostBytes([[maybe_unused]] const Problem& problem, [[maybe_unused]] Algorithm algorithm) {
#if defined(TF_PLR_CUDA)
  return gpu::MostWorkspaceBytes<Cell, typename GpuElementOf<T>::type>(problem, algorithm);
#else
  return 0;
#endif
}

template <typename Op>
class XlaRecurrenceKernel : public CustomCallKernel {
 public:
  explicit XlaRecurrenceKernel(OpKernelConstruction* context)
      : CustomCallKernel(Op::kName, context) {
    OP_REQUIRES_OK(context, Attributes::Read(context, &attributes_));
  }

 protected:
  Status Plan(DataType type, const std::vector<TensorShape>& inputs,
              CustomCall* call) const override {
    std::vector<TensorShape> outputs;
    Problem problem;
    TF_RETURN_IF_ERROR(ReadShapes<Op>(inputs, attributes_, &problem, &outputs));
    for (const TensorShape& shape : outputs) TF_RETURN_IF_ERROR(call->Append(type, shape));
    AppendWorkspace([&] { return WorkspaceBytes(type, problem); }, call);
    call->attributes =
        StrCat("{outer = ", problem.outer, " : i64, steps = ", problem.steps,
               " : i64, inner = ", problem.inner, " : i64, reverse = ", problem.reverse ? 1 : 0,
               " : i64, algorithm = ", static_cast<int>(attributes_.algorithm),
               " : i64, initial_states = ", attributes_.has_initial_state ? 1 : 0, " : i64}");
    return absl::OkStatus();
  }

 private:
  int64_t WorkspaceBytes(DataType type, const Problem& problem) const {
    switch (type) {
#define TF_PLR_BYTES_OF(T, dtype, xla) \
  case tensorflow::dtype:              \
    return MostBytes<typename Op::Cell, T>(problem, attributes_.algorithm);
      TF_PLR_FOR_EACH_TYPE(TF_PLR_BYTES_OF)
      default:
        return 0;  // Not registered.
    }
  }

  Attributes attributes_;
};

template <typename Op>
class XlaGatedKernel : public CustomCallKernel {
 public:
  explicit XlaGatedKernel(OpKernelConstruction* context) : CustomCallKernel(Op::kName, context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, &call_));
    call_.keeps_states = !Op::kIsGradient && context->num_outputs() == 3;
  }

 protected:
  Status Plan(DataType type, const std::vector<TensorShape>& inputs,
              CustomCall* call) const override {
    GatedCall gated = call_;
    std::vector<TensorShape> outputs;
    TF_RETURN_IF_ERROR(Op::ReadShapes(inputs, &gated, &outputs));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const DataType of = Op::IsFloat(gated, i) ? tensorflow::DT_FLOAT : type;
      TF_RETURN_IF_ERROR(call->Append(of, outputs[i]));
    }
    if (Op::kIsGradient && gated.holds) {  // Room for the gradient by outputs that are not held.
      TF_RETURN_IF_ERROR(call->Append(type, inputs[GatedRecurrenceGrad::DOutputs(gated)]));
    }
    AppendWorkspace([&] { return WorkspaceBytes(type, gated); }, call);
    call->attributes = GatedAttributes::Of(gated);
    return absl::OkStatus();
  }

 private:
  static int64_t WorkspaceBytes(DataType type, const GatedCall& call) {
    const int64_t of_engine =
        ForGatedCell(call.cell, [&](auto cell, auto gradient_cell) -> int64_t {
          using Cell = std::conditional_t<Op::kIsGradient, decltype(gradient_cell), decltype(cell)>;
          switch (type) {
#define TF_PLR_BYTES_OF_CELL(T, dtype, xla) \
  case tensorflow::dtype:                   \
    return MostBytes<Cell, T>(call.problem, call.algorithm);
            TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_BYTES_OF_CELL)
            default:
              return 0;  // Not registered.
          }
        });
    if (!Op::kIsGradient || !call.has_bias) return of_engine;
    const ColumnSums<float> sums{nullptr, call.problem.outer * call.problem.steps, call.BiasWidth(),
                                 call.wide, nullptr};
    return std::max(of_engine, static_cast<int64_t>(sums.workspace_bytes()));
  }

  GatedCall call_;
};

template <typename Op>
class XlaWindowsKernel : public CustomCallKernel {
 public:
  explicit XlaWindowsKernel(OpKernelConstruction* context) : CustomCallKernel(Op::kName, context) {
    OP_REQUIRES_OK(context, call_.Read(context));
  }

 protected:
  Status Plan(DataType type, const std::vector<TensorShape>& inputs,
              CustomCall* call) const override {
    WindowsCall windows = call_;
    std::vector<TensorShape> outputs;
    TF_RETURN_IF_ERROR(Op::ReadShapes(inputs, &windows, &outputs));
    for (const TensorShape& shape : outputs) TF_RETURN_IF_ERROR(call->Append(type, shape));
    call->attributes = StrCat("{batch = ", windows.batch, " : i64, steps = ", windows.steps,
                              " : i64, width = ", windows.width, " : i64, size = ", windows.size,
                              " : i64, has_mask = ", windows.has_mask ? 1 : 0, " : i64}");
    return absl::OkStatus();
  }

 private:
  WindowsCall call_;
};

// REGISTER_XLA_OP would take effect only in a library loaded before the first op runs.
#define TF_PLR_TYPE(T, dtype, xla) tensorflow::dtype,
#define TF_PLR_REGISTER_XLA(Kernel, Op, FOR_EACH, DEVICE) \
  REGISTER_KERNEL_BUILDER(                                \
      Name(Op::kName).Device(DEVICE).TypeConstraint("T", {FOR_EACH(TF_PLR_TYPE)}), Kernel<Op>);
#define TF_PLR_REGISTER_ON(DEVICE)                                                                \
  TF_PLR_REGISTER_XLA(XlaRecurrenceKernel, LinearRecurrence, TF_PLR_FOR_EACH_TYPE, DEVICE)        \
  TF_PLR_REGISTER_XLA(XlaRecurrenceKernel, LinearRecurrenceGrad, TF_PLR_FOR_EACH_TYPE, DEVICE)    \
  TF_PLR_REGISTER_XLA(XlaGatedKernel, GatedRecurrence, TF_PLR_FOR_EACH_GATED_TYPE, DEVICE)        \
  TF_PLR_REGISTER_XLA(XlaGatedKernel, GatedRecurrenceGrad, TF_PLR_FOR_EACH_GATED_TYPE, DEVICE)    \
  TF_PLR_REGISTER_XLA(XlaWindowsKernel, CausalWindowsForward, TF_PLR_FOR_EACH_GATED_TYPE, DEVICE) \
  TF_PLR_REGISTER_XLA(XlaWindowsKernel, CausalWindowsGrad, TF_PLR_FOR_EACH_GATED_TYPE, DEVICE)

TF_PLR_REGISTER_ON(kXlaCpu)
#if defined(TF_PLR_CUDA)
TF_PLR_REGISTER_ON(kXlaGpu)
#endif

}  // namespace
}  // namespace tf_plr
