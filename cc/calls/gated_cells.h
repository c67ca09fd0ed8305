// SPDX-License-Identifier: MIT
// The cells of cells/gated.h at run time: their names in the op, and what they have.
#ifndef TF_PLR_CALLS_GATED_CELLS_H_
#define TF_PLR_CALLS_GATED_CELLS_H_

#include <cstdint>
#include <iterator>
#include <string>

#include "cc/engine/cells/gated.h"

namespace tf_plr {

struct GatedCellParts {
  const char* name;
  bool own_input, output_gate, highway;  // Blocks of the product, in addition to two others.
  bool takes_prefix;
};

#define TF_PLR_PARTS(T, Name, name, activation, input, output)                           \
  {name, Name##Cell::kHasInputGate, Name##Cell::kHasOutputGate, Name##Cell::kHasHighway, \
   Output::output == Output::kPrevious},
constexpr GatedCellParts kGatedCells[] = {TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_PARTS, )};
#undef TF_PLR_PARTS

// The outputs of a cell that takes a prefix begin with it, padded to a multiple of this, so that
// what follows is aligned to 16 bytes.
constexpr int64_t kPrefixAlignment = 8;
constexpr int64_t PaddedPrefix(int64_t features) {
  return (features + kPrefixAlignment - 1) / kPrefixAlignment * kPrefixAlignment;
}

// The place of a cell in the list, or -1.
inline int FindGatedCell(const std::string& name) {
  for (size_t i = 0; i < std::size(kGatedCells); ++i) {
    if (name == kGatedCells[i].name) return static_cast<int>(i);
  }
  return -1;
}

// Calls run(Cell(), GradientCell()) with the cells at a place of the list.
template <typename Run>
auto ForGatedCell(int place, const Run& run) {
  int next = 0;
#define TF_PLR_RUN(T, Name, ...) \
  if (place == next++) return run(Name##Cell(), Name##GradientCell());
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_RUN, )
#undef TF_PLR_RUN
  __builtin_unreachable();
}

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_GATED_CELLS_H_
