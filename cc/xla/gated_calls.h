// SPDX-License-Identifier: MIT
// The attributes of the gated ops' custom calls, all int64: a GatedCall, written and read.
#ifndef TF_PLR_XLA_GATED_CALLS_H_
#define TF_PLR_XLA_GATED_CALLS_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "cc/kernels/gated_ops.h"

namespace tf_plr {

struct GatedAttributes {
  // In the order of `given`, from its lowest bit on.
  static constexpr bool GatedCall::* kGiven[] = {
      &GatedCall::has_bias, &GatedCall::has_beside,   &GatedCall::has_initial_state,
      &GatedCall::has_mask, &GatedCall::keeps_states, &GatedCall::holds};
  // `blocks` has one digit of this base for each block, 0 for none, from the lowest on.
  static constexpr int64_t kBase = 8;
  static constexpr int64_t kMostFeatures = int64_t{1} << 40;

  static std::string Of(const GatedCall& call) {
    int64_t given = 0, blocks = 0;
    for (size_t i = 0; i < std::size(kGiven); ++i) given |= int64_t{call.*kGiven[i]} << i;
    for (size_t i = call.block.size(); i-- > 0;) blocks = blocks * kBase + call.block[i] + 1;
    return absl::StrCat(
        "{outer = ", call.batch, " : i64, steps = ", call.steps, " : i64, inner = ", call.units,
        " : i64, reverse = ", call.problem.reverse ? 1 : 0,
        " : i64, algorithm = ", static_cast<int>(call.algorithm), " : i64, cell = ", call.cell,
        " : i64, given = ", given, " : i64, blocks = ", blocks,
        " : i64, features = ", call.features, " : i64}");
  }

  // Returns whether they are those of a call that can be.
  static bool Read(int64_t outer, int64_t steps, int64_t inner, int64_t reverse, int64_t algorithm,
                   int64_t cell, int64_t given, int64_t blocks, int64_t features, GatedCall* call) {
    if (cell < 0 || cell >= static_cast<int64_t>(std::size(kGatedCellNames)) || algorithm < 0 ||
        algorithm > static_cast<int64_t>(Algorithm::kSerial) || features < 0 || blocks < 0) {
      return false;
    }
    for (size_t i = 0; i < std::size(kGiven); ++i) call->*kGiven[i] = (given >> i & 1) != 0;
    for (int64_t& block : call->block) {
      block = blocks % kBase - 1;
      blocks /= kBase;
    }
    call->cell = static_cast<int>(cell);
    if (!call->BlocksAreRight()) return false;
    if (call->holds && !(call->has_mask && call->Name().output_gate)) return false;
    const int64_t count = call->CountBlocks();
    int64_t columns, size, elements, beside, rows;
    if (outer < 0 || steps < 0 || inner < 0 || __builtin_mul_overflow(outer, inner, &columns) ||
        __builtin_mul_overflow(columns, steps, &size) ||
        __builtin_mul_overflow(size, count, &elements) ||
        __builtin_mul_overflow(outer, steps, &rows) ||
        __builtin_mul_overflow(rows, features, &beside) || features > kMostFeatures) {
      return false;
    }
    call->algorithm = static_cast<Algorithm>(algorithm);
    call->batch = outer;
    call->steps = steps;
    call->units = inner;
    call->SetProblem(reverse != 0);
    call->wide = count * inner;
    call->features = features;
    return true;
  }
};

}  // namespace tf_plr

#endif  // TF_PLR_XLA_GATED_CALLS_H_
