# SPDX-License-Identifier: MIT
"""Slices along the axis of time, and the second derivative that needs them."""

from typing import Any

import tensorflow as tf

from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Tensor


class TimeAxis:
    """The time axis of tensors. If it is negative, their rank may be unknown."""

    def __init__(self, axis: int, reverse: bool) -> None:
        self.axis = axis
        self._reverse = reverse

    def _slice(self, tensor: Tensor, forward: slice, backward: slice) -> Tensor:
        part = backward if self._reverse else forward
        if self.axis >= 0:
            return tensor[(slice(None),) * self.axis + (part,)]
        return tensor[(..., part) + (slice(None),) * (-self.axis - 1)]

    def first(self, tensor: Tensor, k: Any) -> Tensor:
        """The first k steps."""
        return self._slice(tensor, slice(None, k), slice(-k, None))

    def last(self, tensor: Tensor) -> Tensor:
        """The last step, without the axis."""
        return tf.squeeze(self._slice(tensor, slice(-1, None), slice(None, 1)), self.axis)

    def without_first(self, tensor: Tensor, k: Any) -> Tensor:
        return self._slice(tensor, slice(k, None), slice(None, -k))

    def without_last(self, tensor: Tensor, k: Any) -> Tensor:
        return self._slice(tensor, slice(None, -k), slice(k, None))

    def join(self, head: Tensor, tail: Tensor) -> Tensor:
        return tf.concat([tail, head] if self._reverse else [head, tail], self.axis)

    def previous(self, states: Tensor, initial_state: Tensor) -> Tensor:
        """states[t - 1] at t, and initial_state at the first step; None: zeros."""
        if initial_state is None:
            head = tf.zeros_like(self.first(states, 1))
            return self.join(head, self.without_last(states, 1))
        head = tf.expand_dims(initial_state, self.axis)
        return self.without_last(self.join(head, states), 1)

    def unshift(self, d_previous: Tensor) -> tuple[Tensor, Tensor]:
        """Given the gradient with respect to `previous(a, b)`, returns those of `a` and `b`."""
        first = self.first(d_previous, 1)
        d_states = self.join(self.without_first(d_previous, 1), tf.zeros_like(first))
        return d_states, tf.reduce_sum(first, self.axis)


def gradient_of_gradient(
    time: TimeAxis, d_impulses: Tensor, u_decays: Tensor, previous_s: Tensor, flags: StepFlags
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of LinearRecurrenceGrad with respect to (decays, states, initial_state).

    Let u_* be the gradients with respect to its outputs d_decays, d_impulses and d_initial_state,
    and h the states. Then s = LR(decays, u_decays * h[t - 1] + u_impulses, u_initial_state) is the
    gradient with respect to d_states, and `previous_s` are its states before each step. `flags` are
    those of the steps; at resets, `previous_s` are zeros.
    """
    decays = tf.math.conj(previous_s) * d_impulses
    d_previous = flags.within_sequence(tf.math.conj(u_decays) * d_impulses)
    return decays, *time.unshift(d_previous)
