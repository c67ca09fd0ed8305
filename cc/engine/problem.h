// SPDX-License-Identifier: MIT
// The one shape that every tensor and axis reduces to, and the arguments of every engine.
#ifndef TF_PLR_ENGINE_PROBLEM_H_
#define TF_PLR_ENGINE_PROBLEM_H_

#include <cstdint>

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

// The arrays of one problem, aligned to their elements. An output may be the same array as an
// input, but for the one that is read one step further on (see cells.h). Step arrays have `size()`
// elements, column arrays `columns()`.
template <typename Cell, typename T>
struct Arrays {
  const T* inputs[Cell::kInputs];  // Step arrays, in the order of Cell::Input.
  T* outputs[Cell::kOutputs];      // Step arrays, in the order of Cell::Output.
  const T* initial_carry;          // Column array; null: zeros.
  T* final_carry;                  // Column array; null: not wanted.
  const T* boundary;               // Column array past the lookahead input; null: zeros.
};

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_PROBLEM_H_
