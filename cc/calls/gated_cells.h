// SPDX-License-Identifier: MIT
// The cells of cells/gated.h at run time: the names of their parts in the op, and what they have.
#ifndef TF_PLR_CALLS_GATED_CELLS_H_
#define TF_PLR_CALLS_GATED_CELLS_H_

#include <cstddef>
#include <cstdint>

#include "cc/engine/cells/gated.h"

namespace tf_plr {

// The names of the op's attributes. Their positions are the values of the enumerators.
#define TF_PLR_NAME(activation, name) name,
constexpr const char* kActivationNames[] = {TF_PLR_FOR_EACH_ACTIVATION(TF_PLR_NAME)};
#undef TF_PLR_NAME
constexpr const char* kGateNames[] = {"sigmoid", "hard_sigmoid"};
constexpr const char* kInputGateNames[] = {"coupled", "own"};
constexpr const char* kOutputNames[] = {"state", "previous", "gated", "highway"};
template <typename Enum, size_t kCount>
constexpr bool IsLast(Enum value, const char* const (&)[kCount]) {
  return static_cast<size_t>(value) + 1 == kCount;
}
static_assert(IsLast(GateFunction::kHardSigmoid, kGateNames));
static_assert(IsLast(InputGate::kOwn, kInputGateNames));
static_assert(IsLast(Output::kHighway, kOutputNames));

// The parts of a cell. An op's attributes choose each of them.
struct GatedParts {
  InputGate input_gate;
  Output output;
  GatedFunctions functions;

  bool has_input_gate() const { return input_gate == InputGate::kOwn; }
  bool has_output_gate() const { return output == Output::kGated || has_highway(); }
  bool has_highway() const { return output == Output::kHighway; }
  bool takes_prefix() const { return output == Output::kPrevious; }
};

// The outputs of a cell that takes a prefix begin with it, padded to a multiple of this, so that
// what follows is aligned to 16 bytes.
constexpr int64_t kPrefixAlignment = 8;
constexpr int64_t PaddedPrefix(int64_t features) {
  return (features + kPrefixAlignment - 1) / kPrefixAlignment * kPrefixAlignment;
}

// Whether a cell has these parts. Functions that are not fixed may be any.
template <InputGate kInputGate, Output kOutput, typename Functions>
bool Has(const GatedParts& parts, GatedCell<kInputGate, kOutput, Functions>) {
  if (parts.input_gate != kInputGate || parts.output != kOutput) return false;
  if constexpr (Functions::kFixed) {
    const GatedFunctions& wanted = parts.functions;
    return wanted.activation == Functions::activation &&
           wanted.state_activation == Functions::state_activation && wanted.gate == Functions::gate;
  } else {
    return true;
  }
}

// Calls run(Cell(), GradientCell()) with the cells that have these parts. kFixed: whether the
// engine has cells of fixed functions.
template <bool kFixed, typename Run>
auto ForGatedCell(const GatedParts& parts, const Run& run) {
#define TF_PLR_RUN(T, Name, ...) \
  if (Has(parts, Name##Cell())) return run(Name##Cell(), Name##GradientCell());
  if constexpr (kFixed) {
    TF_PLR_FOR_EACH_FIXED_CELL(TF_PLR_RUN, )
  }
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_RUN, )
#undef TF_PLR_RUN
  __builtin_unreachable();
}

// Whether these are the parts of a layer's default cell.
inline bool AreDefaults(const GatedParts& parts) {
  return ForGatedCell<true>(
      parts, [](auto cell, auto) { return decltype(cell)::Functions::kAreDefaults; });
}

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_GATED_CELLS_H_
