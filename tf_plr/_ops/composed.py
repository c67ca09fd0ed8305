# SPDX-License-Identifier: MIT
"""`linear_recurrence` in stock TensorFlow ops, for platforms that cannot run a native library."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_plr._ops.step_flags import StepFlags
from tf_plr._ops.time_axis import TimeAxis
from tf_plr._types import Tensor


def composed_linear_recurrence(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    axis: int,
    *,
    reverse: bool,
    flags: StepFlags = StepFlags(),  # noqa: B008
) -> Tensor:
    """Computes the recurrence, with a gradient, and accumulates in the dtype of the native op.

    `linear_recurrence` must have checked the arguments: tensors, and a non-negative `axis`.
    """
    if flags:
        decays = flags.within_sequence(flags.valid(decays + tf.zeros_like(impulses), 1))
        impulses = flags.valid(impulses)
    return _composed(decays, impulses, initial_state, axis, reverse, flags)


def times_unless_zero(decays: Tensor, states: Tensor) -> Tensor:
    """The product, where a decay of 0 forgets even Inf and NaN."""
    # The states are selected before the product, so that no derivative multiplies them by 0 either.
    return decays * tf.where(decays == 0, tf.zeros_like(states), states)


def _composed(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    axis: int,
    reverse: bool,
    flags: StepFlags,
) -> Tensor:
    time = TimeAxis(axis, reverse)
    times = times_unless_zero if flags.resets is not None else tf.multiply
    dtype = decays.dtype
    if initial_state is None:
        initial_state = tf.zeros_like(tf.reduce_sum(impulses, axis))
    else:
        initial_state = _with_shape_of_columns(initial_state, impulses, axis)

    @tf.custom_gradient
    def recurrence(decays: Tensor, impulses: Tensor, initial_state: Tensor) -> Tensor:
        states = _scan(decays, impulses, initial_state, time, times)

        def gradient(d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # As in the native gradient op, carried_t = conj(decays_t) d_impulses_t.
            decay = tf.math.conj(decays)
            carried = _composed(decay, times(decay, d_states), None, axis, not reverse, flags)
            next_carried, d_initial_state = time.unshift(carried)
            d_impulses = next_carried + d_states
            previous = flags.within_sequence(time.previous(states, initial_state))
            d_decays = tf.math.conj(previous) * d_impulses
            return d_decays, d_impulses, d_initial_state

        return states, gradient

    accumulator = tf.float32 if dtype.size == 2 else dtype
    # tf.custom_gradient needs tensors of the current graph, not ones captured from another.
    arguments = [tf.identity(tf.cast(a, accumulator)) for a in (decays, impulses, initial_state)]
    decays, impulses = _with_equal_shapes(*arguments[:2])
    return tf.cast(recurrence(decays, impulses, arguments[2]), dtype)


def _scan(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    time: TimeAxis,
    times: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Scans with doubling strides: ceil(log2(steps)) passes over all steps.

    Before the pass of stride k, decays[t] and impulses[t] hold the composition of the k
    transitions up to t. Source: Hillis and Steele, *Data Parallel Algorithms*, CACM 29 (12), 1986.
    """
    carried = times(time.first(decays, 1), tf.expand_dims(initial_state, time.axis))
    impulses = time.join(carried + time.first(impulses, 1), time.without_first(impulses, 1))

    def double(k: Any, decays: Tensor, impulses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        later = time.without_first(decays, k)
        summed = times(later, time.without_last(impulses, k)) + time.without_first(impulses, k)
        product = times(later, time.without_last(decays, k))
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


def _with_equal_shapes(decays: Tensor, impulses: Tensor) -> tuple[Tensor, Tensor]:
    """Broadcasts decays; the running graph checks the sizes that are not known before."""
    if decays.shape.is_fully_defined() and decays.shape == impulses.shape:
        return decays, impulses
    message = "decays must have as many axes as impulses"
    name = "decays_must_have_the_shape_of_impulses_or_size_1"
    rank = tf.debugging.assert_rank(decays, impulses.shape.rank, message)
    with tf.control_dependencies([rank]):
        # Not tf.broadcast_to: with it, ONNX would not know the number of steps.
        decays = tf.add(decays, tf.zeros_like(impulses), name=name)
        same = tf.debugging.assert_equal(tf.shape(decays), tf.shape(impulses), name)
    with tf.control_dependencies([same]):
        # XLA drops the checks, but it refuses to stack tensors of different shapes.
        pair = [tf.ensure_shape(tensor, impulses.shape) for tensor in (decays, impulses)]
        both = tf.stack(pair, name=name)
    return both[0], both[1]


def _with_shape_of_columns(initial_state: Tensor, impulses: Tensor, axis: int) -> Tensor:
    if initial_state.shape.is_fully_defined() and impulses.shape.is_fully_defined():
        return initial_state
    shape = tf.shape(impulses)
    columns = tf.concat([shape[:axis], shape[axis + 1 :]], 0)
    message = "initial_state must have the shape of impulses without axis"
    rank = tf.debugging.assert_rank(initial_state, impulses.shape.rank - 1, message)
    with tf.control_dependencies([rank]):
        same = tf.debugging.assert_equal(tf.shape(initial_state), columns, message)
    with tf.control_dependencies([same]):
        like_it = tf.zeros(columns, initial_state.dtype)
        name = "initial_state_must_have_the_shape_of_impulses_without_axis"
        return tf.stack([initial_state, like_it], name=name)[0]
