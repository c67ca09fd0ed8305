// SPDX-License-Identifier: MIT
// How an op becomes a custom call of its name: see xla_calls.h.
#ifndef TF_PLR_XLA_XLA_CALL_BUILDER_H_
#define TF_PLR_XLA_XLA_CALL_BUILDER_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape_util.h"

namespace tf_plr {

constexpr char kXlaCpu[] = "XLA_CPU_JIT";
constexpr char kXlaGpu[] = "XLA_GPU_JIT";

// The row-major shape.
inline absl::Status ToXlaShape(tensorflow::DataType type, const tensorflow::TensorShape& shape,
                               xla::Shape* result) {
  TF_RETURN_IF_ERROR(tensorflow::TensorShapeToXLAShape(type, shape, result));
  *result =
      xla::ShapeUtil::MakeShapeWithDescendingLayout(result->element_type(), result->dimensions());
  return absl::OkStatus();
}

// All inputs of an op.
struct CallInputs {
  std::vector<xla::XlaOp> values;
  std::vector<tensorflow::TensorShape> shapes;
  std::vector<xla::Shape> operands;  // The shapes as XLA's, row-major.

  absl::Status Read(const char* name, tensorflow::XlaOpKernelContext* context) {
    for (int i = 0; i < context->num_inputs(); ++i) {
      auto shape = context->InputXlaShape(i);
      TF_RETURN_IF_ERROR(shape.status());
      if (!shape->is_static()) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, " needs static shapes under XLA, but input ", i, " has shape ",
                         shape->ToString(), ", whose size depends on values"));
      }
      shapes.emplace_back();
      TF_RETURN_IF_ERROR(tensorflow::XLAShapeToTensorShape(*shape, &shapes.back()));
      values.push_back(context->Input(i));
      TF_RETURN_IF_ERROR(
          ToXlaShape(context->input_type(i), shapes.back(), &operands.emplace_back()));
    }
    return absl::OkStatus();
  }
};

// Sets the op's outputs to the first results of the call.
inline void SetToCall(const char* name, const CallInputs& inputs,
                      const std::vector<xla::Shape>& results, const std::string& attributes,
                      tensorflow::XlaOpKernelContext* context) {
  const xla::XlaOp call = xla::CustomCallWithLayout(
      context->builder(), name, inputs.values, xla::ShapeUtil::MakeTupleShape(results),
      inputs.operands, attributes, /*has_side_effect=*/false, /*output_operand_aliasing=*/{},
      /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
  for (int i = 0; i < context->num_outputs(); ++i) {
    context->SetOutput(i, xla::GetTupleElement(call, i));
  }
}

}  // namespace tf_plr

#endif  // TF_PLR_XLA_XLA_CALL_BUILDER_H_
