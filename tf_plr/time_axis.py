# SPDX-License-Identifier: MIT
"""Slices along the axis of time, counted in the direction of the recurrence, and what they make."""

from typing import Any

import tensorflow as tf


class TimeAxis:
    """A negative axis counts from the last one, and so needs no known rank."""

    def __init__(self, axis: int, reverse: bool) -> None:
        self.axis = axis
        self._reverse = reverse

    def _slice(self, tensor: Any, forward: slice, backward: slice) -> Any:
        part = backward if self._reverse else forward
        if self.axis >= 0:
            return tensor[(slice(None),) * self.axis + (part,)]
        return tensor[(..., part) + (slice(None),) * (-self.axis - 1)]

    def first(self, tensor: Any, k: Any) -> Any:
        """The first k steps."""
        return self._slice(tensor, slice(None, k), slice(-k, None))

    def last(self, tensor: Any) -> Any:
        """The last step, without the axis."""
        return tf.squeeze(self._slice(tensor, slice(-1, None), slice(None, 1)), self.axis)

    def without_first(self, tensor: Any, k: Any) -> Any:
        return self._slice(tensor, slice(k, None), slice(None, -k))

    def without_last(self, tensor: Any, k: Any) -> Any:
        return self._slice(tensor, slice(None, -k), slice(k, None))

    def join(self, head: Any, tail: Any) -> Any:
        return tf.concat([tail, head] if self._reverse else [head, tail], self.axis)

    def previous(self, states: Any, initial_state: Any) -> Any:
        """states[t - 1] at t, and initial_state at the first step; None: zeros."""
        if initial_state is None:
            head = tf.zeros_like(self.first(states, 1))
            return self.join(head, self.without_last(states, 1))
        head = tf.expand_dims(initial_state, self.axis)
        return self.without_last(self.join(head, states), 1)

    def unshift(self, d_previous: Any) -> tuple[Any, Any]:
        """The gradients by (states, initial_state) from that by previous(states, initial_state)."""
        first = self.first(d_previous, 1)
        d_states = self.join(self.without_first(d_previous, 1), tf.zeros_like(first))
        return d_states, tf.reduce_sum(first, self.axis)


def gradient_of_gradient(
    time: TimeAxis, d_impulses: Any, u_decays: Any, previous_s: Any
) -> tuple[Any, Any, Any]:
    """The gradients of a recurrence's gradient by (decays, states, initial_state).

    With u_* those that come in by d_decays, d_impulses and d_initial_state, and h the states, what
    reaches d_impulses[t] does so by a recurrence forward in time,
    s = LR(decays, u_decays * h[t - 1] + u_impulses, u_initial_state), and s is the gradient by
    d_states.
    """
    by_decays = tf.math.conj(previous_s) * d_impulses
    return by_decays, *time.unshift(tf.math.conj(u_decays) * d_impulses)
