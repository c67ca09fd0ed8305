// SPDX-License-Identifier: MIT
#include "cc/calls/make.h"

namespace tf_plr {

Status Call::Make(const std::string& op, const Attributes& attributes,
                  std::unique_ptr<Call>* call) {
#define TF_PLR_MAKE(Op, FOR_EACH) \
  if (op == "TfPlr>" #Op) return Make##Op(attributes, call);
  TF_PLR_FOR_EACH_OP(TF_PLR_MAKE)
#undef TF_PLR_MAKE
  return InvalidArgument("tf_plr has no op '", op, "'");
}

Status ReadAlgorithm(const Attributes& attributes, Algorithm* algorithm) {
  const std::string name = attributes.String("algorithm", "auto");
  if (name != "auto" && name != "parallel" && name != "serial") {
    return InvalidArgument("algorithm must be 'auto', 'parallel' or 'serial', but is '", name, "'");
  }
  *algorithm = name == "auto"       ? Algorithm::kAuto
               : name == "parallel" ? Algorithm::kParallel
                                    : Algorithm::kSerial;
  return {};
}

Status ReadOptionalInput(const Attributes& attributes, const char* count, const char* input,
                         bool* given) {
  const int64_t number = attributes.Int(count, 0);
  *given = number > 0;
  if (number == 0 || number == 1) return {};
  return InvalidArgument(input, " must be at most one tensor, but is ", number, " tensors");
}

Status CheckInputs(const Buffers& inputs, size_t count, bool gated) {
  if (inputs.size() != count) {
    return InvalidArgument("the op takes ", count, " inputs, but got ", inputs.size());
  }
  const DType type = inputs[0].type;
  if (type < DType::kBool && (IsGated(type) || !gated)) return {};
  return InvalidArgument("the op does not support the dtype of its first input");
}

Status CheckInput(const char* name, const Buffer* input, DType type, const char* what,
                  const Shape& shape) {
  if (input == nullptr) return {};
  if (input->type != type) return InvalidArgument(name, " does not have the dtype it must have");
  if (input->shape == shape) return {};
  return InvalidArgument(name, " must have ", what, ", ", shape, ", but has shape ", input->shape);
}

}  // namespace tf_plr
