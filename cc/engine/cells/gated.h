// SPDX-License-Identifier: MIT
// The gated cell: one template is the recurrence of every layer, gates and activations included.
//
//   f, i, o = gates of blocks of pre-activations;  i = 1 - f if coupled;  z = activation of a block
//   c_t = f_t c_{t-1} + i_t z_t
//
// and, by Output, where g is the activation of the states,
//
//   kState     h_t = c_t
//   kPrevious  h_t = c_{t-1}
//   kGated     h_t = o_t g(c_t)
//   kHighway   h_t = o_t g(c_t) + (1 - o_t) x_t
//
// A row of the matrix product holds several blocks side by side; a block is a window of these rows.
// The engine adds the bias when it loads a block. States are float32 between steps, whatever the
// type of the arrays. M is the Math of activations.h for the engine's numbers. Emit does not read
// the inputs that Step has read, except in gradient cells.
//
// A *masked* step does not change the state, whatever its inputs are. Its outputs are the state if
// outputs are states; otherwise they are zero. So the engine need not treat it specially: it
// replaces the inputs by those for which the gates do just that (see WhereMasked). This needs
// finite biases, and outputs are 0 only while states are finite.
#ifndef TF_PLR_ENGINE_CELLS_GATED_H_
#define TF_PLR_ENGINE_CELLS_GATED_H_

#include "cc/engine/cells/activations.h"
#include "cc/engine/cells/recurrence.h"
#include "cc/engine/transition.h"

namespace tf_plr {

enum class InputGate { kCoupled, kOwn };
enum class Output { kState, kPrevious, kGated, kHighway };

// The functions of a gated cell, chosen at run time.
struct GatedFunctions {
  static constexpr bool kFixed = false, kStatesAreLinear = false, kAreDefaults = false;

  Activation activation, state_activation;
  GateFunction gate;

  // Replace several elements by their activations; Differentiate also returns the slopes.
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void Activate(A (&x)[kCount]) const {
    tf_plr::Activate<M>(activation, x);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void ActivateStates(A (&x)[kCount]) const {
    tf_plr::Activate<M>(state_activation, x);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void Differentiate(A (&x)[kCount], A (&slopes)[kCount]) const {
    tf_plr::Differentiate<M>(activation, x, slopes);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void DifferentiateStates(A (&x)[kCount], A (&slopes)[kCount]) const {
    tf_plr::Differentiate<M>(state_activation, x, slopes);
  }
};

// Functions that are known when a kernel is compiled. Gates are sigmoids.
template <Activation kActivation, Activation kStateActivation = Activation::kLinear>
struct FixedFunctions {
  static constexpr bool kFixed = true, kStatesAreLinear = kStateActivation == Activation::kLinear;
  static constexpr bool kAreDefaults = kStatesAreLinear;

  static constexpr Activation activation = kActivation, state_activation = kStateActivation;
  static constexpr GateFunction gate = GateFunction::kSigmoid;

  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void Activate(A (&x)[kCount]) const {
    ActivateEach<M>(kActivation, x);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void ActivateStates(A (&x)[kCount]) const {
    ActivateEach<M>(kStateActivation, x);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void Differentiate(A (&x)[kCount], A (&slopes)[kCount]) const {
    DifferentiateEach<M>(kActivation, x, slopes);
  }
  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE void DifferentiateStates(A (&x)[kCount], A (&slopes)[kCount]) const {
    DifferentiateEach<M>(kStateActivation, x, slopes);
  }
};

template <InputGate kInputGate, Output kOutput, typename FunctionsType>
struct GatedCell {
  using WithoutBroadcast = GatedCell;
  using Functions = FunctionsType;
  static constexpr bool kGated = true, kIsGradient = false;
  static constexpr bool kHasInputGate = kInputGate == InputGate::kOwn;
  static constexpr bool kHasOutputGate = kOutput == Output::kGated || kOutput == Output::kHighway;
  static constexpr bool kHasHighway = kOutput == Output::kHighway;

  // Inputs: blocks of the product, and the highway.
  static constexpr int kForget = 0, kCandidate = 1, kInput = 2, kOutputGate = 2 + kHasInputGate,
                       kHighway = 3 + kHasInputGate;
  static constexpr int kInputs = 2 + kHasInputGate + kHasOutputGate + kHasHighway;
  static constexpr int kStepInputs = 2 + kHasInputGate;
  TF_PLR_HOST_DEVICE static int StepInputs(const Functions&) { return kStepInputs; }
  static constexpr int kLookahead = -1, kBroadcast = -1;
  static constexpr bool kFlags = false;
  TF_PLR_HOST_DEVICE static constexpr bool HasBias(int input) {
    return !kHasHighway || input != kHighway;
  }
  TF_PLR_HOST_DEVICE static constexpr Masked WhereMasked(int input) {
    if (input == kForget) return Masked::kInfinity;
    const bool is_gate = (kHasInputGate && input == kInput) || input == kOutputGate;
    return is_gate ? Masked::kMinusInfinity : Masked::kZero;
  }

  // Outputs. If h is not a state, the gradient also needs c_{t-1}. A null output is not written.
  static constexpr int kH = 0, kPreviousStates = 1;
  static constexpr int kOutputs = kHasOutputGate ? 2 : 1;

  template <typename T>
  using Column = float;

  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE static void Step(const Functions& functions, const A (&in)[kInputs][kCount],
                                      Transition<A> (&steps)[kCount]) {
    A candidate[kCount];
    for (int i = 0; i < kCount; ++i) candidate[i] = in[kCandidate][i];
    functions.template Activate<M>(candidate);
    Gate<A> forget[kCount], input[kCount];
    OpenGates<M>(functions.gate, in[kForget], forget);
    if constexpr (kHasInputGate) OpenGates<M>(functions.gate, in[kInput], input);
    for (int i = 0; i < kCount; ++i) {
      steps[i] = {forget[i].open,
                  (kHasInputGate ? input[i].open : forget[i].closed) * candidate[i]};
    }
  }

  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE static void Emit(const Functions& functions, const A (&in)[kInputs][kCount],
                                      const A (&before)[kCount], const A (&after)[kCount],
                                      A (&out)[kOutputs][kCount]) {
    if constexpr (kHasOutputGate) {
      A activated[kCount];
      for (int i = 0; i < kCount; ++i) activated[i] = after[i];
      functions.template ActivateStates<M>(activated);
      Gate<A> output[kCount];
      OpenOutputGates<M>(functions.gate, in[kOutputGate], output);
      for (int i = 0; i < kCount; ++i) {
        out[kH][i] = output[i].open * activated[i];
        if constexpr (kHasHighway) out[kH][i] += output[i].closed * in[kHighway][i];
        out[kPreviousStates][i] = before[i];
      }
    } else {
      for (int i = 0; i < kCount; ++i) {
        out[kH][i] = kOutput == Output::kPrevious ? before[i] : after[i];
      }
    }
  }
};

// The reverse pass, processed against the forward direction. It computes the gates again. g_t is
// the gradient with respect to c_t, from all later steps. The carry k_t is what step t hands to its
// predecessor:
//
//   kPrevious           g_t = k_{t+1},                       k_t = f_t g_t + d_h_t
//   kState              g_t = k_{t+1} + d_h_t,               k_t = f_t g_t
//   the others          g_t = k_{t+1} + o_t g'(c_t) d_h_t,   k_t = f_t g_t
//
// The gradient of each block is the gradient of its gate times the gate's slope.
template <InputGate kInputGate, Output kOutput, typename FunctionsType>
struct GatedGradientCell {
  using WithoutBroadcast = GatedGradientCell;
  using Forward = GatedCell<kInputGate, kOutput, FunctionsType>;
  using Functions = FunctionsType;
  static constexpr bool kGated = true, kIsGradient = true;
  static constexpr bool kHasInputGate = Forward::kHasInputGate;
  static constexpr bool kHasOutputGate = Forward::kHasOutputGate;
  static constexpr bool kHasHighway = Forward::kHasHighway;

  // Inputs.
  static constexpr int kForget = 0, kDH = 1, kOutputGate = 2, kCandidate = 2 + kHasOutputGate,
                       kPreviousStates = kCandidate + 1, kInput = kCandidate + 2,
                       kHighway = kCandidate + 2 + kHasInputGate;
  static constexpr int kInputs = kCandidate + 2 + kHasInputGate + kHasHighway;
  // With an output gate, Step computes the state c_t if that has an activation.
  static constexpr bool kReadsStates = kHasOutputGate && !Functions::kStatesAreLinear;
  static constexpr int kStepInputs = !kHasOutputGate ? 2 : kReadsStates ? kInputs - kHasHighway : 3;
  static_assert(!kReadsStates || kStepInputs > kPreviousStates);
  TF_PLR_HOST_DEVICE static int StepInputs(const Functions& functions) {
    const bool linear = functions.state_activation == Activation::kLinear;
    return kHasOutputGate && linear ? 3 : kStepInputs;
  }
  // If the forward pass kept the states themselves, c_{t-1} is one step further on.
  static constexpr int kLookahead = kOutput == Output::kState ? kPreviousStates : -1;
  static constexpr int kBroadcast = -1;
  static constexpr bool kFlags = false;
  TF_PLR_HOST_DEVICE static constexpr bool HasBias(int input) {
    return input != kDH && input != kPreviousStates && (!kHasHighway || input != kHighway);
  }
  // If outputs are states, masked steps repeat the state, so the gradients of their outputs count.
  TF_PLR_HOST_DEVICE static constexpr Masked WhereMasked(int input) {
    if (input == kForget) return Masked::kInfinity;
    if (input == kDH && !kHasOutputGate) return Masked::kKept;
    const bool is_gate =
        (kHasInputGate && input == kInput) || (kHasOutputGate && input == kOutputGate);
    return is_gate ? Masked::kMinusInfinity : Masked::kZero;
  }

  // Outputs: the gradients of the forward cell's inputs, in its order.
  static constexpr int kOutputs = Forward::kInputs;

  template <typename T>
  using Column = float;

  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE static void Step(const Functions& functions, const A (&in)[kInputs][kCount],
                                      Transition<A> (&steps)[kCount]) {
    Gate<A> forget[kCount], output[kCount];
    OpenGates<M>(functions.gate, in[kForget], forget);
    if constexpr (kHasOutputGate) OpenOutputGates<M>(functions.gate, in[kOutputGate], output);
    for (int i = 0; i < kCount; ++i) {
      const A forget_open = forget[i].open;
      if constexpr (kOutput == Output::kPrevious) {
        steps[i] = {forget_open, in[kDH][i]};
      } else if constexpr (kHasOutputGate) {
        steps[i] = {forget_open, forget_open * (output[i].open * in[kDH][i])};
      } else {
        steps[i] = {forget_open, forget_open * in[kDH][i]};
      }
    }
    if constexpr (kReadsStates) {
      if (functions.state_activation == Activation::kLinear) return;
      A states[kCount], slopes[kCount];
      for (int i = 0; i < kCount; ++i) states[i] = in[kCandidate][i];
      functions.template Activate<M>(states);
      Gate<A> input[kCount];
      if constexpr (kHasInputGate) OpenGates<M>(functions.gate, in[kInput], input);
      for (int i = 0; i < kCount; ++i) {
        const A input_open = kHasInputGate ? input[i].open : forget[i].closed;
        states[i] = forget[i].open * in[kPreviousStates][i] + input_open * states[i];
      }
      functions.template DifferentiateStates<M>(states, slopes);
      for (int i = 0; i < kCount; ++i) steps[i].impulse = steps[i].impulse * slopes[i];
    }
  }

  template <typename M, typename A, int kCount>
  TF_PLR_HOST_DEVICE static void Emit(const Functions& functions, const A (&in)[kInputs][kCount],
                                      const A (&before)[kCount], const A (& /*after*/)[kCount],
                                      A (&out)[kOutputs][kCount]) {
    A candidate[kCount], candidate_slopes[kCount];
    for (int i = 0; i < kCount; ++i) candidate[i] = in[kCandidate][i];
    functions.template Differentiate<M>(candidate, candidate_slopes);
    Gate<A> forget[kCount], input[kCount], output[kCount];
    OpenGates<M>(functions.gate, in[kForget], forget);
    if constexpr (kHasInputGate) OpenGates<M>(functions.gate, in[kInput], input);
    A gradients[kCount];
    for (int i = 0; i < kCount; ++i) {
      if constexpr (!kHasInputGate) input[i].open = forget[i].closed;
      gradients[i] = kOutput == Output::kState ? before[i] + in[kDH][i] : before[i];
    }
    if constexpr (kHasOutputGate) {
      A states[kCount], slopes[kCount];
      for (int i = 0; i < kCount; ++i) {
        states[i] = forget[i].open * in[kPreviousStates][i] + input[i].open * candidate[i];
      }
      functions.template DifferentiateStates<M>(states, slopes);
      OpenOutputGates<M>(functions.gate, in[kOutputGate], output);
      for (int i = 0; i < kCount; ++i) {
        gradients[i] = before[i] + output[i].open * slopes[i] * in[kDH][i];
        if constexpr (kHasHighway) {
          states[i] = states[i] - in[kHighway][i];
          out[Forward::kHighway][i] = output[i].closed * in[kDH][i];
        }
        out[Forward::kOutputGate][i] = output[i].slope * states[i] * in[kDH][i];
      }
    }
    for (int i = 0; i < kCount; ++i) {
      const A previous = in[kPreviousStates][i];
      if constexpr (kHasInputGate) {
        out[Forward::kForget][i] = forget[i].slope * previous * gradients[i];
        out[Forward::kInput][i] = input[i].slope * candidate[i] * gradients[i];
      } else {
        out[Forward::kForget][i] = forget[i].slope * (previous - candidate[i]) * gradients[i];
      }
      out[Forward::kCandidate][i] = input[i].open * candidate_slopes[i] * gradients[i];
    }
  }
};

// All kinds of gated cells. Kernels, the choice of one at run time, and tests come from this list.
// An entry is M(T, Name, input gate, output, functions); the user of the list chooses T.
#define TF_PLR_FOR_EACH_GATED_CELL(M, T)                     \
  M(T, CoupledState, kCoupled, kState, GatedFunctions)       \
  M(T, CoupledPrevious, kCoupled, kPrevious, GatedFunctions) \
  M(T, CoupledGated, kCoupled, kGated, GatedFunctions)       \
  M(T, CoupledHighway, kCoupled, kHighway, GatedFunctions)   \
  M(T, OwnState, kOwn, kState, GatedFunctions)               \
  M(T, OwnPrevious, kOwn, kPrevious, GatedFunctions)         \
  M(T, OwnGated, kOwn, kGated, GatedFunctions)               \
  M(T, OwnHighway, kOwn, kHighway, GatedFunctions)

// The layers' defaults, and SRU with tanh, with kernels of their own on a GPU. These are up to a
// quarter faster (benchmarks/gated_kernel.py).
using TanhOfStates = FixedFunctions<Activation::kLinear, Activation::kTanh>;
#define TF_PLR_FOR_EACH_FIXED_CELL(M, T)                                  \
  M(T, Gilr, kCoupled, kState, FixedFunctions<Activation::kElu>)          \
  M(T, Surrogate, kCoupled, kPrevious, FixedFunctions<Activation::kTanh>) \
  M(T, FoPooling, kCoupled, kGated, FixedFunctions<Activation::kTanh>)    \
  M(T, IfoPooling, kOwn, kGated, FixedFunctions<Activation::kTanh>)       \
  M(T, Highway, kCoupled, kHighway, FixedFunctions<Activation::kLinear>)  \
  M(T, TanhHighway, kCoupled, kHighway, TanhOfStates)

#define TF_PLR_NAME_GATED_CELL(T, Name, input, output, functions)            \
  using Name##Cell = GatedCell<InputGate::input, Output::output, functions>; \
  using Name##GradientCell = GatedGradientCell<InputGate::input, Output::output, functions>;
TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_NAME_GATED_CELL, )
TF_PLR_FOR_EACH_FIXED_CELL(TF_PLR_NAME_GATED_CELL, )
#undef TF_PLR_NAME_GATED_CELL

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CELLS_GATED_H_
