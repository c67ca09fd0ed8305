// SPDX-License-Identifier: MIT
// The shapes of the arguments and results of ops that know each of their axes.
#ifndef TF_PLR_KERNELS_SHAPES_H_
#define TF_PLR_KERNELS_SHAPES_H_

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_plr {

// Checks an input against the shape that it must have.
inline absl::Status Expect(const char* name, const tensorflow::TensorShape& shape,
                           const std::vector<int64_t>& expected, const char* said) {
  bool same = shape.dims() == static_cast<int>(expected.size());
  for (int i = 0; same && i < shape.dims(); ++i) same = shape.dim_size(i) == expected[i];
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ", said, ", [",
                                                 absl::StrJoin(expected, ","), "], but has shape ",
                                                 shape.DebugString()));
}

// Appends a shape, which may be larger than a tensor can be.
inline absl::Status Append(const std::vector<int64_t>& sizes,
                           std::vector<tensorflow::TensorShape>* shapes) {
  shapes->emplace_back();
  return tensorflow::TensorShape::BuildTensorShape(sizes, &shapes->back());
}

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_SHAPES_H_
