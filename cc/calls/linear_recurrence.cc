// SPDX-License-Identifier: MIT
// LinearRecurrence, its gradient and its transition: attributes, shapes, and which buffer becomes
// which array of the cell.
#include <iterator>

#include "cc/calls/backend.h"
#include "cc/calls/broadcast.h"
#include "cc/calls/make.h"
#include "cc/calls/widened.h"
#include "cc/engine/cells/recurrence.h"

namespace tf_plr {
namespace {

// The inputs that a call may lack; they are then null.
struct OptionalInputs {
  const Buffer *initial_state, *d_last_state, *mask, *resets;

  StepFlags flags() const { return {DataOf<bool>(mask), DataOf<bool>(resets)}; }
};

// Which of them a call has.
struct OptionalInputsGiven {
  bool initial_state = false, d_last_state = false, mask = false, resets = false;

  Status Read(const Attributes& attributes) {
    const auto read = [&](const char* count, const char* input, bool* given) {
      return ReadOptionalInput(attributes, count, input, given);
    };
    TF_PLR_RETURN_IF_ERROR(read("num_initial_states", "initial_state", &initial_state));
    TF_PLR_RETURN_IF_ERROR(read("num_d_last_states", "d_last_state", &d_last_state));
    TF_PLR_RETURN_IF_ERROR(read("num_masks", "mask", &mask));
    return read("num_resets", "resets", &resets);
  }
  bool flags() const { return mask || resets; }
  size_t count() const { return size_t{0} + initial_state + d_last_state + mask + resets; }

  // They follow the first `before` inputs.
  OptionalInputs Name(const Buffers& inputs, size_t before) const {
    const Buffer* next = inputs.data() + before;
    const auto take = [&](bool given) { return given ? next++ : nullptr; };
    // Initializers are evaluated in order.
    return OptionalInputs{take(initial_state), take(d_last_state), take(mask), take(resets)};
  }
};

// An op and the cells it runs. Its inputs are kStepInputs, all of one shape, except that decays may
// be broadcast; then, if given, initial_state; in a gradient, d_last_state; mask; and resets. A
// gradient's outputs are those of decays and impulses; then d_initial_state, if initial_state is
// given. BroadcastCell computes all but d_decays.
struct Forward {
  using Cell = RecurrenceCell;
  using BroadcastCell = BroadcastRecurrenceCell;
  static constexpr const char* kStepInputs[] = {"decays", "impulses"};
  static constexpr const char* kShapeOfSteps = "the shape of impulses";
  static constexpr bool kIsGradient = false;
  // States may overwrite the impulses: each impulse is read before its state is written.
  static constexpr int kOverwritableInput = 1;

  template <typename T, typename Cell>
  static Arrays<Cell, T> Bind(const Buffers& in, const OptionalInputs& optional,
                              const Buffers& out) {
    Arrays<Cell, T> arrays{};
    arrays.inputs[Cell::kDecays] = Data<T>(in[0]);
    arrays.inputs[Cell::kImpulses] = Data<T>(in[1]);
    arrays.initial_carry = DataOf<T>(optional.initial_state);
    arrays.flags = optional.flags();
    arrays.outputs[Cell::kStates] = Data<T>(out[0]);
    return arrays;
  }
};

struct Gradient {
  using Cell = RecurrenceGradientCell;
  using BroadcastCell = BroadcastImpulseGradientCell;
  static constexpr const char* kStepInputs[] = {"decays", "states", "d_states"};
  static constexpr const char* kShapeOfSteps = "the shape of states";
  static constexpr bool kIsGradient = true;
  static constexpr int kOverwritableInput = -1;

  template <typename T, typename Cell>
  static Arrays<Cell, T> Bind(const Buffers& in, const OptionalInputs& optional,
                              const Buffers& out) {
    Arrays<Cell, T> arrays{};
    arrays.inputs[Cell::kDecays] = Data<T>(in[0]);
    arrays.inputs[Cell::kDStates] = Data<T>(in[2]);
    arrays.initial_carry = DataOf<T>(optional.d_last_state);
    arrays.flags = optional.flags();
    if constexpr (Cell::kBroadcast < 0) {
      arrays.inputs[Cell::kPreviousStates] = Data<T>(in[1]);
      arrays.boundary = DataOf<T>(optional.initial_state);
      arrays.outputs[Cell::kDDecays] = Data<T>(out[0]);
    }
    arrays.outputs[Cell::kDImpulses] = Data<T>(out[1]);
    if (optional.initial_state != nullptr) arrays.final_carry = Data<T>(out[2]);
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

// `axis` counted from the first one. Negative axes count from the end.
int64_t FromFirst(int64_t axis, const Shape& shape) {
  return axis < 0 ? axis + static_cast<int64_t>(shape.size()) : axis;
}

Shape Without(int64_t axis, Shape shape) {
  shape.erase(shape.begin() + FromFirst(axis, shape));
  return shape;
}

// The problem of a shape and its axis. It is 0 x 0 x 0 if there is nothing to read or write,
// because in a tensor without elements the product of the other axes may overflow an int64.
Problem ProblemOf(const Shape& shape, int64_t axis, bool has_initial_state, bool reverse) {
  const Shape columns = Without(axis, shape);
  axis = FromFirst(axis, shape);
  const int64_t steps = shape[axis];
  if (CountElements(columns) == 0 || (steps == 0 && !has_initial_state)) return {0, 0, 0, reverse};
  const Shape outer(columns.begin(), columns.begin() + axis);
  const Shape inner(columns.begin() + axis, columns.end());
  return {CountElements(outer), steps, CountElements(inner), reverse};
}

// Flags have the shape of the steps up to and including the axis.
Status CheckFlags(const OptionalInputs& optional, const Shape& steps, int64_t axis) {
  const Shape shape(steps.begin(), steps.begin() + FromFirst(axis, steps) + 1);
  constexpr char kOfFlags[] = "the shape of impulses up to axis";
  TF_PLR_RETURN_IF_ERROR(CheckInput("mask", optional.mask, DType::kBool, kOfFlags, shape));
  return CheckInput("resets", optional.resets, DType::kBool, kOfFlags, shape);
}

template <typename Op>
class RecurrenceCall final : public CallOnBoth<RecurrenceCall<Op>> {
 public:
  Status Read(const Attributes& attributes) {
    axis_ = attributes.Int("axis", 0);
    reverse_ = attributes.Int("reverse", 0) != 0;
    TF_PLR_RETURN_IF_ERROR(given_.Read(attributes));
    return ReadAlgorithm(attributes, &algorithm_);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    TF_PLR_RETURN_IF_ERROR(CheckInputs(inputs, kStepInputs + given_.count(), /*gated=*/false));
    const DType type = inputs[0].type;
    const Shape& shape = inputs[1].shape;
    TF_PLR_RETURN_IF_ERROR(CheckDecays(inputs[0], Op::kShapeOfSteps, shape));
    TF_PLR_RETURN_IF_ERROR(CheckAxis(axis_, shape));
    for (size_t i = 1; i < kStepInputs; ++i) {
      TF_PLR_RETURN_IF_ERROR(
          CheckInput(Op::kStepInputs[i], &inputs[i], type, Op::kShapeOfSteps, shape));
    }
    const Shape columns = Without(axis_, shape);
    if ((given_.initial_state || given_.d_last_state) && CountElements(columns) < 0) {
      return InvalidArgument("a state has ", Op::kShapeOfSteps, ", ", shape, ", without axis ",
                             axis_, ", and so has more elements than a tensor can have");
    }
    const OptionalInputs optional = given_.Name(inputs, kStepInputs);
    constexpr char kOfState[] = "the shape of impulses without axis";
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("initial_state", optional.initial_state, type, kOfState, columns));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("d_last_state", optional.d_last_state, type, kOfState, columns));
    TF_PLR_RETURN_IF_ERROR(CheckFlags(optional, shape, axis_));
    *outputs = {{type, shape}};
    if (Op::kIsGradient) outputs->insert(outputs->begin(), {type, inputs[0].shape});
    if (Op::kIsGradient && given_.initial_state) outputs->push_back({type, columns});
    return {};
  }

  int OverwritableInput() const override { return Op::kOverwritableInput; }

  size_t MaxScratchBytes(const Buffers& inputs, bool on_gpu) const override {
    const DType type = inputs[0].type;
    if (on_gpu && given_.flags() && BytesOf(type) == 2) {
      Buffers outputs;
      if (!Plan(inputs, &outputs).ok()) return 0;
      return ScratchToWiden(inputs, outputs) + MaxScratchBytes(Widened(inputs, type), on_gpu);
    }
    return ForType(inputs[0].type, [&](auto type) {
      const Problem problem = ProblemFor(inputs);
      constexpr DType kType = decltype(type)::value;
      if (!IsBroadcast(inputs)) {
        return on_gpu ? MaxWorkspaceBytes<typename Op::Cell, kType>(problem, algorithm_) : 0;
      }
      const size_t of_run =
          on_gpu ? MaxWorkspaceBytes<typename Op::BroadcastCell, kType>(problem, algorithm_) : 0;
      return AlignedForScratch(of_run) + AlignedForScratch(BytesToSum<kType>(inputs));
    });
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    return ForType(inputs[0].type, [&](auto type) {
      constexpr DType kType = decltype(type)::value;
      using T = typename Backend::template Element<kType>;
      if constexpr (!Backend::kHasAllFlags && BytesOf(kType) == 2) {
        if (given_.flags()) {
          return RunWidened<T>(backend, inputs, outputs,
                               [&](const auto& wide, const auto& in, const auto& out) {
                                 return Run(wide, in, out);
                               });
        }
      }
      if (IsBroadcast(inputs)) return RunBroadcast<kType>(backend, inputs, outputs);
      const auto arrays = Op::template Bind<T, typename Op::Cell>(
          inputs, given_.Name(inputs, kStepInputs), outputs);
      return backend.Run(ProblemFor(inputs), arrays, algorithm_);
    });
  }

 private:
  static constexpr size_t kStepInputs = std::size(Op::kStepInputs);

  template <DType kType, typename Backend>
  Status RunBroadcast(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    using T = typename Backend::template Element<kType>;
    const OptionalInputs optional = given_.Name(inputs, kStepInputs);
    auto arrays = Op::template Bind<T, typename Op::BroadcastCell>(inputs, optional, outputs);
    const Shape &decays = inputs[0].shape, &shape = inputs[1].shape;
    arrays.broadcast = BroadcastIndexOf(decays, shape, FromFirst(axis_, shape));
    TF_PLR_RETURN_IF_ERROR(backend.Run(ProblemFor(inputs), arrays, algorithm_));
    if constexpr (Op::kIsGradient) {
      void* workspace;
      TF_PLR_RETURN_IF_ERROR(
          TakeScratch(backend.scratch, BytesToSum<kType>(inputs), /*input=*/-1, &workspace));
      BroadcastGradient<T> gradient = GradientFor<T>(inputs);
      gradient.states = Data<T>(inputs[1]);
      gradient.d_impulses = Data<T>(outputs[1]);
      gradient.initial_state = DataOf<T>(optional.initial_state);
      gradient.resets = optional.flags().resets;
      gradient.d_decays = Data<T>(outputs[0]);
      return backend.Differentiate(gradient, workspace);
    }
    return {};
  }

  static bool IsBroadcast(const Buffers& inputs) { return inputs[0].shape != inputs[1].shape; }

  Problem ProblemFor(const Buffers& inputs) const {
    return ProblemOf(inputs[1].shape, axis_, given_.initial_state, reverse_ != Op::kIsGradient);
  }

  // Without its arrays.
  template <typename T>
  BroadcastGradient<T> GradientFor(const Buffers& inputs) const {
    BroadcastGradient<T> gradient{};
    gradient.problem = ProblemFor(inputs);
    gradient.problem.reverse = reverse_;
    gradient.axes = AxesToSumOf(inputs[0].shape, inputs[1].shape);
    return gradient;
  }
  // The memory for sums over the axes of broadcast decays.
  template <DType kType>
  size_t BytesToSum(const Buffers& inputs) const {
    if (!Op::kIsGradient) return 0;
    return GradientFor<float>(inputs).workspace_size() * BytesOf(SumTypeOf(kType));
  }

  int64_t axis_ = 0;
  bool reverse_ = false;
  OptionalInputsGiven given_;
  Algorithm algorithm_ = Algorithm::kAuto;
};

class TransitionCall final : public CallOnBoth<TransitionCall> {
 public:
  Status Read(const Attributes& attributes) {
    axis_ = attributes.Int("axis", 0);
    reverse_ = attributes.Int("reverse", 0) != 0;
    gradient_ = attributes.Int("gradient", 0) != 0;
    return given_.Read(attributes);
  }

  Status Plan(const Buffers& inputs, Buffers* outputs) const override {
    TF_PLR_RETURN_IF_ERROR(CheckInputs(inputs, 2 + given_.count(), /*gated=*/false));
    TF_PLR_RETURN_IF_ERROR(CheckDecays(inputs[0], "the shape of impulses", inputs[1].shape));
    TF_PLR_RETURN_IF_ERROR(CheckAxis(axis_, inputs[1].shape));
    TF_PLR_RETURN_IF_ERROR(
        CheckInput("impulses", &inputs[1], inputs[0].type, "its own shape", inputs[1].shape));
    TF_PLR_RETURN_IF_ERROR(CheckFlags(given_.Name(inputs, 2), inputs[1].shape, axis_));
    Shape shape = Without(axis_, inputs[1].shape);
    shape.insert(shape.begin(), 2);
    outputs->assign(1, {SumTypeOf(inputs[0].type), shape});
    return {};
  }

  template <typename Backend>
  Status Run(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    if (!Backend::kHasAllFlags && given_.flags() && BytesOf(inputs[0].type) == 2) {
      return ForGatedType(inputs[0].type, [&](auto type) {
        return Widen<decltype(type)::value>(backend, inputs, outputs);
      });
    }
    if (inputs[0].shape != inputs[1].shape) {
      return gradient_ ? Reduce<BroadcastImpulseGradientCell>(backend, inputs, outputs[0])
                       : Reduce<BroadcastRecurrenceCell>(backend, inputs, outputs[0]);
    }
    return gradient_ ? Reduce<RecurrenceGradientCell>(backend, inputs, outputs[0])
                     : Reduce<RecurrenceCell>(backend, inputs, outputs[0]);
  }

 private:
  // Runs in float32.
  template <DType kType, typename Backend>
  Status Widen(const Backend& backend, const Buffers& inputs, const Buffers& outputs) const {
    if constexpr (!Backend::kHasAllFlags && BytesOf(kType) == 2) {
      using T = typename Backend::template Element<kType>;
      return RunWidened<T>(
          backend, inputs, outputs,
          [&](const auto& wide, const auto& in, const auto& out) { return Run(wide, in, out); });
    }
    return {};
  }

  // Inputs 0 and 1 are the decays and the impulses, or, in the gradient cell, d_states.
  template <typename Cell, typename Backend>
  Status Reduce(const Backend& backend, const Buffers& inputs, const Buffer& transition) const {
    return ForType(inputs[0].type, [&](auto type) {
      constexpr DType kType = decltype(type)::value;
      using T = typename Backend::template Element<kType>;
      using A = typename Backend::template Element<SumTypeOf(kType)>;
      Arrays<Cell, T> arrays{};
      for (int k = 0; k < Cell::kStepInputs; ++k) arrays.inputs[k] = Data<T>(inputs[k]);
      arrays.flags = given_.Name(inputs, 2).flags();
      const Shape& shape = inputs[1].shape;
      if constexpr (Cell::kBroadcast >= 0) {
        arrays.broadcast = BroadcastIndexOf(inputs[0].shape, shape, FromFirst(axis_, shape));
      }
      const Problem problem = ProblemOf(shape, axis_, true, reverse_ != gradient_);
      A* const data = Data<A>(transition);
      return backend.Reduce(problem, arrays,
                            ColumnTransitions<A>{data, data + transition.size() / 2});
    });
  }

  int64_t axis_ = 0;
  bool reverse_ = false, gradient_ = false;
  OptionalInputsGiven given_;  // Neither of the states.
};

}  // namespace

TF_PLR_DEFINE_MAKER(LinearRecurrence, RecurrenceCall<Forward>)
TF_PLR_DEFINE_MAKER(LinearRecurrenceGrad, RecurrenceCall<Gradient>)
TF_PLR_DEFINE_MAKER(LinearRecurrenceTransition, TransitionCall)

}  // namespace tf_plr
