// SPDX-License-Identifier: MIT
// The gated ops: signature, shape function, documentation.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/calls/gated_cells.h"
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

struct Shapes {
  ShapeHandle product;
  DimensionHandle batch, steps, units, outputs_width;
};

// Checks the inputs that both ops have.
Status Common(InferenceContext* c, Shapes* shapes) {
  const ShapeHandle product = c->input(0);
  if (c->RankKnown(product) && c->Rank(product) != 3) {
    return InvalidArgumentError(
        StrCat("product must have shape [batch, steps, blocks * units], but has shape ",
               c->DebugString(product)));
  }
  TF_RETURN_IF_ERROR(c->WithRank(product, 3, &shapes->product));
  shapes->batch = c->Dim(shapes->product, 0);
  shapes->steps = c->Dim(shapes->product, 1);
  std::vector<int> blocks;
  TF_RETURN_IF_ERROR(c->GetAttr("blocks", &blocks));
  if (blocks.empty()) return InvalidArgumentError("blocks must not be empty");
  const DimensionHandle wide = c->Dim(shapes->product, 2);
  if (!c->Divide(wide, static_cast<int64_t>(blocks.size()), true, &shapes->units).ok()) {
    return InvalidArgumentError(StrCat("the last axis of product must be ", blocks.size(),
                                       " blocks of one size, but has ", c->Value(wide),
                                       " elements"));
  }
  shapes->outputs_width = shapes->units;

  std::vector<ShapeHandle> given;
  TF_RETURN_IF_ERROR(c->input("bias", &given));
  if (!given.empty() && !c->WithRank(given[0], 1, &given[0]).ok()) {
    return InvalidArgumentError(
        StrCat("bias must have shape [blocks * units], but has shape ", c->DebugString(given[0])));
  }
  TF_RETURN_IF_ERROR(c->input("highway", &given));
  if (!given.empty()) {
    TF_RETURN_IF_ERROR(CheckShape(c, "highway", given[0], "",
                                  c->MakeShape({shapes->batch, shapes->steps, shapes->units})));
  }
  TF_RETURN_IF_ERROR(c->input("prefix", &given));
  if (!given.empty()) {
    TF_RETURN_IF_ERROR(CheckShape(c, "prefix", given[0], "",
                                  c->MakeShape({shapes->batch, shapes->steps, c->UnknownDim()})));
    const DimensionHandle features = c->RankKnown(given[0]) ? c->Dim(given[0], 2) : c->UnknownDim();
    shapes->outputs_width = c->UnknownDim();
    if (c->ValueKnown(features) && c->ValueKnown(shapes->units)) {
      shapes->outputs_width =
          c->MakeDim(PaddedPrefix(c->Value(features)) + c->Value(shapes->units));
    }
  }
  // GatedRecurrenceTransition has no initial_state.
  if (c->input("initial_state", &given).ok() && !given.empty()) {
    TF_RETURN_IF_ERROR(
        CheckShape(c, "initial_state", given[0], "", c->MakeShape({shapes->batch, shapes->units})));
  }
  return CheckFlags(c, c->MakeShape({shapes->batch, shapes->steps}));
}

Status GatedShape(InferenceContext* c) {
  Shapes s;
  TF_RETURN_IF_ERROR(Common(c, &s));
  c->set_output(0, c->MakeShape({s.batch, s.steps, s.outputs_width}));
  for (int i = 1; i + 1 < c->num_outputs(); ++i) {
    c->set_output(i, c->MakeShape({s.batch, s.steps, s.units}));
  }
  c->set_output(c->num_outputs() - 1, c->MakeShape({s.batch, s.units}));
  return absl::OkStatus();
}

Status GatedGradShape(InferenceContext* c) {
  Shapes s;
  TF_RETURN_IF_ERROR(Common(c, &s));
  c->set_output(0, s.product);
  int next = 1;
  std::vector<ShapeHandle> bias;
  TF_RETURN_IF_ERROR(c->input("bias", &bias));
  if (!bias.empty()) c->set_output(next++, bias[0]);
  for (; next + 1 < c->num_outputs(); ++next) {
    c->set_output(next, c->MakeShape({s.batch, s.steps, s.units}));
  }
  c->set_output(c->num_outputs() - 1, c->MakeShape({s.batch, s.units}));
  return absl::OkStatus();
}

Status GatedTransitionShape(InferenceContext* c) {
  Shapes s;
  TF_RETURN_IF_ERROR(Common(c, &s));
  c->set_output(0, c->MakeShape({c->MakeDim(2), s.batch, s.units}));
  return absl::OkStatus();
}

// An attribute that has one of several names.
template <size_t kCount>
std::string NameAttr(const char* attribute, const char* const (&names)[kCount]) {
  std::string list;
  for (const char* name : names) list += StrCat(list.empty() ? "" : ", ", "'", name, "'");
  return StrCat(attribute, ": {", list, "}");
}

}  // namespace

REGISTER_OP("TfPlr>GatedRecurrence")
    .Input("product: T")
    .Input("bias: num_biases * float")
    .Input("highway: num_highways * T")
    .Input("prefix: num_prefixes * T")
    .Input("initial_state: num_initial_states * float")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Output("outputs: T")
    .Output("states: num_states * T")
    .Output("last_state: float")
    .Attr(GatedTypeAttr())
    .Attr("num_biases: int >= 0")
    .Attr("num_highways: int >= 0")
    .Attr("num_prefixes: int >= 0")
    .Attr("num_initial_states: int >= 0")
    .Attr("num_masks: int >= 0")
    .Attr("num_resets: int >= 0")
    .Attr("num_states: int >= 0")
    .Attr(NameAttr("activation", kActivationNames))
    .Attr(NameAttr("state_activation", kActivationNames))
    .Attr(NameAttr("recurrent_activation", kGateNames))
    .Attr(NameAttr("input_gate", kInputGateNames))
    .Attr(NameAttr("output", kOutputNames))
    .Attr("blocks: list(int)")
    .Attr("hold: bool = false")
    .Attr("algorithm: {'auto', 'parallel', 'serial'} = 'auto'")
    .SetShapeFn(GatedShape)
    .Doc(R"doc(
The recurrence of a layer, including its gates and activations, computed from the matrix product of
the layer's inputs and kernel.

  f, i, o = recurrent_activation(blocks of product + bias)
  z = activation(block of product + bias)
  c[t] = f[t] * c[t - 1] + i[t] * z[t],   c[-1] = initial_state

  output       outputs
  'state'      c[t]
  'previous'   c[t - 1], after `prefix`
  'gated'      o[t] * state_activation(c[t])
  'highway'    o[t] * state_activation(c[t]) + (1 - o[t]) * x[t]

With input_gate 'coupled', product has no block for i, and i = 1 - f.

Where mask is false, c does not change. Outputs that are not states are 0 there; with `hold`, they
repeat the outputs of the last valid step of the sequence, if there is one. Gates, c and the recurrence are float,
whatever T is. With bfloat16 on a GPU, states within a block of up to 32 steps are rounded to
bfloat16, but neither last_state nor the states that one block passes to the next.

GILR (elu, 'state') and the surrogate of LinearSurrogateLSTM (tanh, 'previous'): Martin and Cundy,
Parallelizing Linear Recurrent Neural Nets Over Sequence Length, ICLR 2018, section 3. The poolings
f, fo and ifo (tanh, 'state' or 'gated'): Bradbury et al., Quasi-Recurrent Neural Networks, ICLR
2017. SRU (linear, 'highway'): Lei and Zhang, arXiv:1709.02755v1.

product: [batch, steps, blocks * units].
bias: At most one tensor, [blocks * units]; the block of a highway has none. None: zeros.
highway: At most one tensor, for output 'highway' only: x, [batch, steps, units]. None: x is the
  last block of product.
prefix: At most one tensor, for output 'previous' only: [batch, steps, features], copied in front of
  the outputs, and padded with zeros to a multiple of 8.
initial_state: At most one tensor, [batch, units]. None: zeros.
mask: At most one tensor, [batch, steps], false where a step is masked. None: no step is.
resets: At most one tensor, [batch, steps], true where a step, masked or not, is the first of a new
  sequence: the state before it is 0, and nothing else passes from one sequence to the next. None:
  no step is.
outputs: [batch, steps, units], after the prefix.
states: At most one tensor, for output 'gated' and 'highway' only, whose gradients need it: c[t - 1],
  [batch, steps, units].
last_state: [batch, units]: c after the last step.
activation: The activation of z. 'gelu_tanh' is the approximation of gelu with tanh.
state_activation: The activation of c in the outputs. 'linear' if output is 'state' or 'previous'.
recurrent_activation: The activation of the gates. 'hard_sigmoid' is x / 6 + 1 / 2, between 0 and 1.
input_gate: Whether i is 1 - f ('coupled') or has a block ('own').
output: See above.
blocks: The positions in product, counted in blocks, of f and z, then of i, o and x if there are
  such blocks.
hold: Whether masked steps repeat outputs: see above.
algorithm: As for LinearRecurrence.
)doc");

REGISTER_OP("TfPlr>GatedRecurrenceGrad")
    .Input("product: T")
    .Input("bias: num_biases * float")
    .Input("highway: num_highways * T")
    .Input("prefix: num_prefixes * T")
    .Input("initial_state: num_initial_states * T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Input("states: T")
    .Input("d_outputs: T")
    .Input("d_last_state: float")
    .Output("d_product: T")
    .Output("d_bias: num_biases * float")
    .Output("d_highway: num_highways * T")
    .Output("d_initial_state: float")
    .Attr(GatedTypeAttr())
    .Attr("num_biases: int >= 0")
    .Attr("num_highways: int >= 0")
    .Attr("num_prefixes: int >= 0")
    .Attr("num_initial_states: int >= 0")
    .Attr("num_masks: int >= 0")
    .Attr("num_resets: int >= 0")
    .Attr(NameAttr("activation", kActivationNames))
    .Attr(NameAttr("state_activation", kActivationNames))
    .Attr(NameAttr("recurrent_activation", kGateNames))
    .Attr(NameAttr("input_gate", kInputGateNames))
    .Attr(NameAttr("output", kOutputNames))
    .Attr("blocks: list(int)")
    .Attr("hold: bool = false")
    .Attr("algorithm: {'auto', 'parallel', 'serial'} = 'auto'")
    .SetShapeFn(GatedGradShape)
    .Doc(R"doc(
The gradients of GatedRecurrence, in one pass against its direction that computes the gates again.
With `hold`, a pass before it sums the gradients of held outputs.

product, bias, highway, prefix, mask, resets: As given to GatedRecurrence.
initial_state: The same, in the type of product.
states: The output `states` of GatedRecurrence; `outputs`, if output is 'state' or 'previous'.
d_outputs: The gradient with respect to outputs.
d_last_state: With respect to last_state.
d_product: With respect to product.
d_bias: With respect to bias, if given: the sum of d_product over batch and steps.
d_highway: With respect to highway, if given.
d_initial_state: With respect to initial_state, given or not.
)doc");

REGISTER_OP("TfPlr>GatedRecurrenceTransition")
    .Input("product: T")
    .Input("bias: num_biases * float")
    .Input("highway: num_highways * T")
    .Input("prefix: num_prefixes * T")
    .Input("mask: num_masks * bool")
    .Input("resets: num_resets * bool")
    .Input("d_outputs: num_d_outputs * T")
    .Output("transition: float")
    .Attr(GatedTypeAttr())
    .Attr("num_biases: int >= 0")
    .Attr("num_highways: int >= 0")
    .Attr("num_prefixes: int >= 0")
    .Attr("num_masks: int >= 0")
    .Attr("num_resets: int >= 0")
    .Attr("num_d_outputs: int >= 0")
    .Attr(NameAttr("activation", kActivationNames))
    .Attr(NameAttr("state_activation", kActivationNames))
    .Attr(NameAttr("recurrent_activation", kGateNames))
    .Attr(NameAttr("input_gate", kInputGateNames))
    .Attr(NameAttr("output", kOutputNames))
    .Attr("blocks: list(int)")
    .SetShapeFn(GatedTransitionShape)
    .Doc(R"doc(
The transition of all steps of GatedRecurrence, computed without writing any step:

  last_state = transition[0] * initial_state + transition[1]

product, bias, highway, prefix, mask, resets: As given to GatedRecurrence.
d_outputs: If given, the transition is that of GatedRecurrenceGrad instead:
  d_initial_state = transition[0] * d_last_state + transition[1]. state_activation must then be
  'linear'.
transition: [2, batch, units]. On a GPU, a step may be skipped, even if it holds NaN, if the product
  of all later decays is 0.
)doc");

}  // namespace tf_plr
