// SPDX-License-Identifier: MIT
// The gated cell: one template is the recurrence of every layer, gates and activations included.
//
//   f, i, o = sigmoid(blocks of pre-activations);  i = 1 - f if coupled;  z = activation(block)
//   c_t = f_t c_{t-1} + i_t z_t
//
// and, by Output,
//
//   kState     h_t = c_t                          GILR, QRNN "f"
//   kPrevious  h_t = c_{t-1}                      the surrogate of LinearSurrogateLSTM
//   kGated     h_t = o_t c_t                      LinearSurrogateLSTM, QRNN "fo" and "ifo"
//   kHighway   h_t = o_t c_t + (1 - o_t) x_t      SRU
//
// A row of the matrix product holds several blocks side by side; a block is a window of these rows.
// The engine adds the bias when it loads a block. States are float32 between steps, whatever the
// type of the arrays. M is the Math of activations.h for the engine's numbers. Emit does not read
// the inputs that Step has read, except in gradient cells.
//
// A *masked* step does not change the state, whatever its inputs are. Its outputs are the state if
// outputs are states; otherwise they are zero.
#ifndef TF_PLR_ENGINE_CELLS_GATED_H_
#define TF_PLR_ENGINE_CELLS_GATED_H_

#include "cc/engine/cells/activations.h"
#include "cc/engine/transition.h"

namespace tf_plr {

enum class InputGate { kCoupled, kOwn };
enum class Output { kState, kPrevious, kGated, kHighway };

template <Activation kActivation, InputGate kInputGate, Output kOutput>
struct GatedCell {
  static constexpr bool kGated = true, kIsGradient = false;
  static constexpr bool kHasInputGate = kInputGate == InputGate::kOwn;
  static constexpr bool kHasOutputGate = kOutput == Output::kGated || kOutput == Output::kHighway;
  static constexpr bool kHasHighway = kOutput == Output::kHighway;

  // Inputs: blocks of the product, and the highway.
  static constexpr int kForget = 0, kCandidate = 1, kInput = 2, kOutputGate = 2 + kHasInputGate,
                       kHighway = 3 + kHasInputGate;
  static constexpr int kInputs = 2 + kHasInputGate + kHasOutputGate + kHasHighway;
  static constexpr int kStepInputs = 2 + kHasInputGate;
  static constexpr int kLookahead = -1;
  TF_PLR_HOST_DEVICE static constexpr bool HasBias(int input) {
    return !kHasHighway || input != kHighway;
  }

  // Outputs. If h is not a state, the gradient also needs c_{t-1}. A null output is not written.
  static constexpr int kH = 0, kPreviousStates = 1;
  static constexpr int kOutputs = kHasOutputGate ? 2 : 1;

  template <typename T>
  using Column = float;

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Transition<A> Step(const A (&in)[kInputs]) {
    const Gate<A> forget = Sigmoid<M>(in[kForget]);
    const A candidate = ActivationFunction<kActivation>::template Of<M>(in[kCandidate]);
    if constexpr (kHasInputGate) {
      return {forget.open, Sigmoid<M>(in[kInput]).open * candidate};
    } else {
      return {forget.open, forget.closed * candidate};
    }
  }

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static void Emit(const A (&in)[kInputs], A before, A after,
                                      A (&out)[kOutputs]) {
    if constexpr (kHasHighway) {
      const Gate<A> output = PlainSigmoid<M>(in[kOutputGate]);
      out[kH] = output.open * after + output.closed * in[kHighway];
      out[kPreviousStates] = before;
    } else if constexpr (kHasOutputGate) {
      out[kH] = PlainSigmoid<M>(in[kOutputGate]).open * after;
      out[kPreviousStates] = before;
    } else {
      out[kH] = kOutput == Output::kPrevious ? before : after;
    }
  }

  // A masked step does not change the state.
  static constexpr bool kStepsWhereMasked = false;

  template <typename A>
  TF_PLR_HOST_DEVICE static void EmitMasked(A state, A (&out)[kOutputs]) {
    out[kH] = kHasOutputGate ? A{} : state;
    if constexpr (kHasOutputGate) out[kPreviousStates] = state;
  }
};

// The reverse pass, processed against the forward direction. It computes the gates again. g_t is
// the gradient with respect to c_t, from all later steps. The carry k_t is what step t hands to its
// predecessor:
//
//   kPrevious           g_t = k_{t+1},              k_t = f_t g_t + d_h_t
//   the others          g_t = k_{t+1} + o_t d_h_t,  k_t = f_t g_t              (o_t = 1 in kState)
//
// The gradient of each block is the gradient of its gate times the gate's slope.
template <Activation kActivation, InputGate kInputGate, Output kOutput>
struct GatedGradientCell {
  using Forward = GatedCell<kActivation, kInputGate, kOutput>;
  static constexpr bool kGated = true, kIsGradient = true;
  static constexpr bool kHasInputGate = Forward::kHasInputGate;
  static constexpr bool kHasOutputGate = Forward::kHasOutputGate;
  static constexpr bool kHasHighway = Forward::kHasHighway;

  // Inputs.
  static constexpr int kForget = 0, kDH = 1, kOutputGate = 2, kCandidate = 2 + kHasOutputGate,
                       kPreviousStates = kCandidate + 1, kInput = kCandidate + 2,
                       kHighway = kCandidate + 2 + kHasInputGate;
  static constexpr int kInputs = kCandidate + 2 + kHasInputGate + kHasHighway;
  static constexpr int kStepInputs = 2 + kHasOutputGate;
  // If the forward pass kept the states themselves, c_{t-1} is one step further on.
  static constexpr int kLookahead = kOutput == Output::kState ? kPreviousStates : -1;
  TF_PLR_HOST_DEVICE static constexpr bool HasBias(int input) {
    return input != kDH && input != kPreviousStates && (!kHasHighway || input != kHighway);
  }

  // Outputs: the gradients of the forward cell's inputs, in its order.
  static constexpr int kOutputs = Forward::kInputs;

  template <typename T>
  using Column = float;

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Transition<A> Step(const A (&in)[kInputs]) {
    const A forget = Sigmoid<M>(in[kForget]).open;
    if constexpr (kOutput == Output::kPrevious) return {forget, in[kDH]};
    if constexpr (kHasOutputGate) {
      return {forget, forget * (PlainSigmoid<M>(in[kOutputGate]).open * in[kDH])};
    } else {
      return {forget, forget * in[kDH]};
    }
  }

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static void Emit(const A (&in)[kInputs], A before, A /*after*/,
                                      A (&out)[kOutputs]) {
    using F = ActivationFunction<kActivation>;
    const Gate<A> forget = Sigmoid<M>(in[kForget]);
    const A previous = in[kPreviousStates], candidate = F::template Of<M>(in[kCandidate]);
    A input = forget.closed, d_input_gate{};
    if constexpr (kHasInputGate) {
      const Gate<A> gate = Sigmoid<M>(in[kInput]);
      input = gate.open;
      d_input_gate = candidate * gate.Slope();
    }
    A gradient = before;
    if constexpr (kOutput == Output::kState) gradient = before + in[kDH];
    if constexpr (kHasOutputGate) {
      const Gate<A> output = PlainSigmoid<M>(in[kOutputGate]);
      gradient = before + output.open * in[kDH];
      A d_output_gate = forget.open * previous + input * candidate;  // The state.
      if constexpr (kHasHighway) {
        d_output_gate = d_output_gate - in[kHighway];
        out[Forward::kHighway] = output.closed * in[kDH];
      }
      out[Forward::kOutputGate] = output.Slope() * d_output_gate * in[kDH];
    }
    if constexpr (kHasInputGate) {
      out[Forward::kForget] = forget.Slope() * previous * gradient;
      out[Forward::kInput] = d_input_gate * gradient;
    } else {
      out[Forward::kForget] = forget.Slope() * (previous - candidate) * gradient;
    }
    out[Forward::kCandidate] = F::template Gradient<M>(in[kCandidate], candidate, input * gradient);
  }

  // If outputs are states, masked steps repeat the state, so the gradients of their outputs count.
  static constexpr bool kStepsWhereMasked = !kHasOutputGate;
  template <typename A>
  TF_PLR_HOST_DEVICE static Transition<A> StepMasked(A d_h) {
    return {A{} + 1.0f, d_h};
  }

  template <typename A>
  TF_PLR_HOST_DEVICE static void EmitMasked(A /*state*/, A (&out)[kOutputs]) {
    for (A& gradient : out) gradient = A{};
  }
};

// The cells that the layers' defaults need. The op's names of cells, the compiled kernels and the
// tests all come from this one list. An entry is M(T, Name, name in the op, activation, input gate,
// output); the user of the list chooses T.
#define TF_PLR_FOR_EACH_GATED_CELL(M, T)                   \
  M(T, Gilr, "gilr", kElu, kCoupled, kState)               \
  M(T, Surrogate, "surrogate", kTanh, kCoupled, kPrevious) \
  M(T, FPooling, "f", kTanh, kCoupled, kState)             \
  M(T, FoPooling, "fo", kTanh, kCoupled, kGated)           \
  M(T, IfoPooling, "ifo", kTanh, kOwn, kGated)             \
  M(T, Highway, "sru", kLinear, kCoupled, kHighway)

#define TF_PLR_NAME_GATED_CELL(T, Name, name, activation, input, output)                  \
  using Name##Cell = GatedCell<Activation::activation, InputGate::input, Output::output>; \
  using Name##GradientCell =                                                              \
      GatedGradientCell<Activation::activation, InputGate::input, Output::output>;
TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_NAME_GATED_CELL, )
#undef TF_PLR_NAME_GATED_CELL

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CELLS_GATED_H_
