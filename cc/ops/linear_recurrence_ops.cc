// SPDX-License-Identifier: MIT
// The two ops: signature, shape function, documentation.
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_plr {
namespace {

using absl::InvalidArgumentError;
using absl::Status;
using absl::StrCat;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Merges two input shapes that must agree; an error names both arguments.
Status MergeNamed(InferenceContext* c, const char* name, ShapeHandle shape,
                  const char* expected_name, ShapeHandle expected, ShapeHandle* merged) {
  if (!c->Merge(expected, shape, merged).ok()) {
    return InvalidArgumentError(StrCat(name, " must have the shape of ", expected_name, ", ",
                                       c->DebugString(expected), ", but has shape ",
                                       c->DebugString(shape)));
  }
  return absl::OkStatus();
}

// Checks `axis` against `steps_shape`; sets the shape without that axis.
Status WithoutAxis(InferenceContext* c, ShapeHandle steps_shape, ShapeHandle* columns_shape) {
  *columns_shape = c->UnknownShape();
  if (!c->RankKnown(steps_shape)) return absl::OkStatus();
  const int rank = c->Rank(steps_shape);
  if (rank < 1) {
    return InvalidArgumentError("decays must have at least one axis, but is a scalar");
  }
  int axis;
  TF_RETURN_IF_ERROR(c->GetAttr("axis", &axis));
  if (axis < -rank || axis >= rank) {
    return InvalidArgumentError(StrCat("axis must be in [", -rank, ", ", rank,
                                       ") for decays of rank ", rank, ", but is ", axis));
  }
  if (axis < 0) axis += rank;
  ShapeHandle before, after;
  TF_RETURN_IF_ERROR(c->Subshape(steps_shape, 0, axis, &before));
  TF_RETURN_IF_ERROR(c->Subshape(steps_shape, axis + 1, &after));
  return c->Concatenate(before, after, columns_shape);
}

// Merges initial_state, if given, into `columns_shape`.
Status MergeInitialState(InferenceContext* c, ShapeHandle* columns_shape) {
  std::vector<ShapeHandle> initial_state;
  TF_RETURN_IF_ERROR(c->input("initial_state", &initial_state));
  if (initial_state.size() > 1) {
    return InvalidArgumentError(
        StrCat("initial_state must be at most one tensor, but ", initial_state.size(), " came"));
  }
  if (initial_state.empty()) return absl::OkStatus();
  return MergeNamed(c, "initial_state", initial_state[0], "impulses without axis", *columns_shape,
                    columns_shape);
}

Status RecurrenceShape(InferenceContext* c) {
  ShapeHandle steps_shape, columns_shape;
  TF_RETURN_IF_ERROR(MergeNamed(c, "impulses", c->input(1), "decays", c->input(0), &steps_shape));
  TF_RETURN_IF_ERROR(WithoutAxis(c, steps_shape, &columns_shape));
  TF_RETURN_IF_ERROR(MergeInitialState(c, &columns_shape));
  c->set_output(0, steps_shape);
  return absl::OkStatus();
}

Status RecurrenceGradShape(InferenceContext* c) {
  ShapeHandle steps_shape, columns_shape;
  TF_RETURN_IF_ERROR(MergeNamed(c, "states", c->input(1), "decays", c->input(0), &steps_shape));
  TF_RETURN_IF_ERROR(MergeNamed(c, "d_states", c->input(2), "decays", steps_shape, &steps_shape));
  TF_RETURN_IF_ERROR(WithoutAxis(c, steps_shape, &columns_shape));
  TF_RETURN_IF_ERROR(MergeInitialState(c, &columns_shape));
  c->set_output(0, steps_shape);
  c->set_output(1, steps_shape);
  for (int i = 2; i < c->num_outputs(); ++i) c->set_output(i, columns_shape);
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TfPlr>LinearRecurrence")
    .Input("decays: T")
    .Input("impulses: T")
    .Input("initial_state: num_initial_states * T")
    .Output("states: T")
    .Attr("T: {half, bfloat16, float, double, complex64, complex128}")
    .Attr("num_initial_states: int >= 0")
    .Attr("axis: int = 0")
    .Attr("reverse: bool = false")
    .Attr("algorithm: {'auto', 'parallel', 'serial'} = 'auto'")
    .SetShapeFn(RecurrenceShape)
    .Doc(R"doc(
Elementwise linear recurrence along one axis.

  states[t] = decays[t] * states[t - 1] + impulses[t],   states[-1] = initial_state

where t counts along `axis`, from its end if `reverse`. Steps are affine maps of the state and so
compose associatively, which is what makes the recurrence parallel in t.

Martin and Cundy, Parallelizing Linear Recurrent Neural Nets Over Sequence Length,
ICLR 2018, section 2.

decays: [..., steps, ...], any rank from 1, any size from 0.
impulses: Shape of decays.
initial_state: At most one tensor, of the shape of impulses without `axis`. None: zeros.
states: Shape of decays: the state after each step. half and bfloat16 are accumulated in float.
axis: In [-rank, rank).
reverse: Start at the last step.
algorithm: 'serial' walks the steps, parallel over columns; 'parallel' also splits the steps:
  reduce, scan, rescan; 'auto' picks by shape.
)doc");

REGISTER_OP("TfPlr>LinearRecurrenceGrad")
    .Input("decays: T")
    .Input("states: T")
    .Input("d_states: T")
    .Input("initial_state: num_initial_states * T")
    .Output("d_decays: T")
    .Output("d_impulses: T")
    .Output("d_initial_state: num_initial_states * T")
    .Attr("T: {half, bfloat16, float, double, complex64, complex128}")
    .Attr("num_initial_states: int >= 0")
    .Attr("axis: int = 0")
    .Attr("reverse: bool = false")
    .Attr("algorithm: {'auto', 'parallel', 'serial'} = 'auto'")
    .SetShapeFn(RecurrenceGradShape)
    .Doc(R"doc(
Gradients of LinearRecurrence, in one pass against its direction.

  d_impulses[t]   = conj(decays[t + 1]) * d_impulses[t + 1] + d_states[t]
  d_decays[t]     = conj(states[t - 1]) * d_impulses[t],   states[-1] = initial_state
  d_initial_state = conj(decays[0]) * d_impulses[0]

decays: As given to LinearRecurrence.
states: As returned by LinearRecurrence.
d_states: The gradient of the loss by states.
initial_state: As given to LinearRecurrence.
axis: As given to LinearRecurrence.
reverse: As given to LinearRecurrence.
algorithm: As for LinearRecurrence.
)doc");

}  // namespace tf_plr
