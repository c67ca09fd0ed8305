// SPDX-License-Identifier: MIT
// What makes the recurrence parallel: steps are affine maps, and affine maps compose associatively.
#ifndef TF_PLR_ENGINE_TRANSITION_H_
#define TF_PLR_ENGINE_TRANSITION_H_

#include "cc/engine/numeric.h"

namespace tf_plr {

// One step, or any number of consecutive steps: state -> decay * state + impulse.
template <typename A>
struct Transition {
  A decay, impulse;

  TF_PLR_HOST_DEVICE A Apply(A state) const { return MultiplyAdd(decay, state, impulse); }
  TF_PLR_HOST_DEVICE static Transition Identity() { return {A(1), A(0)}; }
};

// The transition that takes `first` and then `second`.
template <typename A>
TF_PLR_HOST_DEVICE Transition<A> Compose(Transition<A> first, Transition<A> second) {
  return {second.decay * first.decay, second.Apply(first.impulse)};
}

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_TRANSITION_H_
