// SPDX-License-Identifier: MIT
// Checks that shape functions share.
#ifndef TF_PLR_TENSORFLOW_CHECK_SHAPE_H_
#define TF_PLR_TENSORFLOW_CHECK_SHAPE_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_plr {

// Returns an error if `shape` is known to differ from `expected`. Does not merge the two:
// TensorFlow would then take the batch size of a state for that of the inputs, and would remove
// whatever compares them.
inline absl::Status CheckShape(tensorflow::shape_inference::InferenceContext* c, const char* name,
                               tensorflow::shape_inference::ShapeHandle shape,
                               const char* expected_name,
                               tensorflow::shape_inference::ShapeHandle expected) {
  if (!c->RankKnown(shape)) return absl::OkStatus();
  bool fits = c->Rank(shape) == c->Rank(expected);
  for (int i = 0; fits && i < c->Rank(shape); ++i) {
    const auto size = c->Dim(shape, i), wanted = c->Dim(expected, i);
    fits = !c->ValueKnown(size) || !c->ValueKnown(wanted) || c->Value(size) == c->Value(wanted);
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ", expected_name,
                                                 c->DebugString(expected), ", but has shape ",
                                                 c->DebugString(shape)));
}

// Checks the optional inputs mask and resets.
inline absl::Status CheckFlags(tensorflow::shape_inference::InferenceContext* c,
                               tensorflow::shape_inference::ShapeHandle expected) {
  for (const char* name : {"mask", "resets"}) {
    std::vector<tensorflow::shape_inference::ShapeHandle> flags;
    TF_RETURN_IF_ERROR(c->input(name, &flags));
    if (!flags.empty()) TF_RETURN_IF_ERROR(CheckShape(c, name, flags[0], "", expected));
  }
  return absl::OkStatus();
}

}  // namespace tf_plr

#endif  // TF_PLR_TENSORFLOW_CHECK_SHAPE_H_
