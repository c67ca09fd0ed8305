// SPDX-License-Identifier: MIT
// The ops of the recurrence: signature, shape function, documentation.
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

// Decays have the shape of the steps, or size 1 on axes where they do not. Merges into that shape
// what is known of it from the decays.
Status MergeDecays(InferenceContext* c, const char* expected_name, ShapeHandle* steps_shape) {
  const ShapeHandle decays = c->input(0);
  if (!c->RankKnown(decays)) return absl::OkStatus();
  const int rank = c->Rank(decays);
  std::vector<DimensionHandle> sizes;
  bool fits = !c->RankKnown(*steps_shape) || c->Rank(*steps_shape) == rank;
  for (int i = 0; fits && i < rank; ++i) {
    DimensionHandle size = c->RankKnown(*steps_shape) ? c->Dim(*steps_shape, i) : c->UnknownDim();
    if (c->ValueKnown(c->Dim(decays, i)) && c->Value(c->Dim(decays, i)) != 1) {
      fits = c->Merge(size, c->Dim(decays, i), &size).ok();
    }
    sizes.push_back(size);
  }
  if (!fits) {
    return InvalidArgumentError(
        StrCat("decays must have the shape of ", expected_name, ", ", c->DebugString(*steps_shape),
               ", or size 1 on axes where they differ, but has shape ", c->DebugString(decays)));
  }
  *steps_shape = c->MakeShape(sizes);
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

// Merges a state, if given, into `columns_shape`.
Status MergeState(InferenceContext* c, const char* name, ShapeHandle* columns_shape) {
  std::vector<ShapeHandle> states;
  TF_RETURN_IF_ERROR(c->input(name, &states));
  if (states.size() > 1) {
    return InvalidArgumentError(
        StrCat(name, " must be at most one tensor, but ", states.size(), " came"));
  }
  if (states.empty()) return absl::OkStatus();
  return MergeNamed(c, name, states[0], "impulses without axis", *columns_shape, columns_shape);
}

// Checks the flags of steps, which have the shape of the steps up to and including the axis.
Status CheckStepFlags(InferenceContext* c, ShapeHandle steps_shape) {
  ShapeHandle expected = c->UnknownShape();
  if (!c->RankKnown(steps_shape)) return absl::OkStatus();
  int axis;
  TF_RETURN_IF_ERROR(c->GetAttr("axis", &axis));
  if (axis < 0) axis += c->Rank(steps_shape);
  TF_RETURN_IF_ERROR(c->Subshape(steps_shape, 0, axis + 1, &expected));
  return CheckFlags(c, expected);
}

Status RecurrenceShape(InferenceContext* c) {
  ShapeHandle steps_shape = c->input(1), columns_shape;
  TF_RETURN_IF_ERROR(MergeDecays(c, "impulses", &steps_shape));
  TF_RETURN_IF_ERROR(WithoutAxis(c, steps_shape, &columns_shape));
  TF_RETURN_IF_ERROR(MergeState(c, "initial_state", &columns_shape));
  TF_RETURN_IF_ERROR(CheckStepFlags(c, steps_shape));
  c->set_output(0, steps_shape);
  return absl::OkStatus();
}

Status RecurrenceGradShape(InferenceContext* c) {
  ShapeHandle steps_shape, columns_shape;
  TF_RETURN_IF_ERROR(MergeNamed(c, "d_states", c->input(2), "states", c->input(1), &steps_shape));
  TF_RETURN_IF_ERROR(MergeDecays(c, "states", &steps_shape));
  TF_RETURN_IF_ERROR(WithoutAxis(c, steps_shape, &columns_shape));
  TF_RETURN_IF_ERROR(MergeState(c, "initial_state", &columns_shape));
  TF_RETURN_IF_ERROR(MergeState(c, "d_last_state", &columns_shape));
  TF_RETURN_IF_ERROR(CheckStepFlags(c, steps_shape));
  c->set_output(0, c->input(0));
  c->set_output(1, steps_shape);
  for (int i = 2; i < c->num_outputs(); ++i) c->set_output(i, columns_shape);
  return absl::OkStatus();
}

Status TransitionShape(InferenceContext* c) {
  ShapeHandle steps_shape = c->input(1), columns_shape;
  TF_RETURN_IF_ERROR(MergeDecays(c, "impulses", &steps_shape));
  TF_RETURN_IF_ERROR(WithoutAxis(c, steps_shape, &columns_shape));
  TF_RETURN_IF_ERROR(CheckStepFlags(c, steps_shape));
  ShapeHandle transition;
  TF_RETURN_IF_ERROR(c->Concatenate(c->Vector(2), columns_shape, &transition));
  c->set_output(0, transition);
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TfPlr>LinearRecurrence")
    .Input("decays: T")
    .Input("impulses: T")
    .Input("initial_state: num_initial_states * T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("states: T")
    .Attr(TypeAttr())
    .Attr("num_initial_states: int >= 0")
    .Attr("num_masks: int >= 0 = 0")
    .Attr("num_resets: int >= 0 = 0")
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

decays: The shape of impulses, or size 1 on axes where they differ: the decays are then broadcast.
impulses: [..., steps, ...], any rank from 1, any size from 0.
initial_state: At most one tensor, of the shape of impulses without `axis`. None: zeros.
mask: At most one tensor, of the shape of impulses up to and including `axis`, false where a step is
  masked: it repeats the state before it, whatever its decays and impulses are. None: no step is.
resets: At most one tensor, of the same shape, true where a step, masked or not, is the first of a
  new sequence: the state before it is 0, and nothing else passes from one sequence to the next.
  None: no step is.
states: Shape of impulses: the state after each step. half and bfloat16 are accumulated in float.
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
    .Input("d_last_state: num_d_last_states * T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("d_decays: T")
    .Output("d_impulses: T")
    .Output("d_initial_state: num_initial_states * T")
    .Attr(TypeAttr())
    .Attr("num_initial_states: int >= 0")
    .Attr("num_d_last_states: int >= 0 = 0")
    .Attr("num_masks: int >= 0 = 0")
    .Attr("num_resets: int >= 0 = 0")
    .Attr("axis: int = 0")
    .Attr("reverse: bool = false")
    .Attr("algorithm: {'auto', 'parallel', 'serial'} = 'auto'")
    .SetShapeFn(RecurrenceGradShape)
    .Doc(R"doc(
Gradients of LinearRecurrence, in one pass against its direction.

  d_impulses[t]   = conj(decays[t + 1]) * d_impulses[t + 1] + d_states[t],
                    for the last t: d_last_state + d_states[t]
  d_decays[t]     = conj(states[t - 1]) * d_impulses[t],   states[-1] = initial_state
  d_initial_state = conj(decays[0]) * d_impulses[0]

If decays are broadcast, d_decays is the sum over the axes where they have size 1. The gradients of
masked steps' decays and impulses are 0, and so are those of the decays of resets.

decays: As given to LinearRecurrence.
states: As returned by LinearRecurrence.
d_states: The gradient with respect to states.
initial_state: As given to LinearRecurrence.
d_last_state: At most one tensor, of the shape of initial_state, added to the last of d_states.
  None: zeros.
mask, resets: As given to LinearRecurrence.
axis: As given to LinearRecurrence.
reverse: As given to LinearRecurrence.
algorithm: As for LinearRecurrence.
)doc");

REGISTER_OP("TfPlr>LinearRecurrenceTransition")
    .Input("decays: T")
    .Input("impulses: T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("transition: A")
    .Attr(TypeAttr())
    .Attr(SumTypeAttr())
    .Attr("num_masks: int >= 0 = 0")
    .Attr("num_resets: int >= 0 = 0")
    .Attr("axis: int = 0")
    .Attr("reverse: bool = false")
    .Attr("gradient: bool = false")
    .SetShapeFn(TransitionShape)
    .Doc(R"doc(
The transition of all steps of LinearRecurrence, in one pass that writes no step:

  last_state = transition[0] * initial_state + transition[1]

decays: As for LinearRecurrence.
impulses: As for LinearRecurrence; with `gradient`, d_states.
mask, resets: As for LinearRecurrence.
transition: [2, ...], where ... is the shape of impulses without `axis`.
A: float if T is half or bfloat16; otherwise T.
axis: As for LinearRecurrence.
reverse: As for LinearRecurrence, with `gradient` too.
gradient: Whether to compute the transition of LinearRecurrenceGrad instead:
  d_initial_state = transition[0] * d_last_state + transition[1].
)doc");

}  // namespace tf_plr
