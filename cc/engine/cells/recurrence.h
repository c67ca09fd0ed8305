// SPDX-License-Identifier: MIT
// A cell says what one step computes; an engine says where and when. Cells are arithmetic only:
// they never see an address, a thread or a data type narrower than the accumulator.
//
// The engine walks the steps of a column in *processing order* (t = 1..T, or T..1 if reversed),
// holds the carry between steps, and for each step
//
//   reads    kInputs arrays. Array kLookahead, if any, is read one step ahead; past the last step,
//            a boundary value takes its place. So a gradient finds h_{t-1};
//   carries  carry = Step(in).Apply(carry), where Step may use the first kStepInputs arrays only
//            (the first StepInputs(), which depends on functions that are chosen at run time);
//   writes   kOutputs arrays, from the inputs and from the carry before and after the step.
//
// If step arrays are of type T, arrays of carries are of type Column<T>. cells/gated.h documents
// what kGated cells need in addition. Array kBroadcast, if any, is broadcast (see broadcast.h).
#ifndef TF_PLR_ENGINE_CELLS_RECURRENCE_H_
#define TF_PLR_ENGINE_CELLS_RECURRENCE_H_

#include <cmath>

#include "cc/engine/transition.h"

namespace tf_plr {

// What takes the place of an input at a masked step, so that the step does not change the state.
enum class Masked { kKept, kZero, kOne, kInfinity, kMinusInfinity };

TF_PLR_HOST_DEVICE constexpr float ValueOf(Masked masked) {
  return masked == Masked::kOne             ? 1.0f
         : masked == Masked::kInfinity      ? INFINITY
         : masked == Masked::kMinusInfinity ? -INFINITY
                                            : 0.0f;
}

struct NoFunctions {
  static constexpr bool kFixed = true;         // Whether they are known when a kernel is compiled.
  static constexpr bool kAreDefaults = false;  // Whether a layer's default cell has them.
};

// states_t = decays_t * states_{t-1} + impulses_t; the carry is the state.
struct RecurrenceCell {
  using WithoutBroadcast = RecurrenceCell;
  using Functions = NoFunctions;
  static constexpr bool kGated = false, kIsGradient = false;
  enum Input { kDecays, kImpulses, kInputs };
  enum Output { kStates, kOutputs };
  static constexpr int kStepInputs = 2;
  TF_PLR_HOST_DEVICE static int StepInputs(const Functions&) { return kStepInputs; }
  static constexpr int kLookahead = -1, kBroadcast = -1;
  static constexpr bool kFlags = false;
  TF_PLR_HOST_DEVICE static constexpr Masked WhereMasked(int input) {
    return input == kDecays ? Masked::kOne : Masked::kZero;
  }
  template <typename T>
  using Column = T;

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Transition<A> Step(const A (&in)[kInputs]) {
    return {in[kDecays], in[kImpulses]};
  }

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static void Emit(const A (&)[kInputs], A /*before*/, A after,
                                      A (&out)[kOutputs]) {
    out[kStates] = after;
  }
};

// The reverse pass of RecurrenceCell, processed against its direction. g_t is the gradient with
// respect to state t, from all later steps. The carry k_t = conj(decays_t) g_t is what step t hands
// to its predecessor. So g_t = k_{t+1} + d_states_t needs no shifted decays:
//
//   k_t = conj(decays_t) (k_{t+1} + d_states_t),   d_impulses_t = g_t,
//   d_decays_t = conj(states_{t-1}) g_t,           d_initial_state = k_1.
struct RecurrenceGradientCell {
  using WithoutBroadcast = RecurrenceGradientCell;
  using Functions = NoFunctions;
  static constexpr bool kGated = false, kIsGradient = true;
  enum Input { kDecays, kDStates, kPreviousStates, kInputs };
  enum Output { kDDecays, kDImpulses, kOutputs };
  static constexpr int kStepInputs = 2;
  TF_PLR_HOST_DEVICE static int StepInputs(const Functions&) { return kStepInputs; }
  static constexpr int kLookahead = kPreviousStates, kBroadcast = -1;
  static constexpr bool kFlags = false;
  // The states of masked steps are those before them, so the gradients of these states count.
  TF_PLR_HOST_DEVICE static constexpr Masked WhereMasked(int input) {
    return input == kDecays ? Masked::kOne : Masked::kKept;
  }
  template <typename T>
  using Column = T;

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Transition<A> Step(const A (&in)[kInputs]) {
    const A decay = Conjugate(in[kDecays]);
    return {decay, decay * in[kDStates]};
  }

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static void Emit(const A (&in)[kInputs], A before, A /*after*/,
                                      A (&out)[kOutputs]) {
    const A gradient = before + in[kDStates];
    out[kDDecays] = Conjugate(in[kPreviousStates]) * gradient;
    out[kDImpulses] = gradient;
  }
};

// RecurrenceGradientCell without the gradient with respect to decays.
struct ImpulseGradientCell {
  using WithoutBroadcast = ImpulseGradientCell;
  using Functions = NoFunctions;
  static constexpr bool kGated = false, kIsGradient = true;
  enum Input { kDecays, kDStates, kInputs };
  enum Output { kDImpulses, kOutputs };
  static constexpr int kStepInputs = 2;
  TF_PLR_HOST_DEVICE static int StepInputs(const Functions&) { return kStepInputs; }
  static constexpr int kLookahead = -1, kBroadcast = -1;
  static constexpr bool kFlags = false;
  TF_PLR_HOST_DEVICE static constexpr Masked WhereMasked(int input) {
    return RecurrenceGradientCell::WhereMasked(input);
  }
  template <typename T>
  using Column = T;

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Transition<A> Step(const A (&in)[kInputs]) {
    const A decay = Conjugate(in[kDecays]);
    return {decay, decay * in[kDStates]};
  }

  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static void Emit(const A (&in)[kInputs], A before, A /*after*/,
                                      A (&out)[kOutputs]) {
    out[kDImpulses] = before + in[kDStates];
  }
};

// A cell whose kernels on a GPU heed flags. Kernels of other cells ignore all flags except masks of
// gated cells. (On a CPU, all cells heed flags.)
template <typename Cell>
struct WithFlags : Cell {
  static constexpr bool kFlags = true;
};

// A cell whose decays are broadcast.
template <typename Cell>
struct WithBroadcastDecays : Cell {
  static constexpr int kBroadcast = Cell::kDecays;
};
using BroadcastRecurrenceCell = WithBroadcastDecays<RecurrenceCell>;
using BroadcastImpulseGradientCell = WithBroadcastDecays<ImpulseGradientCell>;

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CELLS_RECURRENCE_H_
