// SPDX-License-Identifier: MIT
// The recurrence and its gradient as the kernels see them, with or without XLA: attributes, shapes.
#ifndef TF_PLR_KERNELS_NATIVE_OPS_H_
#define TF_PLR_KERNELS_NATIVE_OPS_H_

#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/engine/problem.h"
#include "cc/kernels/recurrence_ops.h"
#include "cc/kernels/types.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_plr {

inline absl::Status ReadAlgorithm(tensorflow::OpKernelConstruction* context, Algorithm* algorithm) {
  std::string name;
  TF_RETURN_IF_ERROR(context->GetAttr("algorithm", &name));
  if (name == "auto") {
    *algorithm = Algorithm::kAuto;
  } else if (name == "parallel") {
    *algorithm = Algorithm::kParallel;
  } else if (name == "serial") {
    *algorithm = Algorithm::kSerial;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("algorithm must be 'auto', 'parallel' or 'serial', but is '", name, "'"));
  }
  return absl::OkStatus();
}

struct Attributes {
  int axis;
  bool reverse;
  Algorithm algorithm;
  bool has_initial_state, has_d_last_state;

  static absl::Status Read(tensorflow::OpKernelConstruction* context, Attributes* attributes) {
    TF_RETURN_IF_ERROR(context->GetAttr("axis", &attributes->axis));
    TF_RETURN_IF_ERROR(context->GetAttr("reverse", &attributes->reverse));
    TF_RETURN_IF_ERROR(ReadCount(context, "initial_state", &attributes->has_initial_state));
    TF_RETURN_IF_ERROR(ReadCount(context, "d_last_state", &attributes->has_d_last_state));
    return ReadAlgorithm(context, &attributes->algorithm);
  }

 private:
  // Of an input that an op may have once.
  static absl::Status ReadCount(tensorflow::OpKernelConstruction* context, const char* input,
                                bool* is_given) {
    const std::string attribute = absl::StrCat("num_", input, "s");
    int count = 0;
    if (context->HasAttr(attribute)) TF_RETURN_IF_ERROR(context->GetAttr(attribute, &count));
    *is_given = count > 0;
    if (count <= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(input, " must be at most one tensor, but ", count, " came"));
  }
};

inline absl::Status CheckShape(const char* name, const tensorflow::TensorShape& shape,
                               const char* expected_name, const tensorflow::TensorShape& expected) {
  if (shape == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must have the shape of ", expected_name,
                                                 ", ", expected.DebugString(), ", but has shape ",
                                                 shape.DebugString()));
}

// Checks a state; sets the shape of steps_shape without axis.
inline absl::Status CheckState(const char* name, const tensorflow::TensorShape& steps_shape,
                               int axis, const tensorflow::TensorShape& state,
                               tensorflow::TensorShape* columns_shape) {
  *columns_shape = steps_shape;
  if (!columns_shape->RemoveDimWithStatus(axis).ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " must have the shape of impulses, ", steps_shape.DebugString(), ", without axis ",
        axis, ", which is more than a tensor can have, but has shape ", state.DebugString()));
  }
  return CheckShape(name, state, "impulses without axis", *columns_shape);
}

// The axis as a number from 0 on.
inline absl::Status CheckAxis(int axis, int rank, int* from_zero) {
  if (rank < 1) {
    return absl::InvalidArgumentError("decays must have at least one axis, but is a scalar");
  }
  *from_zero = axis < 0 ? axis + rank : axis;
  if (axis >= -rank && axis < rank) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("axis must be in [", -rank, ", ", rank,
                                                 ") for decays of rank ", rank, ", but is ", axis));
}

// The problem that has these axes. Where there is nothing to read or write it is 0 x 0 x 0: a
// tensor without elements may have other axes whose product no integer holds.
inline Problem ProblemOf(const tensorflow::TensorShape& shape, int axis, bool has_initial_state,
                         bool reverse) {
  bool no_columns = false;
  for (int i = 0; i < shape.dims(); ++i) no_columns |= i != axis && shape.dim_size(i) == 0;
  const int64_t steps = shape.dim_size(axis);
  if (no_columns || (steps == 0 && !has_initial_state)) return {0, 0, 0, reverse};
  Problem problem{1, steps, 1, reverse};
  for (int i = 0; i < axis; ++i) problem.outer *= shape.dim_size(i);
  for (int i = axis + 1; i < shape.dims(); ++i) problem.inner *= shape.dim_size(i);
  return problem;
}

// Checks the shapes of all inputs; sets the problem, and the shapes of all outputs.
template <typename Op>
absl::Status ReadShapes(const std::vector<tensorflow::TensorShape>& inputs,
                        const Attributes& attributes, Problem* problem,
                        std::vector<tensorflow::TensorShape>* outputs) {
  constexpr size_t kStepInputs = std::size(Op::kStepInputs);
  const tensorflow::TensorShape& steps_shape = inputs[0];
  int axis;
  TF_RETURN_IF_ERROR(CheckAxis(attributes.axis, steps_shape.dims(), &axis));
  for (size_t i = 1; i < kStepInputs; ++i) {
    TF_RETURN_IF_ERROR(CheckShape(Op::kStepInputs[i], inputs[i], "decays", steps_shape));
  }
  outputs->assign(Op::kStepOutputs, steps_shape);
  tensorflow::TensorShape columns_shape;
  size_t next = kStepInputs;
  const bool has_initial_state = attributes.has_initial_state;
  if (has_initial_state) {
    TF_RETURN_IF_ERROR(
        CheckState("initial_state", steps_shape, axis, inputs[next++], &columns_shape));
    if (Op::kReturnsFinalCarry) outputs->push_back(columns_shape);
  }
  if (attributes.has_d_last_state) {
    TF_RETURN_IF_ERROR(CheckState("d_last_state", steps_shape, axis, inputs[next], &columns_shape));
  }
  *problem =
      ProblemOf(steps_shape, axis, has_initial_state, attributes.reverse != Op::kAgainstTime);
  return absl::OkStatus();
}

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_NATIVE_OPS_H_
