// SPDX-License-Identifier: MIT
// A recurrence on the buffers of a custom call, by the device's engine.
#ifndef TF_PLR_XLA_RECURRENCE_BUFFERS_H_
#define TF_PLR_XLA_RECURRENCE_BUFFERS_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "cc/engine/problem.h"
#include "cc/xla/platforms.h"

namespace tf_plr {

// Binds the op's buffers: all arguments, and the results but the last `not_the_ops`. Only a call
// that somebody wrote by hand can fail.
template <typename Op, typename Element>
ffi::ErrorOr<Arrays<typename Op::Cell, Element>> BindBuffers(
    const Problem& problem, ffi::DataType type, bool has_initial_state, ffi::RemainingArgs args,
    ffi::RemainingRets rets, size_t not_the_ops) {
  constexpr size_t kStepInputs = std::size(Op::kStepInputs);
  // With d_last_state, if there is one more.
  const size_t states = args.size() - kStepInputs;
  const size_t most = (has_initial_state ? 1 : 0) + (Op::kReturnsFinalCarry ? 1 : 0);
  const size_t returned = Op::kReturnsFinalCarry && has_initial_state ? 1 : 0;
  if (states < (has_initial_state ? 1 : 0) || states > most ||
      rets.size() != Op::kStepOutputs + returned + not_the_ops) {
    return ffi::Unexpected(ffi::Error::InvalidArgument("wrong number of operands or results"));
  }
  std::vector<Element*> inputs, outputs;
  // Step arrays come first, then those of columns.
  const auto take = [&](auto buffer, size_t step_arrays, std::vector<Element*>* elements) {
    const int64_t size = elements->size() < step_arrays ? problem.size() : problem.columns();
    if (buffer.element_type() != type || int64_t(buffer.element_count()) < size) return false;
    elements->push_back(static_cast<Element*>(buffer.untyped_data()));
    return true;
  };
  bool fits = true;
  for (size_t i = 0; i < args.size() && fits; ++i) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return ffi::Unexpected(buffer.error());
    fits = take(*buffer, kStepInputs, &inputs);
  }
  for (size_t i = 0; i + not_the_ops < rets.size() && fits; ++i) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return ffi::Unexpected(buffer.error());
    fits = take(**buffer, Op::kStepOutputs, &outputs);
  }
  if (!fits) {
    return ffi::Unexpected(
        ffi::Error::InvalidArgument("an operand or result has another dtype, or too few elements"));
  }
  return Op::Bind(inputs, outputs, has_initial_state);
}

// Runs an op of recurrence_ops.h on its buffers. Errors are for calls that somebody wrote by hand.
template <typename Op, typename Platform, typename Context>
ffi::Error RunRecurrence(Context context, const Problem& problem, int64_t algorithm,
                         bool has_initial_state, ffi::RemainingArgs args, ffi::RemainingRets rets) {
  auto decays = args.get<ffi::AnyBuffer>(0);
  if (decays.has_error()) return decays.error();
  int64_t columns, size;
  if (std::min({problem.outer, problem.steps, problem.inner}) < 0 ||
      __builtin_mul_overflow(problem.outer, problem.inner, &columns) ||
      __builtin_mul_overflow(columns, problem.steps, &size) || algorithm < 0 ||
      algorithm > static_cast<int64_t>(Algorithm::kSerial)) {
    return ffi::Error::InvalidArgument("an attribute is out of range");
  }
  return ForType(decays->element_type(), [&](auto type) {
    using Element = typename Platform::template Element<decltype(type)>;
    auto arrays = BindBuffers<Op, Element>(problem, decays->element_type(), has_initial_state, args,
                                           rets, Platform::kWorkspaces);
    if (arrays.has_error()) return arrays.error();
    return Platform::Run(context, problem, *arrays, static_cast<Algorithm>(algorithm), rets);
  });
}

}  // namespace tf_plr

#endif  // TF_PLR_XLA_RECURRENCE_BUFFERS_H_
