# SPDX-License-Identifier: MIT
"""Slices along the axis of time, counted in the direction of the recurrence."""

import tensorflow as tf


class TimeAxis:
    def __init__(self, axis, reverse):
        self.axis = axis
        self._reverse = reverse

    def _slice(self, tensor, forward, backward):
        part = backward if self._reverse else forward
        return tensor[(slice(None),) * self.axis + (part,)]

    def first(self, tensor, k):
        """The first k steps."""
        return self._slice(tensor, slice(None, k), slice(-k, None))

    def without_first(self, tensor, k):
        return self._slice(tensor, slice(k, None), slice(None, -k))

    def without_last(self, tensor, k):
        return self._slice(tensor, slice(None, -k), slice(k, None))

    def join(self, head, tail):
        return tf.concat([tail, head] if self._reverse else [head, tail], self.axis)

    def previous(self, states, initial_state):
        """states[t - 1] at t, and initial_state at the first step; None: zeros."""
        if initial_state is None:
            head = tf.zeros_like(self.first(states, 1))
            return self.join(head, self.without_last(states, 1))
        head = tf.expand_dims(initial_state, self.axis)
        return self.without_last(self.join(head, states), 1)

    def unshift(self, d_previous):
        """The gradients by (states, initial_state) from that by previous(states, initial_state)."""
        first = self.first(d_previous, 1)
        d_states = self.join(self.without_first(d_previous, 1), tf.zeros_like(first))
        return d_states, tf.reduce_sum(first, self.axis)
