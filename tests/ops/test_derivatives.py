# SPDX-License-Identifier: MIT
"""Every way that TensorFlow asks for derivatives, and vectorized calls, of the op."""

import itertools
import warnings
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from support import MODES, call
from test_recurrence import random_arguments

import tf_plr
from tf_plr._native.library import load_ops

ALGORITHMS = ("auto", "composed")
# For unknown steps "composed" is a while loop, of which TensorFlow has no forward mode.
in_forward_mode = pytest.mark.parametrize(
    ("algorithm", "mode"),
    [p for p in itertools.product(ALGORITHMS, MODES) if p != ("composed", "unknown_shapes")],
)


@pytest.fixture(params=["float64", "complex128"])
def arguments(request, rng):
    """(decays, impulses, initial_state) along axis 0."""
    return [tf.constant(a) for a in random_arguments(rng, (7, 3), 0, request.param, True)]


def norm(states):
    """Real, and not quadratic, so that no derivative of any order is constant."""
    magnitude = tf.math.real(states * tf.math.conj(states))
    return tf.reduce_sum(tf.sqrt(1 + magnitude))


def close(actual, expected):
    # Float64, O(1) values and a few hundred operations.
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def inner(a, b):
    return tf.reduce_sum(tf.math.real(tf.math.conj(a) * b))


def backward(arguments, algorithm):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = norm(tf_plr.linear_recurrence(*arguments, algorithm=algorithm))
    return tape.gradient(loss, arguments)


@in_forward_mode
def test_forward_mode_is_the_transpose_of_backward_mode(arguments, mode, algorithm):
    tangents = [tf.cast(tf.cos(tf.math.real(a) + 1), a.dtype) for a in arguments]

    def directional(*arguments):
        with tf.autodiff.ForwardAccumulator(list(arguments), tangents) as accumulator:
            loss = norm(tf_plr.linear_recurrence(*arguments, algorithm=algorithm))
        return accumulator.jvp(loss)

    expected = sum(map(inner, backward(arguments, algorithm), tangents))
    close(call(directional, arguments, mode), expected)


@in_forward_mode
def test_hessian_vector_products_forward_over_backward_and_backward_over_backward(
    arguments, mode, algorithm
):
    tangents = [tf.cast(tf.cos(tf.math.real(a) + 1), a.dtype) for a in arguments]

    def forward_over_backward(*arguments):
        with tf.autodiff.ForwardAccumulator(list(arguments), tangents) as accumulator:
            gradients = backward(list(arguments), algorithm)
        return [accumulator.jvp(g) for g in gradients]

    def backward_over_backward(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            product = sum(map(inner, backward(list(arguments), algorithm), tangents))
        return tape.gradient(product, arguments)

    products = [call(f, arguments, mode) for f in (forward_over_backward, backward_over_backward)]
    for actual, expected in zip(*products, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_jacobian_with_and_without_pfor(arguments, jit_compile, algorithm):
    def jacobians(*arguments, use_pfor):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            states = tf_plr.linear_recurrence(*arguments, algorithm=algorithm)
        return tape.jacobian(states, arguments, experimental_use_pfor=use_pfor)

    compiled = tf.function(
        lambda *arguments: jacobians(*arguments, use_pfor=True), jit_compile=jit_compile
    )
    loop = tf.function(lambda *arguments: jacobians(*arguments, use_pfor=False))
    for actual, expected in zip(compiled(*arguments), loop(*arguments), strict=True):
        close(actual, expected)


def test_hessian_by_pfor_over_both_ops(arguments):
    """A jacobian of a gradient: the gradient op is vectorized too."""
    arguments = [tf.math.real(a) for a in arguments]

    def hessian(use_pfor):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            by_decays = backward(arguments, "auto")[0]
        return tape.jacobian(by_decays, arguments, experimental_use_pfor=use_pfor)

    vectorized, loop = (tf.function(hessian)(use_pfor) for use_pfor in (True, False))
    for actual, expected in zip(vectorized, loop, strict=True):
        close(actual, expected)
    by_decays = tf.reshape(vectorized[0], [21, 21])
    close(by_decays, tf.transpose(by_decays))


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("with_initial_state", [False, True])
def test_vectorized_map_is_one_op_without_a_warning(rng, axis, with_initial_state):
    stack = [random_arguments(rng, (5, 3), axis % 2, "float64", with_initial_state) for _ in "abcd"]
    stacks = [tf.constant(a) for a in map(np.stack, zip(*stack, strict=True)) if a.dtype != object]

    def vectorized(*stacks):
        def states(one):
            return tf_plr.linear_recurrence(*one, axis=axis)

        return tf.vectorized_map(states, stacks, fallback_to_while_loop=False)

    expected = [tf_plr.linear_recurrence(*one, axis=axis) for one in stack]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(vectorized(*stacks), expected)
    operations = tf.function(vectorized).get_concrete_function(*stacks).graph.get_operations()
    assert not any("While" in op.type for op in operations)
    # A second op, in the body of the replaced loop, has the shape of one element; it never runs.
    shapes = [op.outputs[0].shape for op in operations if op.type == "TfPlr>LinearRecurrence"]
    assert shapes.count([4, 5, 3]) == 1


def test_vectorized_map_over_one_argument_only(rng):
    decays, impulses, _ = random_arguments(rng, (5, 3), 0, "float64", False)
    scales = tf.constant([1.0, 2.0, 3.0], tf.float64)
    states = tf.vectorized_map(
        lambda scale: tf_plr.linear_recurrence(decays, scale * impulses), scales
    )
    one = tf_plr.linear_recurrence(decays, impulses)
    close(states, scales[:, None, None] * one)


def test_custom_gradient_around_the_op(arguments):
    @tf.custom_gradient
    def doubled_gradient(*arguments):
        states = tf_plr.linear_recurrence(*arguments)

        def gradient(d_states):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                again = tf_plr.linear_recurrence(*arguments)
            return [2 * g for g in tape.gradient(again, arguments, output_gradients=d_states)]

        return states, gradient

    for function in (lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)):

        @function
        def gradients(*arguments):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                loss = norm(doubled_gradient(*arguments))
            return tape.gradient(loss, arguments)

        for actual, single in zip(gradients(*arguments), backward(arguments, "auto"), strict=True):
            close(actual, 2 * single)


def test_recompute_grad(arguments):
    @tf.recompute_grad
    def loss(*arguments):
        return norm(tf_plr.linear_recurrence(*arguments))

    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = loss(*arguments)
    for actual, expected in zip(
        tape.gradient(value, arguments), backward(arguments, "auto"), strict=True
    ):
        close(actual, expected)


def test_forward_mode_along_a_negative_axis_of_many_shapes():
    """After 32 shapes, TensorFlow traces the derivative again, without known ranks."""
    for size in range(1, 41):
        a = tf.fill([2, size], 0.5)
        with tf.autodiff.ForwardAccumulator(a, tf.ones_like(a)) as accumulator:
            states = tf_plr.linear_recurrence(a, a, axis=-1)
        # With all decays and impulses d, h_t = d + d^2 + ...; its derivative at d = 1/2 follows.
        powers = np.arange(1, size + 1)
        expected = np.cumsum(powers * 0.5 ** (powers - 1))
        np.testing.assert_allclose(accumulator.jvp(states)[1], expected, rtol=1e-6)


@pytest.mark.parametrize("with_initial_state", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [-1, -2])
def test_second_derivatives_of_unknown_rank_along_a_negative_axis(
    rng, axis, reverse, with_initial_state
):
    arguments = random_arguments(rng, (4, 5), axis % 2, "float64", with_initial_state)
    arguments = [tf.constant(a) for a in arguments if a is not None]

    def second_order(*arguments):
        with tf.GradientTape() as outer:
            outer.watch(arguments)
            with tf.GradientTape() as inner:
                inner.watch(arguments)
                states = tf_plr.linear_recurrence(*arguments, axis=axis, reverse=reverse)
                loss = norm(states)
            total = sum(map(norm, inner.gradient(loss, arguments)))
        return outer.gradient(total, arguments)

    unknown = [tf.TensorSpec(None, tf.float64)] * len(arguments)
    compiled = tf.function(second_order, input_signature=unknown)
    for actual, expected in zip(compiled(*arguments), second_order(*arguments), strict=True):
        close(actual, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradient_of_the_last_state(rng, reverse, mode):
    """d_last_state has the effect of adding it to the last step of d_states, in all derivatives."""
    shape, last = (3, 5, 4), 0 if reverse else 4
    tensors = [tf.constant(rng.uniform(-1, 1, shape)) for _ in range(3)]
    columns = [tf.constant(rng.uniform(-1, 1, (3, 4))) for _ in range(2)]
    weights = [tf.constant(rng.uniform(-1, 1, s)) for s in (shape, shape, (3, 4))]

    def run(added, decays, states, d_states, initial_state, d_last_state):
        given = [decays, states, d_states, initial_state, d_last_state]
        with tf.GradientTape() as tape:
            tape.watch(given)
            if added:
                at_last = tf.one_hot(last, 5, dtype=tf.float64)[:, None]
                d_states = d_states + at_last * d_last_state[:, None]
            results = load_ops().tf_plr_linear_recurrence_grad(
                decays, states, d_states, [initial_state], [] if added else [d_last_state], [], [],
                axis=1, reverse=reverse,
            )  # fmt: skip
            results = [*results[:2], *results[2]]
            loss = tf.add_n([tf.reduce_sum(r * w) for r, w in zip(results, weights, strict=True)])
        return [*results, *tape.gradient(loss, given)]

    expected = call(partial(run, True), [*tensors, *columns], mode)
    actual = call(partial(run, False), [*tensors, *columns], mode)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


def test_vectorized_gradient_of_the_last_state(rng):
    tensors = [tf.constant(rng.uniform(-1, 1, (2, 3, 5))) for _ in range(3)]
    columns = [tf.constant(rng.uniform(-1, 1, (2, 3))) for _ in range(2)]

    def run(arguments):
        *steps, initial_state, d_last_state = arguments
        results = load_ops().tf_plr_linear_recurrence_grad(
            *steps, [initial_state], [d_last_state], [], [], axis=1
        )
        return [*results[:2], *results[2]]

    one_by_one = [run([t[i] for t in (*tensors, *columns)]) for i in range(2)]
    vectorized = tf.vectorized_map(run, [*tensors, *columns], fallback_to_while_loop=False)
    for v, parts in zip(vectorized, zip(*one_by_one, strict=True), strict=True):
        np.testing.assert_array_equal(v, tf.stack(parts))


@pytest.mark.parametrize(("dtype", "sums"), [("float64", "float32"), ("float32", "float64")])
def test_a_transition_whose_sums_have_a_wrong_dtype(dtype, sums):
    """Otherwise the op would write past its output, or leave half of it unwritten."""
    ones = tf.ones([3, 2], dtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"do not fit .* dtypes of outputs"):
        load_ops().tf_plr_linear_recurrence_transition(ones, ones, [], [], A=sums)
