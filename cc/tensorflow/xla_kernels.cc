// SPDX-License-Identifier: MIT
// The ops under XLA: each compiles to a custom call that makes the call at run time.
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/tensorflow/attributes.h"
#include "cc/xla/handlers.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/node_def.pb.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape_util.h"

namespace tf_plr {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernelContext;

constexpr char kXlaCpu[] = "XLA_CPU_JIT";
constexpr char kXlaGpu[] = "XLA_GPU_JIT";

xla::Shape RowMajor(xla::PrimitiveType type, const Shape& sizes) {
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(type, sizes);
}

// Writes the attributes of a node as those of a custom call: numbers, lists of numbers, and
// strings.
std::string ToMlir(const std::string& op, const tensorflow::NodeDef& node) {
  using tensorflow::AttrValue;
  std::vector<std::string> words = {absl::StrCat(kOpAttribute, " = \"", op, "\"")};
  // Sorted, so that equal calls have equal text.
  const std::map<std::string, AttrValue> attributes(node.attr().begin(), node.attr().end());
  for (const auto& [name, value] : attributes) {
    const auto kind = value.value_case();
    if (name[0] == '_') continue;  // TensorFlow's own.
    if (kind == AttrValue::kI || kind == AttrValue::kB) {
      const int64_t number = kind == AttrValue::kB ? value.b() : value.i();
      words.push_back(absl::StrCat(name, " = ", number, " : i64"));
    } else if (kind == AttrValue::kF) {
      const float number = value.f();
      uint32_t bits;  // MLIR also reads these, whatever the locale.
      std::memcpy(&bits, &number, sizeof(bits));
      words.push_back(absl::StrCat(name, " = 0x", absl::Hex(bits, absl::kZeroPad8), " : f32"));
    } else if (kind == AttrValue::kS) {
      words.push_back(absl::StrCat(name, " = \"", value.s(), "\""));
    } else if (kind == AttrValue::kList && value.list().i_size() > 0) {
      const std::string numbers = absl::StrJoin(value.list().i(), ", ");
      words.push_back(absl::StrCat(name, " = array<i64: ", numbers, ">"));
    }
  }
  return absl::StrCat("{", absl::StrJoin(words, ", "), "}");
}

class XlaCallKernel : public tensorflow::XlaOpKernel {
 public:
  explicit XlaCallKernel(OpKernelConstruction* context)
      : XlaOpKernel(context),
        on_gpu_(context->device_type() == kXlaGpu),
        attributes_(ToMlir(type_string(), context->def())) {
    OP_REQUIRES_OK(context,
                   ToTensorFlow(Call::Make(type_string(), NodeAttributes(context), &call_)));
  }

  void Compile(XlaOpKernelContext* context) override {
    const std::string problem = TfPlrRegisterHandlers();
    OP_REQUIRES(context, problem.empty(), absl::InternalError(problem));
    std::vector<xla::XlaOp> operands;
    std::vector<xla::Shape> operand_shapes, result_shapes;
    Buffers inputs, outputs;
    for (int i = 0; i < context->num_inputs(); ++i) {
      auto shape = context->InputXlaShape(i);
      OP_REQUIRES_OK(context, shape.status());
      OP_REQUIRES(context, shape->is_static(),
                  absl::InvalidArgumentError(absl::StrCat(
                      type_string(), " needs static shapes under XLA, but input ", i, " has shape ",
                      shape->ToString(), ", whose size depends on values")));
      const Shape sizes(shape->dimensions().begin(), shape->dimensions().end());
      inputs.push_back({FromTensorFlow(context->input_type(i)), sizes});
      operands.push_back(context->Input(i));
      operand_shapes.push_back(RowMajor(shape->element_type(), sizes));
    }
    OP_REQUIRES_OK(context, ToTensorFlow(call_->Plan(inputs, &outputs)));
    OP_REQUIRES_OK(context, CheckOutputs(*context, outputs));
    for (int i = 0; i < context->num_outputs(); ++i) {
      TensorShape shape;  // Only to reject shapes that no tensor can have.
      OP_REQUIRES_OK(context, TensorShape::BuildTensorShape(outputs[i].shape, &shape));
      xla::PrimitiveType type;
      OP_REQUIRES_OK(context,
                     tensorflow::DataTypeToPrimitiveType(context->expected_output_dtype(i), &type));
      result_shapes.push_back(RowMajor(type, outputs[i].shape));
    }
    // Scratch is a result, because a call that allocates nothing can be part of a CUDA graph. It
    // has the size for any GPU, because it is not known which GPU will run the call.
    const auto bytes = static_cast<int64_t>(call_->MaxScratchBytes(inputs, on_gpu_));
    result_shapes.push_back(RowMajor(xla::U8, {bytes}));
    const xla::XlaOp results = xla::CustomCallWithLayout(
        context->builder(), kCallTarget, operands, xla::ShapeUtil::MakeTupleShape(result_shapes),
        operand_shapes, attributes_, /*has_side_effect=*/false, /*output_operand_aliasing=*/{},
        /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (int i = 0; i < context->num_outputs(); ++i) {
      context->SetOutput(i, xla::GetTupleElement(results, i));
    }
  }

 private:
  const bool on_gpu_;
  const std::string attributes_;
  std::unique_ptr<Call> call_;
};

// REGISTER_XLA_OP would take effect only in a library loaded before the first op runs.
#define TF_PLR_REGISTER_CPU(Op, FOR_EACH) \
  TF_PLR_REGISTER_KERNEL(Op, FOR_EACH, kXlaCpu, XlaCallKernel)
#define TF_PLR_REGISTER_GPU(Op, FOR_EACH) \
  TF_PLR_REGISTER_KERNEL(Op, FOR_EACH, kXlaGpu, XlaCallKernel)
TF_PLR_FOR_EACH_XLA_OP(TF_PLR_REGISTER_CPU)
#if defined(TF_PLR_CUDA)
TF_PLR_FOR_EACH_XLA_OP(TF_PLR_REGISTER_GPU)
#endif

}  // namespace
}  // namespace tf_plr
