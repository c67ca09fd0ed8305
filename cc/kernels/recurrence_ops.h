// SPDX-License-Identifier: MIT
// The recurrence and its gradient as ops: names, and which array is which. Without TensorFlow.
#ifndef TF_PLR_KERNELS_RECURRENCE_OPS_H_
#define TF_PLR_KERNELS_RECURRENCE_OPS_H_

#include <vector>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/problem.h"

namespace tf_plr {

// An op runs a cell. Its inputs are kStepInputs of the shape of decays, then initial_state if
// given, then, of a gradient op, d_last_state if given; its outputs are kStepOutputs of that shape,
// then, if kReturnsFinalCarry and initial_state was given, the last carry. Bind puts them in the
// places that the cell knows.
struct LinearRecurrence {
  using Cell = RecurrenceCell;
  static constexpr const char* kName = "TfPlr>LinearRecurrence";
  static constexpr const char* kStepInputs[] = {"decays", "impulses"};
  static constexpr int kStepOutputs = 1;
  static constexpr bool kReturnsFinalCarry = false;
  static constexpr bool kAgainstTime = false;
  // A state is written where its impulse was read, never before: in place is safe.
  static constexpr int kOverwritableInput = 1;

  template <typename Element>
  static Arrays<Cell, Element> Bind(const std::vector<Element*>& inputs,
                                    const std::vector<Element*>& outputs, bool has_initial_state) {
    Arrays<Cell, Element> arrays{};
    arrays.inputs[Cell::kDecays] = inputs[0];
    arrays.inputs[Cell::kImpulses] = inputs[1];
    if (has_initial_state) arrays.initial_carry = inputs[2];
    arrays.outputs[Cell::kStates] = outputs[0];
    return arrays;
  }
};

struct LinearRecurrenceGrad {
  using Cell = RecurrenceGradientCell;
  static constexpr const char* kName = "TfPlr>LinearRecurrenceGrad";
  static constexpr const char* kStepInputs[] = {"decays", "states", "d_states"};
  static constexpr int kStepOutputs = 2;
  static constexpr bool kReturnsFinalCarry = true;
  static constexpr bool kAgainstTime = true;
  static constexpr int kOverwritableInput = -1;

  template <typename Element>
  static Arrays<Cell, Element> Bind(const std::vector<Element*>& inputs,
                                    const std::vector<Element*>& outputs, bool has_initial_state) {
    Arrays<Cell, Element> arrays{};
    arrays.inputs[Cell::kDecays] = inputs[0];
    arrays.inputs[Cell::kPreviousStates] = inputs[1];
    arrays.inputs[Cell::kDStates] = inputs[2];
    size_t next = 3;
    if (has_initial_state) arrays.boundary = inputs[next++];
    if (next < inputs.size()) arrays.initial_carry = inputs[next];
    arrays.outputs[Cell::kDDecays] = outputs[0];
    arrays.outputs[Cell::kDImpulses] = outputs[1];
    if (outputs.size() > 2) arrays.final_carry = outputs[2];
    return arrays;
  }
};

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_RECURRENCE_OPS_H_
