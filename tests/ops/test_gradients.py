# SPDX-License-Identifier: MIT
"""Derivatives of the op: values, finite differences, any order."""

from itertools import product

import numpy as np
import pytest
import reference
import tensorflow as tf
from support import MODES, call
from test_recurrence import SHAPES, random_arguments, to_tensors

import tf_plr
from tf_plr._ops.arguments import DTYPES
from tf_plr._types import ALGORITHMS


def gradients(arguments, d_states, **options):
    with tf.GradientTape() as tape:
        given = [a for a in arguments if a is not None]
        tape.watch(given)
        states = tf_plr.linear_recurrence(*arguments, **options)
    return tape.gradient(states, given, output_gradients=d_states)


def assert_gradients(actual, decays, impulses, initial_state, d_states, reverse, dtype):
    """Checks gradients along axis 1, within the error bounds of the recurrences they use."""
    summed = [axis for axis, size in enumerate(decays.shape) if size != impulses.shape[axis]]
    decays = np.broadcast_to(decays, impulses.shape)
    initial = np.zeros_like(impulses[:, :1].sum(1)) if initial_state is None else initial_state
    states = reference.linear_recurrence(decays, impulses, initial, 1, reverse)
    expected = reference.linear_recurrence_gradients(decays, states, d_states, initial, 1, reverse)
    underflow = reference.UNDERFLOW[dtype]
    roundoff = reference.UNIT_ROUNDOFF[dtype]  # The gradient op reads states that were rounded.
    # decays_{t+1} multiplies the gradient at t.
    shifted = np.roll(decays, 1 if reverse else -1, axis=1)
    g_bound = reference.error_bound(shifted, d_states, None, roundoff, 1, not reverse)
    h_bound = reference.error_bound(decays, impulses, initial, roundoff, 1, reverse)
    h_bound = h_bound + roundoff * np.abs(states) + underflow
    initial_bound = roundoff * np.abs(initial)[:, None]
    previous = [initial_bound, h_bound]
    h_bound = np.concatenate(previous[::-1] if reverse else previous, 1)
    h_bound = h_bound[:, 1:] if reverse else h_bound[:, :-1]
    previous = [initial[:, None], states]
    states = np.concatenate(previous[::-1] if reverse else previous, 1)
    states = states[:, 1:] if reverse else states[:, :-1]
    g = np.abs(expected[1])
    bounds = [
        np.abs(states) * g_bound + h_bound * g + h_bound * g_bound,
        g_bound,
        (g_bound + roundoff * g).max(1, initial=0),
    ]
    expected = list(expected)
    if summed:
        terms = np.prod([impulses.shape[axis] for axis in summed])
        accumulated = reference.UNIT_ROUNDOFF[reference.ACCUMULATOR[dtype]]
        of_terms = bounds[0] + (2 * roundoff + terms * accumulated) * np.abs(expected[0])
        bounds[0] = of_terms.sum(tuple(summed), keepdims=True)
        expected[0] = expected[0].sum(tuple(summed), keepdims=True)
    for a, e, b in zip(actual, expected, bounds, strict=False):
        assert a.dtype == dtype
        assert a.shape == e.shape
        rounding = 4 * roundoff * np.abs(e)
        assert np.all(np.abs(np.asarray(a).astype(e.dtype) - e) <= b + rounding + underflow)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_initial_state", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path(rng, shape, algorithm, reverse, with_initial_state):
    arguments = random_arguments(rng, shape, 1, "float32", with_initial_state, long_memory=True)
    d_states = random_arguments(rng, shape, 1, "float32", False)[1]
    actual = gradients(
        to_tensors(arguments, "float32"),
        tf.constant(d_states, tf.float32),
        axis=1,
        reverse=reverse,
        algorithm=algorithm,
    )
    assert_gradients(actual, *arguments, d_states, reverse, "float32")


# XLA takes seconds to compile the dozens of ops of "composed": test one dtype of each kind.
DTYPES_AND_MODES = [
    (dtype, algorithm, mode)
    for dtype in DTYPES
    for algorithm in ALGORITHMS
    for mode in MODES
    if (algorithm, mode) != ("composed", "xla") or dtype in ("bfloat16", "float32", "complex64")
]


@pytest.mark.parametrize(("dtype", "algorithm", "mode"), DTYPES_AND_MODES)
def test_every_dtype_and_mode(rng, dtype, algorithm, mode):
    shapes = [(2, 41, 19), (3, 300, 1), (1, 400, 2)]
    for shape in shapes[:1] if algorithm == "composed" else shapes:  # All shapes are alike.
        for reverse in (False, True):
            arguments = random_arguments(rng, shape, 1, dtype, True, long_memory=True)
            d_states = random_arguments(rng, shape, 1, dtype, False)[1]
            actual = call(
                lambda a, x, h, d, reverse=reverse: gradients(
                    [a, x, h], d, axis=1, reverse=reverse, algorithm=algorithm
                ),
                to_tensors([*arguments, d_states], dtype),
                mode,
            )
            assert_gradients(actual, *arguments, d_states, reverse, dtype)


def assert_finite_differences(function, arguments):
    """Central differences with step d err by O(d^2) and by O(roundoff / d)."""
    theoretical, numerical = tf.test.compute_gradient(function, arguments, delta=1e-5)
    for t, n in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(t, n, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize(
    ("algorithm", "axis", "dtype"),
    [
        *product(("auto", "parallel", "serial"), (0, 2), ["float64"]),
        *product(ALGORITHMS, [1], ["complex128"]),
    ],
)
def test_first_and_second_order_by_finite_differences(rng, axis, dtype, algorithm):
    for reverse in (False, True):
        # Without an initial state, "composed" uses zeros: the same code.
        for with_initial_state in (True,) if algorithm == "composed" else (False, True):
            arguments = random_arguments(rng, (2, 4, 2), axis, dtype, with_initial_state)
            arguments = [tf.constant(a, dtype) for a in arguments if a is not None]

            @tf.function
            def states(*arguments, reverse=reverse):
                return tf_plr.linear_recurrence(
                    *arguments, axis=axis, reverse=reverse, algorithm=algorithm
                )

            @tf.function
            def first_order(*arguments, states=states):
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    result = states(*arguments)
                    loss = tf.reduce_sum(tf.math.real(result * tf.math.conj(result) * result))
                by = tape.gradient(loss, arguments)
                return tf.concat([tf.reshape(g, [-1]) for g in by], 0)

            assert_finite_differences(states, arguments)
            assert_finite_differences(first_order, arguments)


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_third_order_by_finite_differences(rng, algorithm):
    arguments = [tf.constant(a) for a in random_arguments(rng, (4, 2), 0, "float64", True)]

    @tf.function
    def second_order(*arguments):
        with tf.GradientTape() as outer:
            outer.watch(arguments)
            with tf.GradientTape() as inner:
                inner.watch(arguments)
                states = tf_plr.linear_recurrence(*arguments, algorithm=algorithm)
                loss = tf.reduce_sum(tf.sin(states))
            first = inner.gradient(loss, arguments)
            norm = tf.add_n([tf.reduce_sum(g**2) for g in first])
        return tf.concat([tf.reshape(g, [-1]) for g in outer.gradient(norm, arguments)], 0)

    assert_finite_differences(second_order, arguments)


def test_gradient_of_one_argument_only(rng):
    decays, impulses, _ = to_tensors(random_arguments(rng, (5, 2), 0, "float32", False), "float32")
    with tf.GradientTape() as tape:
        tape.watch(impulses)
        states = tf_plr.linear_recurrence(decays, impulses)
    by_impulses, by_decays = tape.gradient(states, [impulses, decays])
    assert by_decays is None
    assert by_impulses.shape == (5, 2)


def test_nothing_is_computed_twice():
    """The backward graph holds one gradient op, and the forward op once."""

    @tf.function
    def train(a, x):
        with tf.GradientTape() as tape:
            tape.watch([a, x])
            states = tf_plr.linear_recurrence(a, x)
        return tape.gradient(states, [a, x])

    ops = [
        op.type
        for op in train.get_concrete_function(tf.ones([8]), tf.ones([8])).graph.get_operations()
    ]
    assert ops.count("TfPlr>LinearRecurrence") == 1
    assert ops.count("TfPlr>LinearRecurrenceGrad") == 1


def test_second_order_of_tensors_of_unknown_rank():
    @tf.function(input_signature=[tf.TensorSpec(None)] * 2)
    def second_order(a, x):
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as inner:
                inner.watch(a)
                loss = tf.reduce_sum(tf_plr.linear_recurrence(a, x))
            first = inner.gradient(loss, a)
        return outer.gradient(first, a)

    # loss = x0 + a1 x0 + x1 + a2 (a1 x0 + x1) + x2; d^2 loss / (da1 da2) = x0.
    np.testing.assert_allclose(second_order(tf.ones([3]), tf.constant([5.0, 1, 1])), [0, 5, 5])
