// SPDX-License-Identifier: MIT
// The windows of a causal convolution and their gradient: signature, shape function, documentation.
#include <vector>

#include "absl/strings/str_cat.h"
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

// The shape function of both ops. The inputs are [batch, steps, ...], [batch, ...] and the
// flags of steps; the outputs are the same without the flags.
Status WindowsShape(InferenceContext* c, bool is_gradient) {
  const char* const names[] = {is_gradient ? "d_windows" : "inputs",
                               is_gradient ? "d_last_history" : "history"};
  ShapeHandle sequences, history;
  for (int i = 0; i < 2; ++i) {
    if (!c->WithRank(c->input(i), 3 - i, i == 0 ? &sequences : &history).ok()) {
      return InvalidArgumentError(StrCat(names[i], " must be of rank ", 3 - i, ", but has shape ",
                                         c->DebugString(c->input(i))));
    }
  }
  int64_t size;
  TF_RETURN_IF_ERROR(c->GetAttr("size", &size));
  const DimensionHandle batch = c->Dim(sequences, 0), steps = c->Dim(sequences, 1);
  DimensionHandle features = c->Dim(sequences, 2), window, before;
  if (is_gradient && !c->Divide(features, size, true, &features).ok()) {
    return InvalidArgumentError(StrCat("the last axis of d_windows must be ", size,
                                       " rows of one size, but has ", c->Value(features),
                                       " elements"));
  }
  TF_RETURN_IF_ERROR(c->Multiply(features, size, &window));
  TF_RETURN_IF_ERROR(c->Multiply(features, size - 1, &before));
  const ShapeHandle expected = c->MakeShape({batch, before});
  TF_RETURN_IF_ERROR(CheckShape(c, names[1], history, "", expected));
  TF_RETURN_IF_ERROR(CheckFlags(c, c->MakeShape({batch, steps})));
  c->set_output(0, c->MakeShape({batch, steps, is_gradient ? features : window}));
  c->set_output(1, expected);
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TfPlr>CausalWindows")
    .Input("inputs: T")
    .Input("history: T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("windows: T")
    .Output("last_history: T")
    .Attr(GatedTypeAttr())
    .Attr("num_masks: int >= 0")
    .Attr("num_resets: int >= 0")
    .Attr("size: int >= 2")
    .SetShapeFn([](InferenceContext* c) { return WindowsShape(c, false); })
    .Doc(R"doc(
Places each step's input beside the inputs before it. The product of this matrix and a kernel
[size * features, filters] is a causal convolution.

Steps where mask is false are in no window, as if they were not there; their own windows are zeros.

inputs: [batch, steps, features].
history: [batch, (size - 1) * features]: the inputs before the first, oldest first.
mask: At most one tensor, [batch, steps], false where a step is masked. None: no step is.
resets: At most one tensor, [batch, steps], true where a step is the first of a new sequence. In the
  windows from there on, inputs before it are zeros. None: no step is.
windows: [batch, steps, size * features]: the last `size` inputs, oldest first.
last_history: The last size - 1 inputs, laid out as history.
size: Inputs in a window.
)doc");

REGISTER_OP("TfPlr>CausalWindowsGrad")
    .Input("d_windows: T")
    .Input("d_last_history: T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("d_inputs: T")
    .Output("d_history: T")
    .Attr(GatedTypeAttr())
    .Attr("num_masks: int >= 0")
    .Attr("num_resets: int >= 0")
    .Attr("size: int >= 2")
    .SetShapeFn([](InferenceContext* c) { return WindowsShape(c, true); })
    .Doc(R"doc(
The gradients of CausalWindows. The gradient of an input is the sum over all places where the input
appears, in float and in a fixed order.

d_windows: The gradient with respect to windows.
d_last_history: With respect to last_history.
mask, resets: As given to CausalWindows.
d_inputs: With respect to inputs; zeros where a step is masked.
d_history: With respect to history.
size: As of CausalWindows.
)doc");

}  // namespace tf_plr
