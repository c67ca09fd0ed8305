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
  // If `forgets`, a decay of 0 forgets the state, even one that is Inf or NaN.
  TF_PLR_HOST_DEVICE A Apply(A state, bool forgets) const {
    return forgets && decay == A(0) ? impulse : Apply(state);
  }
  TF_PLR_HOST_DEVICE static Transition Identity() { return {A(1), A(0)}; }
  // Of a state from which nothing is left.
  TF_PLR_HOST_DEVICE static Transition Zero() { return {A(0), A(0)}; }
};

// The transition that takes `first` and then `second`.
template <typename A>
TF_PLR_HOST_DEVICE Transition<A> Compose(Transition<A> first, Transition<A> second) {
  return {second.decay * first.decay, second.Apply(first.impulse)};
}
template <typename A>
TF_PLR_HOST_DEVICE Transition<A> Compose(Transition<A> first, Transition<A> second, bool forgets) {
  return forgets && second.decay == A(0) ? second : Compose(first, second);
}

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_TRANSITION_H_
