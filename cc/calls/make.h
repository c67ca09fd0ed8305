// SPDX-License-Identifier: MIT
// Makes the call of each op. Call::Make selects the maker by the name of the op.
#ifndef TF_PLR_CALLS_MAKE_H_
#define TF_PLR_CALLS_MAKE_H_

#include <memory>
#include <utility>

#include "cc/calls/call.h"
#include "cc/engine/problem.h"

namespace tf_plr {

#define TF_PLR_DECLARE(Op, FOR_EACH) \
  Status Make##Op(const Attributes& attributes, std::unique_ptr<Call>* call);
TF_PLR_FOR_EACH_OP(TF_PLR_DECLARE)
#undef TF_PLR_DECLARE

// Attributes that several ops have.
Status ReadAlgorithm(const Attributes& attributes, Algorithm* algorithm);
// Reads whether an optional input is given. `count` names the attribute that counts it: 0 or 1.
Status ReadOptionalInput(const Attributes& attributes, const char* count, const char* input,
                         bool* given);
// Plan's first check: how many inputs there are, and of which type the first is.
Status CheckInputs(const Buffers& inputs, size_t count, bool gated);

// Plan's check of an input; a null input passes. `what` describes the shape in the words of the
// op's documentation.
Status CheckInput(const char* name, const Buffer* input, DType type, const char* what,
                  const Shape& shape);

// Makes a call of a class, which reads its attributes.
template <typename SomeCall>
Status MakeCall(const Attributes& attributes, std::unique_ptr<Call>* call) {
  auto made = std::make_unique<SomeCall>();
  TF_PLR_RETURN_IF_ERROR(made->Read(attributes));
  *call = std::move(made);
  return {};
}

#define TF_PLR_DEFINE_MAKER(Op, SomeCall)                                      \
  Status Make##Op(const Attributes& attributes, std::unique_ptr<Call>* call) { \
    return MakeCall<SomeCall>(attributes, call);                               \
  }

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_MAKE_H_
