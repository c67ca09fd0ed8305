# SPDX-License-Identifier: MIT
"""The recurrence in stock TensorFlow ops, for where no native library can go."""

from typing import Any

import tensorflow as tf

from tf_plr.time_axis import TimeAxis


def composed_linear_recurrence(
    decays: Any, impulses: Any, initial_state: Any, axis: int, *, reverse: bool
) -> Any:
    """The recurrence and its gradient; accumulated as in the native op.

    Arguments are tensors that `linear_recurrence` has checked; `axis` is not negative.
    """
    time = TimeAxis(axis, reverse)
    decays, impulses, initial_state = with_equal_shapes(decays, impulses, initial_state, axis)
    dtype = decays.dtype

    @tf.custom_gradient
    def recurrence(decays: Any, impulses: Any, initial_state: Any) -> Any:
        states = _scan(decays, impulses, initial_state, time)

        def gradient(d_states: Any) -> tuple[Any, Any, Any]:
            # As in the native gradient op, carried_t = conj(decays_t) d_impulses_t.
            decay = tf.math.conj(decays)
            carried = composed_linear_recurrence(
                decay, decay * d_states, None, axis, reverse=not reverse
            )
            next_carried, d_initial_state = time.unshift(carried)
            d_impulses = next_carried + d_states
            d_decays = tf.math.conj(time.previous(states, initial_state)) * d_impulses
            return d_decays, d_impulses, d_initial_state

        return states, gradient

    accumulator = tf.float32 if dtype.size == 2 else dtype
    # tf.custom_gradient needs tensors of the current graph, not ones captured from another.
    arguments = [tf.identity(tf.cast(a, accumulator)) for a in (decays, impulses, initial_state)]
    return tf.cast(recurrence(*arguments), dtype)


def _scan(decays: Any, impulses: Any, initial_state: Any, time: TimeAxis) -> Any:
    """Scans with doubling strides: ceil(log2(steps)) passes over all steps.

    Before the pass of stride k, decays[t] and impulses[t] hold the composition of the k
    transitions up to t. Source: Hillis and Steele, *Data Parallel Algorithms*, CACM 29 (12), 1986.
    """
    carried = time.first(decays, 1) * tf.expand_dims(initial_state, time.axis)
    impulses = time.join(carried + time.first(impulses, 1), time.without_first(impulses, 1))

    def double(k: Any, decays: Any, impulses: Any) -> tuple[Any, Any, Any]:
        later = time.without_first(decays, k)
        summed = later * time.without_last(impulses, k) + time.without_first(impulses, k)
        product = later * time.without_last(decays, k)
        impulses = time.join(time.first(impulses, k), summed)
        decays = time.join(time.first(decays, k), product)
        return 2 * k, decays, impulses

    if decays.shape[time.axis] is not None:
        k = 1
        while k < decays.shape[time.axis]:
            k, decays, impulses = double(k, decays, impulses)
        return impulses
    steps = tf.shape(decays)[time.axis]
    _, _, impulses = tf.while_loop(
        lambda k, *_: k < steps,
        double,
        (1, decays, impulses),
        shape_invariants=(tf.TensorShape([]), decays.shape, impulses.shape),
    )
    return impulses


def with_equal_shapes(
    decays: Any, impulses: Any, initial_state: Any, axis: int
) -> tuple[Any, Any, Any]:
    """Gives all three what is known of their shapes; the rest is checked in the running graph.

    Without an initial state it is zeros.
    """
    if not (decays.shape.is_fully_defined() and impulses.shape.is_fully_defined()):
        same = tf.debugging.assert_equal(
            tf.shape(decays), tf.shape(impulses), "decays and impulses must have the same shape"
        )
        shape = decays.shape.merge_with(impulses.shape)
        with tf.control_dependencies([same]):
            decays, impulses = tf.ensure_shape(decays, shape), tf.ensure_shape(impulses, shape)
    if initial_state is None:
        return decays, impulses, tf.zeros_like(tf.reduce_sum(impulses, axis))
    if not (initial_state.shape.is_fully_defined() and impulses.shape.is_fully_defined()):
        shape = tf.shape(impulses)
        same = tf.debugging.assert_equal(
            tf.shape(initial_state),
            tf.concat([shape[:axis], shape[axis + 1 :]], 0),
            "initial_state must have the shape of impulses without axis",
        )
        with tf.control_dependencies([same]):
            initial_state = tf.identity(initial_state)
    return decays, impulses, initial_state
