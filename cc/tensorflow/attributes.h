// SPDX-License-Identifier: MIT
// Translates attributes, data types and errors between TensorFlow and this library's calls.
#ifndef TF_PLR_TENSORFLOW_ATTRIBUTES_H_
#define TF_PLR_TENSORFLOW_ATTRIBUTES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cc/calls/call.h"
#include "tensorflow/core/framework/op_kernel.h"

// Registers a kernel for an op and all its types.
#define TF_PLR_TYPE(type, element, dtype, ...) tensorflow::dtype,
#define TF_PLR_REGISTER_KERNEL(Op, FOR_EACH, DEVICE, Kernel) \
  REGISTER_KERNEL_BUILDER(                                   \
      Name("TfPlr>" #Op).Device(DEVICE).TypeConstraint("T", {FOR_EACH(TF_PLR_TYPE)}), Kernel);

namespace tf_plr {

// The attributes of a node in a graph.
class NodeAttributes : public Attributes {
 public:
  explicit NodeAttributes(tensorflow::OpKernelConstruction* context) : context_(context) {}

  int64_t Int(const char* name, int64_t otherwise) const override {
    int64_t number;
    bool boolean;
    if (!context_->HasAttr(name)) return otherwise;
    if (context_->GetAttr(name, &number).ok()) return number;
    return context_->GetAttr(name, &boolean).ok() ? boolean : otherwise;
  }
  float Float(const char* name, float otherwise) const override {
    float number;
    return context_->HasAttr(name) && context_->GetAttr(name, &number).ok() ? number : otherwise;
  }
  std::vector<int64_t> Ints(const char* name) const override {
    std::vector<int64_t> numbers;
    return context_->GetAttr(name, &numbers).ok() ? numbers : std::vector<int64_t>();
  }
  std::string String(const char* name, const char* otherwise) const override {
    std::string text;
    return context_->HasAttr(name) && context_->GetAttr(name, &text).ok() ? text : otherwise;
  }

 private:
  tensorflow::OpKernelConstruction* const context_;
};

inline DType FromTensorFlow(tensorflow::DataType type) {
  switch (type) {
#define TF_PLR_CASE(type, element, tf, ...) \
  case tensorflow::tf:                      \
    return DType::type;
    TF_PLR_FOR_EACH_TYPE(TF_PLR_CASE)
#undef TF_PLR_CASE
    case tensorflow::DT_BOOL:
      return DType::kBool;
    default:
      return DType::kOther;
  }
}

inline absl::Status ToTensorFlow(const Status& status) {
  switch (status.code) {
    case Status::kOk:
      return absl::OkStatus();
    case Status::kInvalidArgument:
      return absl::InvalidArgumentError(status.message);
    case Status::kResourceExhausted:
      return absl::ResourceExhaustedError(status.message);
    default:
      return absl::InternalError(status.message);
  }
}

inline Shape ShapeOf(const tensorflow::TensorShape& shape) {
  const auto sizes = shape.dim_sizes();
  return Shape(sizes.begin(), sizes.end());
}

// Checks that a node has the outputs that its call has: attributes may say otherwise.
template <typename Context>
absl::Status CheckOutputs(const Context& context, const Buffers& outputs) {
  bool same = context.num_outputs() == static_cast<int>(outputs.size());
  for (int i = 0; same && i < context.num_outputs(); ++i) {
    same = FromTensorFlow(context.expected_output_dtype(i)) == outputs[i].type;
  }
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError("the attributes do not fit the number or dtypes of outputs");
}

}  // namespace tf_plr

#endif  // TF_PLR_TENSORFLOW_ATTRIBUTES_H_
