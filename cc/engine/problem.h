// SPDX-License-Identifier: MIT
// The one shape that every tensor and axis reduces to, and the arguments of every engine.
#ifndef TF_PLR_ENGINE_PROBLEM_H_
#define TF_PLR_ENGINE_PROBLEM_H_

#include <cstdint>
#include <type_traits>

#include "cc/engine/broadcast.h"
#include "cc/engine/cells/recurrence.h"

namespace tf_plr {

// Row-major [outer, steps, inner]: `outer` and `inner` collect the axes before and after the one
// that the recurrence runs along. One column is one (outer, inner) pair.
struct Problem {
  int64_t outer, steps, inner;
  bool reverse;  // Process step T first.

  int64_t columns() const { return outer * inner; }
  int64_t size() const { return outer * steps * inner; }
};

enum class Algorithm { kAuto, kParallel, kSerial };

// What holds for single steps of each outer slice. Null: for none of them. A masked step does not
// change the carry; see Cell::WhereMasked for its outputs. At a reset, a new sequence begins,
// whether the step is masked or not: in the direction of the recurrence, the state before it is
// zero. Not even Inf or NaN pass from one sequence to another.
struct StepFlags {
  const bool* mask;    // [outer, steps], false: masked.
  const bool* resets;  // [outer, steps], true: a reset.

  TF_PLR_HOST_DEVICE bool any() const { return mask != nullptr || resets != nullptr; }
};

// Additional arguments of a gated cell (see cells/gated.h). Strides count the elements from one row
// to the next in memory: a step array may be a window of wider rows.
template <typename Cell>
struct GatedArrays {
  int64_t input_strides[Cell::kInputs], output_strides[Cell::kOutputs];
  const float* biases[Cell::kInputs];  // [inner]; null: zeros.
  // Of a gradient on a GPU: the sums of its outputs over outer and steps.
  float* d_bias;  // [d_bias_width]; null: not wanted.
  int64_t d_bias_width;
  int64_t d_bias_offsets[Cell::kOutputs];  // Where an output's sums begin; -1: it has none.
  typename Cell::Functions functions;
};
struct NotGated {
  NoFunctions functions;
};
struct NotBroadcast {};

// The arrays of one problem, aligned to their elements. An output may be the same array as any
// input except the lookahead (see cells/recurrence.h). Step arrays have `size()` elements, except a
// broadcast one; column arrays `columns()`.
template <typename CellType, typename T>
struct Arrays {
  using Cell = CellType;
  using Column = typename Cell::template Column<T>;

  const T* inputs[Cell::kInputs];  // Step arrays, in the order of the cell's inputs.
  T* outputs[Cell::kOutputs];      // Step arrays, in the order of the cell's outputs.
  const Column* initial_carry;     // Column array; null: zeros.
  Column* final_carry;             // Column array; null: not wanted.
  const T* boundary;               // Column array past the lookahead input; null: zeros.
  StepFlags flags;
  std::conditional_t<Cell::kGated, GatedArrays<Cell>, NotGated> gated = {};
  // Of input kBroadcast, which no output may overwrite.
  std::conditional_t<(Cell::kBroadcast >= 0), BroadcastIndex, NotBroadcast> broadcast = {};
};

// The transition of all steps of each column: carry -> decay * carry + impulse. Column arrays.
template <typename A>
struct ColumnTransitions {
  A *decays, *impulses;
};

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_PROBLEM_H_
