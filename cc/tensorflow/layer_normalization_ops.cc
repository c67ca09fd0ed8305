// SPDX-License-Identifier: MIT
// Layer normalisation and its gradient: signature, shape function, documentation.
#include <vector>

#include "cc/tensorflow/check_shape.h"
#include "cc/tensorflow/signatures.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_plr {
namespace {

using absl::InvalidArgumentError;
using absl::Status;
using absl::StrCat;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Checks the inputs of both ops; sets `rows` and the shapes that follow from them.
Status CheckRows(InferenceContext* c, ShapeHandle* rows, ShapeHandle* scale,
                 ShapeHandle* statistics) {
  *rows = c->input(0);
  *scale = c->Vector(InferenceContext::kUnknownDim);
  *statistics = c->UnknownShape();
  if (c->RankKnown(*rows)) {
    const bool has_features = c->Rank(*rows) > 0;
    const DimensionHandle features = has_features ? c->Dim(*rows, -1) : c->MakeDim(0);
    if (c->ValueKnown(features) && c->Value(features) == 0) {
      return InvalidArgumentError(
          StrCat("inputs must have at least one feature, but have shape ", c->DebugString(*rows)));
    }
    *scale = c->Vector(features);
    TF_RETURN_IF_ERROR(c->ReplaceDim(*rows, -1, c->MakeDim(2), statistics));
  }
  return CheckShape(c, "scale", c->input(1), "[features] = ", *scale);
}

}  // namespace

REGISTER_OP("TfPlr>LayerNormalization")
    .Input("inputs: T")
    .Input("scale: float")
    .Input("bias: num_biases * float")
    .Output("outputs: T")
    .Output("statistics: float")
    .Attr(GatedTypeAttr())
    .Attr("num_biases: int >= 0")
    .Attr("epsilon: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle rows, scale, statistics;
      TF_RETURN_IF_ERROR(CheckRows(c, &rows, &scale, &statistics));
      std::vector<ShapeHandle> bias;
      TF_RETURN_IF_ERROR(c->input("bias", &bias));
      if (!bias.empty()) TF_RETURN_IF_ERROR(CheckShape(c, "bias", bias[0], "[features] = ", scale));
      c->set_output(0, rows);
      c->set_output(1, statistics);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Normalises over the last axis: scale * (inputs - mean) / sqrt(variance + epsilon) + bias.

Sums are float, whatever T is.

inputs: [..., features], with at least one feature.
scale: [features].
bias: At most one tensor, [features]. None: zeros.
outputs: As inputs.
statistics: [..., 2]: mean and 1 / sqrt(variance + epsilon), for the gradient. They have no gradient
  themselves.
epsilon: Added to the variance. Finite, 0 or more.
)doc");

REGISTER_OP("TfPlr>LayerNormalizationGrad")
    .Input("inputs: T")
    .Input("scale: float")
    .Input("statistics: float")
    .Input("d_outputs: T")
    .Output("d_inputs: T")
    .Output("d_scale: float")
    .Output("d_bias: num_biases * float")
    .Attr(GatedTypeAttr())
    .Attr("num_biases: int >= 0")
    .Attr("epsilon: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle rows, scale, statistics;
      TF_RETURN_IF_ERROR(CheckRows(c, &rows, &scale, &statistics));
      if (c->RankKnown(rows)) {
        TF_RETURN_IF_ERROR(CheckShape(c, "statistics", c->input(2), "", statistics));
        TF_RETURN_IF_ERROR(CheckShape(c, "d_outputs", c->input(3), "", rows));
      }
      c->set_output(0, rows);
      for (int i = 1; i < c->num_outputs(); ++i) c->set_output(i, scale);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradients of LayerNormalization. Sums are float. A GPU adds the features of a row in an order
that also depends on how arrays are aligned.

inputs: As given to LayerNormalization.
scale: As given to LayerNormalization.
statistics: As returned by LayerNormalization.
d_outputs: The gradient with respect to outputs.
d_inputs: With respect to inputs.
d_scale: With respect to scale.
d_bias: With respect to bias, if there is one.
epsilon: As of LayerNormalization. The statistics contain it, so only second derivatives use it.
)doc");

}  // namespace tf_plr
