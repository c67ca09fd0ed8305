// SPDX-License-Identifier: MIT
// LinearRecurrence, its gradient and its transition: attributes, shapes, and which buffer becomes
// which array of the cell.
#include <iterator>

#include "cc/calls/backend.h"
#include "cc/calls/make.h"
#include "cc/engine/cells/recurrence.h"

namespace tf_plr {
namespace {

// An op and the cell it runs. Its inputs are kStepInputs, all of one shape; then initial_state, if
// given; then, in a gradient, d_last_state, if given. Its outputs are kStepOutputs arrays of that
// shape; then, in a gradient, d_initial_state, if initial_state is given.
struct Forward {
  using Cell = RecurrenceCell;
  static constexpr const char* kStepInputs[] = {"decays", "impulses"};
  static constexpr int kStepOutputs = 1;
  static constexpr bool kIsGradient = false;
  // States may overwrite the impulses: each impulse is read before its state is written.
  static constexpr int kOverwritableInput = 1;

  template <typename T>
  static Arrays<Cell, T> Bind(const Buffers& in, const Buffers& out, bool has_initial_state) {
    Arrays<Cell, T> arrays{};
    arrays.inputs[Cell::kDecays] = Data<T>(in[0]);
    arrays.inputs[Cell::kImpulses] = Data<T>(in[1]);
    if (has_initial_state) arrays.initial_carry = Data<T>(in[2]);
    arrays.outputs[Cell::kStates] = Data<T>(out[0]);
    return arrays;
  }
};

struct Gradient {
  using Cell = RecurrenceGradientCell;
  static constexpr const char* kStepInputs[] = {"decays", "states", "d_states"};
  static constexpr int kStepOutputs = 2;
  static constexpr bool kIsGradient = true;
  static constexpr int kOverwritableInput = -1;

  template <typename T>
  static Arrays<Cell, T> Bind(const Buffers& in, const Buffers& out, bool has_initial_state) {
    Arrays<Cell, T> arrays{};
    arrays.inputs[Cell::kDecays] = Data<T>(in[0]);
    arrays.inputs[Cell::kPreviousStates] = Data<T>(in[1]);
    arrays.inputs[Cell::kDStates] = Data<T>(in[2]);
    size_t next = 3;
    if (has_initial_state) arrays.boundary = Data<T>(in[next++]);
    if (next < in.size()) arrays.initial_carry = Data<T>(in[next]);
    arrays.outputs[Cell::kDDecays] = Data<T>(out[0]);
    arrays.outputs[Cell::kDImpulses] = Data<T>(out[1]);
    if (has_initial_state) arrays.final_carry = Data<T>(out[2]);
    return arrays;
  }
};

Status CheckAxis(int64_t axis, const Shape& shape) {
  const auto rank = static_cast<int64_t>(shape.size());
  if (rank < 1) return InvalidArgument("decays must have at least one axis, but is a scalar");
  if (axis >= -rank && axis < rank) return {};
  return InvalidArgument("axis must be in [", -rank, ", ", rank, ") for decays of rank ", rank,
                         ", but is ", axis);
}

// Negative axes count from the end.
Shape Without(int64_t axis, Shape shape) {
  shape.erase((axis < 0 ? shape.end() : shape.begin()) + axis);
  return shape;
}

// The problem of a shape and its axis. It is 0 x 0 x 0 if there is nothing to read or write,
// because in a tensor without elements the product of the other axes may overflow an int64.
Problem ProblemOf(const Shape& shape, int64_t axis, bool has_initial_state, bool reverse) {
  const Shape columns = Without(axis, shape);
  if (axis < 0) axis += static_cast<int64_t>(shape.size());
  const int64_t steps = shape[axis];
  if (CountElements(columns) == 0 || (steps == 0 && !has_initial_state)) return {0, 0, 0, reverse};
  const Shape outer(columns.begin(), columns.begin() + axis);
  const Shape inner(columns.begin() + axis, columns.end());
  return {CountElements(outer), steps, CountElements(inner), reverse};
}

template <typename Op>
class RecurrenceCall final : public CallOnBoth<RecurrenceCall<Op>> {
 public:
  using Cell = typename Op::Cell;

  Status Read(const Attributes& attributes) {
    axis_ = attributes.Int("axis", 0);
    reverse_ = attributes.Int("reverse", 0) != 0;
    TF_PLR_RETURN_IF_ERROR(
        ReadOptionalInput(attributes, "num_initial_states", "initial_state", &has_initial_state_));
    TF_PLR_RETURN_IF_ERROR(
        ReadOptionalInput(attributes, "num_d_last_states", "d_last_state", &has_d_last_state_));
    return ReadAlgorithm(attributes, &algorithm_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    constexpr size_t kStepInputs = std::size(Op::kStepInputs);
    TF_PLR_RETURN_IF_ERROR(
        CheckInputs(inputs, kStepInputs + has_initial_state_ + has_d_last_state_, /*gated=*/false));
    const Shape& shape = inputs[0].shape;
    TF_PLR_RETURN_IF_ERROR(CheckAxis(axis_, shape));
    for (size_t i = 1; i < kStepInputs; ++i) {
      TF_PLR_RETURN_IF_ERROR(
          CheckInput(Op::kStepInputs[i], &inputs[i], inputs[0].type, "the shape of decays", shape));
    }
    const Shape columns = Without(axis_, shape);
    if (inputs.size() > kStepInputs && CountElements(columns) < 0) {
      return InvalidArgument("a state has the shape of decays, ", shape, ", without axis ", axis_,
                             ", and so has more elements than a tensor can have");
    }
    for (size_t i = kStepInputs; i < inputs.size(); ++i) {
      const bool is_initial = has_initial_state_ && i == kStepInputs;
      TF_PLR_RETURN_IF_ERROR(CheckInput(is_initial ? "initial_state" : "d_last_state", &inputs[i],
                                        inputs[0].type, "the shape of impulses without axis",
                                        columns));
    }
    outputs->assign(Op::kStepOutputs, {inputs[0].type, shape});
    if (Op::kIsGradient && has_initial_state_) outputs->push_back({inputs[0].type, columns});
    return {};
  }

  int OverwritableInput() const override { return Op::kOverwritableInput; }

  size_t MaxScratchBytes(const Buffers& inputs, bool on_gpu) const override {
    if (!on_gpu) return 0;
    return ForType(inputs[0].type, [&](auto type) {
      return MaxWorkspaceBytes<Cell, decltype(type)::value>(ProblemFor(inputs), algorithm_);
    });
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForType(inputs[0].type, [&](auto type) {
      using T = typename Backend::template Element<decltype(type)::value>;
      const auto arrays = Op::template Bind<T>(inputs, outputs, has_initial_state_);
      return backend.Run(ProblemFor(inputs), arrays, algorithm_);
    });
  }

 private:
  Problem ProblemFor(const Buffers& inputs) const {
    return ProblemOf(inputs[0].shape, axis_, has_initial_state_, reverse_ != Op::kIsGradient);
  }

  int64_t axis_ = 0;
  bool reverse_ = false, has_initial_state_ = false, has_d_last_state_ = false;
  Algorithm algorithm_ = Algorithm::kAuto;
};

class TransitionCall final : public CallOnBoth<TransitionCall> {
 public:
  Status Read(const Attributes& attributes) {
    axis_ = attributes.Int("axis", 0);
    reverse_ = attributes.Int("reverse", 0) != 0;
    gradient_ = attributes.Int("gradient", 0) != 0;
    return {};
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    TF_PLR_RETURN_IF_ERROR(CheckInputs(inputs, 2, /*gated=*/false));
    TF_PLR_RETURN_IF_ERROR(CheckAxis(axis_, inputs[0].shape));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("impulses", &inputs[1], inputs[0].type, "the shape of decays", inputs[0].shape));
    Shape shape = Without(axis_, inputs[0].shape);
    shape.insert(shape.begin(), 2);
    outputs->assign(1, {SumTypeOf(inputs[0].type), shape});
    return {};
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return gradient_ ? Reduce<RecurrenceGradientCell>(backend, inputs, outputs[0])
                     : Reduce<RecurrenceCell>(backend, inputs, outputs[0]);
  }

 private:
  // Inputs 0 and 1 are the decays and the impulses, or, in the gradient cell, d_states.
  template <typename Cell, typename Backend>
  Status Reduce(const Backend& backend, const Buffers& inputs, const Buffer& transition) const {
    return ForType(inputs[0].type, [&](auto type) {
      constexpr DType kType = decltype(type)::value;
      using T = typename Backend::template Element<kType>;
      using A = typename Backend::template Element<SumTypeOf(kType)>;
      Arrays<Cell, T> arrays{};
      for (int k = 0; k < Cell::kStepInputs; ++k) arrays.inputs[k] = Data<T>(inputs[k]);
      const Problem problem = ProblemOf(inputs[0].shape, axis_, true, reverse_ != gradient_);
      A* const data = Data<A>(transition);
      return backend.Reduce(problem, arrays,
                            ColumnTransitions<A>{data, data + transition.size() / 2});
    });
  }

  int64_t axis_ = 0;
  bool reverse_ = false, gradient_ = false;
};

}  // namespace

TF_PLR_DEFINE_MAKER(LinearRecurrence, RecurrenceCall<Forward>)
TF_PLR_DEFINE_MAKER(LinearRecurrenceGrad, RecurrenceCall<Gradient>)
TF_PLR_DEFINE_MAKER(LinearRecurrenceTransition, TransitionCall)

}  // namespace tf_plr
