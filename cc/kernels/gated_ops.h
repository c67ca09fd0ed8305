// SPDX-License-Identifier: MIT
// The gated ops as the kernels see them, with or without XLA: attributes, shapes, arrays.
#ifndef TF_PLR_KERNELS_GATED_OPS_H_
#define TF_PLR_KERNELS_GATED_OPS_H_

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/engine/cells/gated.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/copy_rows.h"
#include "cc/engine/held_rows.h"
#include "cc/engine/problem.h"
#include "cc/kernels/native_ops.h"
#include "cc/kernels/shapes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_plr {

// Calls run(Cell(), GradientCell()) with the cells of this number, in the order of cells/gated.h;
// there must be some.
template <typename Run>
auto ForGatedCell(int cell, const Run& run) {
  int number = 0;
#define TF_PLR_RUN(Name, activation, input, output) \
  if (cell == number++) return run(Name##Cell(), Name##GradientCell());
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_RUN)
#undef TF_PLR_RUN
  __builtin_unreachable();  // So that the compiler knows: the cell has a name, too.
}

// A cell in the words of the op.
struct GatedCellName {
  const char* name;
  bool own_input, output_gate, highway;  // The blocks that its product may have beside two others.
  bool in_front;                         // Whether `beside` stands in front of its outputs.
};
// In the order of cells/gated.h.
constexpr GatedCellName kGatedCellNames[] = {
    {"gilr", false, false, false, false}, {"surrogate", false, false, false, true},
    {"f", false, false, false, false},    {"fo", false, true, false, false},
    {"ifo", true, true, false, false},    {"sru", false, true, true, false},
};

// All that there is to know of a call but where its buffers are.
struct GatedCall {
  // The blocks of the product, by what they are; -1: there is none.
  enum Block { kForget, kCandidate, kInput, kOutputGate, kHighway, kBlocks };

  int cell;  // In the order of cells/gated.h.
  std::array<int64_t, kBlocks> block;
  bool has_bias, has_beside, has_initial_state, has_mask, keeps_states;
  bool holds;  // Masked steps show the outputs of the last valid one, where these are not states.
  Algorithm algorithm;
  int64_t batch, steps, units;
  Problem problem;   // The same, or 0 x 0 x 0 if there are no columns.
  int64_t wide;      // Elements of a row of the product.
  int64_t features;  // Of a row of `beside`.

  const GatedCellName& Name() const { return kGatedCellNames[cell]; }
  // Which blocks the product has.
  std::array<bool, kBlocks> WantedBlocks() const {
    const GatedCellName& has = Name();
    return {true, true, has.own_input, has.output_gate, has.highway && !has_beside};
  }
  // From batch, steps and units. Where there are no columns, the other axis may have a size that no
  // integer holds.
  void SetProblem(bool reverse) {
    const bool no_columns = batch == 0 || units == 0;
    problem = no_columns ? Problem{0, 0, 0, reverse} : Problem{batch, steps, units, reverse};
  }
  // Whether all wanted blocks have their numbers, each another, and the highway the last.
  bool BlocksAreRight() const {
    const auto wanted = WantedBlocks();
    const int64_t count = std::count(wanted.begin(), wanted.end(), true);
    unsigned seen = 0;
    for (size_t i = 0; i < block.size(); ++i) {
      if (!wanted[i] && block[i] < 0) continue;
      if (!wanted[i] || block[i] < 0 || block[i] >= count || (seen >> block[i] & 1) != 0) {
        return false;
      }
      seen |= 1u << block[i];
    }
    return !wanted[kHighway] || block[kHighway] + 1 == count;
  }
  int64_t BiasWidth() const { return (CountBlocks() - (block[kHighway] >= 0)) * units; }
  int64_t CountBlocks() const {
    return std::count_if(block.begin(), block.end(), [](int64_t b) { return b >= 0; });
  }
  // The surrogate's outputs have so many in front: `beside`, filled up with zeros to a multiple of
  // 8, so that what comes after is aligned to 16 bytes.
  int64_t InFront() const { return Name().in_front && has_beside ? (features + 7) / 8 * 8 : 0; }
};

// Reads what does not depend on shapes.
inline absl::Status ReadAttributes(tensorflow::OpKernelConstruction* context, GatedCall* call) {
  std::string cell;
  std::vector<int> blocks;
  TF_RETURN_IF_ERROR(context->GetAttr("cell", &cell));
  TF_RETURN_IF_ERROR(context->GetAttr("blocks", &blocks));
  TF_RETURN_IF_ERROR(context->GetAttr("reverse", &call->problem.reverse));
  call->algorithm = Algorithm::kParallel;
  if (context->HasAttr("algorithm")) {
    TF_RETURN_IF_ERROR(ReadAlgorithm(context, &call->algorithm));
  }
  const auto given = [&](const char* attribute, bool* is_given) -> absl::Status {
    int count = 0;
    if (context->HasAttr(attribute)) TF_RETURN_IF_ERROR(context->GetAttr(attribute, &count));
    *is_given = count > 0;
    if (count <= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(attribute, " must be 0 or 1, but is ", count));
  };
  TF_RETURN_IF_ERROR(given("num_biases", &call->has_bias));
  TF_RETURN_IF_ERROR(given("num_beside", &call->has_beside));
  TF_RETURN_IF_ERROR(given("num_initial_states", &call->has_initial_state));
  TF_RETURN_IF_ERROR(given("num_masks", &call->has_mask));
  call->holds = false;
  if (context->HasAttr("hold")) TF_RETURN_IF_ERROR(context->GetAttr("hold", &call->holds));
  call->cell = 0;
  while (cell != kGatedCellNames[call->cell].name) ++call->cell;  // The op has checked it.

  const GatedCellName& has = call->Name();
  call->holds = call->holds && call->has_mask && has.output_gate;
  const auto wanted = call->WantedBlocks();
  const bool highway_block = wanted[GatedCall::kHighway];
  const auto expected = static_cast<size_t>(std::count(wanted.begin(), wanted.end(), true));
  if (blocks.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("blocks of the cell '", cell, "' must be ",
                                                   expected, " numbers, but are ", blocks.size()));
  }
  auto next = blocks.begin();
  for (size_t i = 0; i < wanted.size(); ++i) call->block[i] = wanted[i] ? *next++ : -1;
  if (highway_block && call->block[GatedCall::kHighway] + 1 != static_cast<int64_t>(expected)) {
    return absl::InvalidArgumentError("the highway, which has no bias, must be the last block");
  }
  if (!call->BlocksAreRight()) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks must be the numbers from 0 to ", expected - 1, " in some order"));
  }
  // Outputs and inputs that this cell does not have.
  const auto expect = [&](const char* attribute, bool right) {
    if (right) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(attribute, " is not one that the cell '", cell, "' can have here"));
  };
  TF_RETURN_IF_ERROR(expect("num_beside", !call->has_beside || has.in_front || has.highway));
  int count = 0;
  if (context->HasAttr("num_states")) {
    TF_RETURN_IF_ERROR(context->GetAttr("num_states", &count));
    TF_RETURN_IF_ERROR(expect("num_states", count == 0 || (count == 1 && has.output_gate)));
  }
  if (context->HasAttr("num_d_beside")) {
    TF_RETURN_IF_ERROR(context->GetAttr("num_d_beside", &count));
    TF_RETURN_IF_ERROR(expect("num_d_beside", count == (has.highway && call->has_beside)));
  }
  return absl::OkStatus();
}

// Checks the shapes of the inputs that both ops begin with, and sets how many these are.
inline absl::Status ReadCommonShapes(const std::vector<tensorflow::TensorShape>& inputs,
                                     GatedCall* call, size_t* next) {
  const tensorflow::TensorShape& product = inputs[0];
  if (product.dims() != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("product must have shape [batch, steps, blocks * units], but has shape ",
                     product.DebugString()));
  }
  const int64_t blocks = call->CountBlocks();
  const int64_t batch = product.dim_size(0), steps = product.dim_size(1);
  call->wide = product.dim_size(2);
  if (call->wide % blocks != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the last axis of product must be ", blocks,
                                                   " blocks of one size, but has ", call->wide,
                                                   " elements"));
  }
  const int64_t units = call->wide / blocks;
  call->batch = batch;
  call->steps = steps;
  call->units = units;
  *next = 1;
  if (call->has_bias) {
    TF_RETURN_IF_ERROR(Expect("bias", inputs[(*next)++], {call->BiasWidth()}, "[blocks * units]"));
  }
  call->features = 0;
  if (call->has_beside) {
    const tensorflow::TensorShape& beside = inputs[(*next)++];
    call->features = call->Name().in_front && beside.dims() == 3 ? beside.dim_size(2) : units;
    TF_RETURN_IF_ERROR(
        Expect("beside", beside, {batch, steps, call->features}, "[batch, steps, units]"));
  }
  if (call->has_initial_state) {
    TF_RETURN_IF_ERROR(
        Expect("initial_state", inputs[(*next)++], {batch, units}, "[batch, units]"));
  }
  if (call->has_mask) {
    TF_RETURN_IF_ERROR(Expect("mask", inputs[(*next)++], {batch, steps}, "[batch, steps]"));
  }
  call->SetProblem(call->problem.reverse);
  return absl::OkStatus();
}

struct GatedRecurrence {
  static constexpr const char* kName = "TfPlr>GatedRecurrence";
  static constexpr bool kIsGradient = false;

  // Inputs: product, bias, beside, initial_state, mask; all but the first if given.
  // Outputs: outputs, states if kept, last_state (float).
  static absl::Status ReadShapes(const std::vector<tensorflow::TensorShape>& inputs,
                                 GatedCall* call, std::vector<tensorflow::TensorShape>* outputs) {
    size_t next;
    TF_RETURN_IF_ERROR(ReadCommonShapes(inputs, call, &next));
    const int64_t batch = call->batch, steps = call->steps, units = call->units;
    outputs->clear();
    TF_RETURN_IF_ERROR(Append({batch, steps, call->InFront() + units}, outputs));
    if (call->keeps_states) TF_RETURN_IF_ERROR(Append({batch, steps, units}, outputs));
    return Append({batch, units}, outputs);
  }

  static bool IsFloat(const GatedCall& call, size_t output) {
    return output == (call.keeps_states ? 2 : 1);
  }
};

struct GatedRecurrenceGrad {
  static constexpr const char* kName = "TfPlr>GatedRecurrenceGrad";
  static constexpr bool kIsGradient = true;

  // Inputs: as of GatedRecurrence, initial_state of type T; then states (or outputs, where these
  // are the states), d_outputs, d_last_state.
  // Outputs: d_product, d_bias (float, if bias is given), d_beside (of SRU's, if given),
  // d_initial_state (float).
  static absl::Status ReadShapes(const std::vector<tensorflow::TensorShape>& inputs,
                                 GatedCall* call, std::vector<tensorflow::TensorShape>* outputs) {
    size_t next;
    TF_RETURN_IF_ERROR(ReadCommonShapes(inputs, call, &next));
    const int64_t batch = call->batch, steps = call->steps, units = call->units;
    const int64_t width = call->InFront() + units;
    TF_RETURN_IF_ERROR(
        Expect("states", inputs[next], {batch, steps, width}, "[batch, steps, units]"));
    TF_RETURN_IF_ERROR(Expect("d_outputs", inputs[next + 1], {batch, steps, width}, "of outputs"));
    TF_RETURN_IF_ERROR(Expect("d_last_state", inputs[next + 2], {batch, units}, "[batch, units]"));
    call->problem.reverse = !call->problem.reverse;
    outputs->assign(1, inputs[0]);
    if (call->has_bias) TF_RETURN_IF_ERROR(Append({call->BiasWidth()}, outputs));
    if (HasDBeside(*call)) TF_RETURN_IF_ERROR(Append({batch, steps, units}, outputs));
    return Append({batch, units}, outputs);
  }

  // The number of an input.
  static size_t DOutputs(const GatedCall& call) {
    return size_t{2} + call.has_bias + call.has_beside + call.has_initial_state + call.has_mask;
  }

  static bool HasDBeside(const GatedCall& call) { return call.has_beside && !call.Name().in_front; }

  static bool IsFloat(const GatedCall& call, size_t output) {
    const bool is_d_bias = call.has_bias && output == 1;
    return is_d_bias || output == size_t{1} + call.has_bias + HasDBeside(call);
  }
};

struct GatedRecurrenceTransition {
  static constexpr const char* kName = "TfPlr>GatedRecurrenceTransition";

  // Inputs: as of GatedRecurrence without initial_state, then d_outputs if given.
  // Outputs: transition (float).
  static absl::Status ReadShapes(const std::vector<tensorflow::TensorShape>& inputs,
                                 bool has_d_outputs, GatedCall* call,
                                 tensorflow::TensorShape* output) {
    size_t next;
    TF_RETURN_IF_ERROR(ReadCommonShapes(inputs, call, &next));
    if (has_d_outputs) {
      const int64_t width = call->InFront() + call->units;
      TF_RETURN_IF_ERROR(
          Expect("d_outputs", inputs[next], {call->batch, call->steps, width}, "of outputs"));
      call->problem.reverse = !call->problem.reverse;
    }
    return tensorflow::TensorShape::BuildTensorShape({2, call->batch, call->units}, output);
  }
};

// Puts the buffers of a call in the places that its cell knows.
template <typename Element>
class GatedBinding {
 public:
  // element_bytes: of T, which the engine may know by name only.
  GatedBinding(const GatedCall& call, size_t element_bytes, const std::vector<void*>& inputs,
               const std::vector<void*>& outputs)
      : call_(call), element_bytes_(element_bytes), inputs_(inputs), outputs_(outputs) {
    size_t next = 1;
    if (call.has_bias) bias_ = static_cast<float*>(inputs[next++]);
    if (call.has_beside) beside_ = inputs[next++];
    if (call.has_initial_state) initial_state_ = inputs[next++];
    if (call.has_mask) mask_ = static_cast<bool*>(inputs[next++]);
    rest_ = next;
  }

  // What the surrogate's outputs have in front.
  CopyRows InFront() const {
    const auto bytes = static_cast<int64_t>(element_bytes_);
    const int64_t in_front = call_.InFront();
    return {static_cast<const char*>(beside_),
            static_cast<char*>(outputs_[0]),
            call_.batch * call_.steps,
            call_.features * bytes,
            in_front * bytes,
            (in_front + call_.units) * bytes};
  }

  // The gradient by the bias, from that by the product.
  ColumnSums<Element> BiasGradient() const {
    return {static_cast<const Element*>(outputs_[0]), call_.problem.outer * call_.problem.steps,
            call_.BiasWidth(), call_.wide, static_cast<float*>(outputs_[1])};
  }

  // The outputs, to hold them.
  HeldRows<Element> Held() const {
    return HeldRowsOf(outputs_[0], outputs_[0], call_.problem.reverse);
  }

  // The gradient by the outputs, from that by the held ones.
  HeldRows<Element> HeldGradient(const void* d_held, void* d_outputs) const {
    return HeldRowsOf(d_held, d_outputs, !call_.problem.reverse);
  }

  template <typename Cell>
  Arrays<Cell, Element> Forward() const {
    Arrays<Cell, Element> arrays{};
    TakeBlock(&arrays, Cell::kForget, GatedCall::kForget);
    TakeBlock(&arrays, Cell::kCandidate, GatedCall::kCandidate);
    if constexpr (Cell::kOwn) TakeBlock(&arrays, Cell::kInput, GatedCall::kInput);
    if constexpr (Cell::kHasOutputGate) {
      TakeBlock(&arrays, Cell::kOutputGate, GatedCall::kOutputGate);
      if (call_.keeps_states) {
        SetOutput(&arrays, Cell::kPreviousStates, outputs_[1], 0, call_.problem.inner);
      }
    }
    if constexpr (Cell::kHasHighway) TakeHighway(&arrays, Cell::kHighway);
    const int64_t in_front = call_.InFront();
    SetOutput(&arrays, Cell::kH, outputs_[0], in_front, in_front + call_.problem.inner);
    arrays.initial_carry = static_cast<const float*>(initial_state_);
    arrays.final_carry = static_cast<float*>(outputs_.back());
    arrays.gated.mask = mask_;
    return arrays;
  }

  // The gradient cell numbers its outputs as the forward cell its inputs.
  template <typename Forward, typename Cell>
  Arrays<Cell, Element> Gradient() const {
    Arrays<Cell, Element> arrays{};
    const int64_t units = call_.problem.inner, in_front = call_.InFront();
    const auto take = [&](int input, int output, GatedCall::Block block) {
      TakeBlock(&arrays, input, block);
      SetOutput(&arrays, output, outputs_[0], call_.block[block] * units, call_.wide);
    };
    take(Cell::kForget, Forward::kForget, GatedCall::kForget);
    take(Cell::kCandidate, Forward::kCandidate, GatedCall::kCandidate);
    if constexpr (Cell::kOwn) take(Cell::kInput, Forward::kInput, GatedCall::kInput);
    if constexpr (Cell::kHasOutputGate) {
      take(Cell::kOutputGate, Forward::kOutputGate, GatedCall::kOutputGate);
    }
    if constexpr (Cell::kHasHighway) {
      TakeHighway(&arrays, Cell::kHighway);
      if (call_.has_beside) {
        SetOutput(&arrays, Forward::kHighway, outputs_[1 + call_.has_bias], 0, units);
      } else {
        SetOutput(&arrays, Forward::kHighway, outputs_[0], call_.block[GatedCall::kHighway] * units,
                  call_.wide);
      }
    }
    SetInput(&arrays, Cell::kPreviousStates, inputs_[rest_], in_front, in_front + units);
    SetInput(&arrays, Cell::kDH, inputs_[rest_ + 1], in_front, in_front + units);
    arrays.initial_carry = static_cast<const float*>(inputs_[rest_ + 2]);
    arrays.final_carry = static_cast<float*>(outputs_.back());
    arrays.boundary = static_cast<const Element*>(initial_state_);
    arrays.gated.mask = mask_;
    return arrays;
  }

  // What a step of the forward or gradient cell uses.
  template <typename Cell>
  Arrays<Cell, Element> Steps() const {
    Arrays<Cell, Element> arrays{};
    TakeBlock(&arrays, Cell::kForget, GatedCall::kForget);
    if constexpr (Cell::kIsGradient) {
      if constexpr (Cell::kHasOutputGate) {
        TakeBlock(&arrays, Cell::kOutputGate, GatedCall::kOutputGate);
      }
      const int64_t in_front = call_.InFront();
      SetInput(&arrays, Cell::kDH, inputs_[rest_], in_front, in_front + call_.problem.inner);
    } else {
      TakeBlock(&arrays, Cell::kCandidate, GatedCall::kCandidate);
      if constexpr (Cell::kOwn) TakeBlock(&arrays, Cell::kInput, GatedCall::kInput);
    }
    arrays.gated.mask = mask_;
    return arrays;
  }

 private:
  template <typename SomeArrays>
  void SetInput(SomeArrays* arrays, int input, const void* data, int64_t offset,
                int64_t stride) const {
    arrays->inputs[input] =
        reinterpret_cast<const Element*>(static_cast<const char*>(data) + offset * element_bytes_);
    arrays->gated.input_strides[input] = stride;
  }
  template <typename SomeArrays>
  void SetOutput(SomeArrays* arrays, int output, void* data, int64_t offset, int64_t stride) const {
    arrays->outputs[output] =
        reinterpret_cast<Element*>(static_cast<char*>(data) + offset * element_bytes_);
    arrays->gated.output_strides[output] = stride;
  }
  template <typename SomeArrays>
  void TakeBlock(SomeArrays* arrays, int input, GatedCall::Block block) const {
    const int64_t offset = call_.block[block] * call_.problem.inner;
    SetInput(arrays, input, inputs_[0], offset, call_.wide);
    arrays->gated.biases[input] = bias_ == nullptr ? nullptr : bias_ + offset;
  }
  HeldRows<Element> HeldRowsOf(const void* from, void* to, bool reverse) const {
    const Problem& problem = call_.problem;
    return {static_cast<const Element*>(from),
            static_cast<Element*>(to),
            mask_,
            problem.outer,
            problem.steps,
            problem.inner,
            reverse};
  }
  // Without bias, wherever it is.
  template <typename SomeArrays>
  void TakeHighway(SomeArrays* arrays, int input) const {
    if (call_.has_beside) {
      SetInput(arrays, input, beside_, 0, call_.problem.inner);
    } else {
      SetInput(arrays, input, inputs_[0], call_.block[GatedCall::kHighway] * call_.problem.inner,
               call_.wide);
    }
  }

  const GatedCall& call_;
  const size_t element_bytes_;
  const std::vector<void*>&inputs_, &outputs_;
  size_t rest_;  // The first input that is the gradient op's only.
  const float* bias_ = nullptr;
  const void *beside_ = nullptr, *initial_state_ = nullptr;
  const bool* mask_ = nullptr;
};

}  // namespace tf_plr

#endif  // TF_PLR_KERNELS_GATED_OPS_H_
