# SPDX-License-Identifier: MIT
"""Decays that are broadcast: size 1 on axes where impulses are larger."""

from itertools import product

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from support import call
from test_gradients import assert_finite_differences, assert_gradients, gradients
from test_recurrence import assert_states, random_arguments, to_tensors

import tf_plr
from tf_plr._ops.arguments import DTYPES
from tf_plr._types import ALGORITHMS

# [outer, steps, inner] by the path that they take.
SHAPES = {
    "rows": (3, 70, 40),
    "long_rows": (1, 3001, 65),
    "odd_rows": (5, 37, 13),
    "time_contiguous": (7, 5001, 1),
    "few_columns": (2, 900, 3),
    "wide": (2, 9, 5001),
    "no_steps": (2, 0, 3),
    "no_columns": (2, 5, 0),
}
# Which axes decays have.
AXES = [axes for axes in product((0, 1), repeat=3) if not all(axes)]


def broadcast_arguments(rng, shape, axes, dtype, long_memory=True):
    """(decays, impulses, initial_state) along axis 1."""
    sizes = tuple(size if has else 1 for size, has in zip(shape, axes, strict=True))
    whole = tuple(max(1, size) for size in shape)
    decays = random_arguments(rng, whole, 1, dtype, False, long_memory)[0]
    decays = decays[tuple(slice(size) for size in sizes)]
    return [decays, *random_arguments(rng, shape, 1, dtype, True, long_memory)[1:]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path(rng, shape, axes, algorithm):
    for reverse in (False, True):
        arguments = broadcast_arguments(rng, shape, axes, "float32")
        options = {"axis": 1, "reverse": reverse, "algorithm": algorithm}
        tensors = to_tensors(arguments, "float32")
        states = tf_plr.linear_recurrence(*tensors, **options)
        assert_states(states, *arguments, 1, reverse, "float32")
        d_states = random_arguments(rng, shape, 1, "float32", False)[1]
        actual = gradients(tensors, tf.constant(d_states, tf.float32), **options)
        assert_gradients(actual, *arguments, d_states, reverse, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_dtype_and_mode(rng, dtype, algorithm, mode):
    if (algorithm, mode) == ("composed", "xla") and dtype not in ("bfloat16", "complex64"):
        pytest.skip("one type of each kind: XLA takes seconds")
    for shape, axes in (
        ((2, 41, 33), (0, 0, 1)),
        ((3, 300, 1), (1, 0, 0)),
        ((2, 90, 6), (1, 1, 0)),
    ):
        arguments = broadcast_arguments(rng, shape, axes, dtype)
        options = {"axis": 1, "reverse": axes[1] == 1, "algorithm": algorithm}
        d_states = random_arguments(rng, shape, 1, dtype, False, long_memory=True)[1]
        tensors = to_tensors([*arguments, d_states], dtype)

        def states_and_gradients(a, x, h, d, options=options):
            return tf_plr.linear_recurrence(a, x, h, **options), *gradients([a, x, h], d, **options)

        states, *actual = call(states_and_gradients, tensors, mode)
        assert_states(states, *arguments, 1, options["reverse"], dtype)
        assert_gradients(actual, *arguments, d_states, options["reverse"], dtype)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_every_axis_and_pattern(rng, axis):
    shape = (3, 4, 5, 2)
    for axes in product((0, 1), repeat=4):
        decays = rng.uniform(
            -1, 1, [size if has else 1 for size, has in zip(shape, axes, strict=True)]
        )
        impulses = rng.normal(size=shape)
        states = tf_plr.linear_recurrence(decays, impulses, axis=axis)
        expected = reference.linear_recurrence(
            np.broadcast_to(decays, shape), impulses, None, axis % 4
        )
        np.testing.assert_allclose(states, expected, rtol=1e-12)


@pytest.mark.parametrize("axes", [(0, 0, 1), (1, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_derivatives_of_first_and_second_order(rng, axes, algorithm):
    arguments = broadcast_arguments(rng, (2, 4, 2), axes, "complex128", long_memory=False)
    tensors = to_tensors(arguments, "complex128")

    @tf.function
    def states(*arguments):
        return tf_plr.linear_recurrence(*arguments, axis=1, algorithm=algorithm)

    @tf.function
    def first_order(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            result = states(*arguments)
            loss = tf.reduce_sum(tf.math.real(result * tf.math.conj(result) * result))
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, arguments)], 0)

    assert_finite_differences(states, tensors)
    assert_finite_differences(first_order, tensors)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_second_derivatives_are_summed_in_float32(dtype):
    """TensorFlow's own sum of float16 stops growing at 2,048."""
    decays, impulses = tf.zeros([1, 4], dtype), tf.ones([20_000, 4], dtype)
    with tf.GradientTape() as outer:
        outer.watch(decays)
        with tf.GradientTape() as tape:
            tape.watch(decays)
            states = tf_plr.linear_recurrence(decays, impulses)
        d_decays = tape.gradient(states, decays)
    # d^2 states[t] / d decay^2 is 2 where t > 1.
    second = outer.gradient(d_decays, decays)
    np.testing.assert_allclose(tf.cast(second, tf.float32), 2 * (20_000 - 2), rtol=0.01)


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_nan_in_the_gradient_of_the_first_step(algorithm):
    """The state before it is 0, and 0 * NaN is NaN."""
    d_states = tf.constant([np.nan, 1, 1, 1])
    decays, impulses = tf.constant([0.5]), tf.ones([4])
    assert np.isnan(gradients([decays, impulses, None], d_states, algorithm=algorithm)[0])


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_vectorized(rng, algorithm):
    decays, impulses = (
        tf.constant(rng.uniform(0, 1, (6, 1, 3))),
        tf.constant(rng.normal(size=(6, 8, 3))),
    )

    def d_decays(pair):
        with tf.GradientTape() as tape:
            tape.watch(pair[0])
            loss = tf.reduce_sum(tf_plr.linear_recurrence(*pair, algorithm=algorithm) ** 2)
        return tape.gradient(loss, pair[0])

    vectorized = tf.vectorized_map(d_decays, (decays, impulses))
    one_by_one = tf.stack([d_decays(pair) for pair in zip(decays, impulses, strict=True)])
    np.testing.assert_allclose(vectorized, one_by_one, rtol=1e-12)


def test_the_gradient_of_decays_is_not_written_out():
    @tf.function
    def d_decays(a, x):
        with tf.GradientTape() as tape:
            tape.watch(a)
            states = tf_plr.linear_recurrence(a, x, axis=1)
        return tape.gradient(states, a)

    specs = tf.TensorSpec([1, 1, 5]), tf.TensorSpec([2, 7, 5])
    operations = d_decays.get_concrete_function(*specs).graph.get_operations()
    (op,) = [op for op in operations if op.type == "TfPlr>LinearRecurrenceGrad"]
    assert [list(output.shape) for output in op.outputs] == [[1, 1, 5], [2, 7, 5]]


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_in_a_functional_model(algorithm):
    inputs = keras.Input((9, 4))
    decays = np.full((1, 1, 4), 0.5, np.float32)
    outputs = tf_plr.linear_recurrence(decays, inputs, axis=1, algorithm=algorithm)
    assert outputs.shape == (None, 9, 4)
    assert keras.Model(inputs, outputs)(tf.ones([3, 9, 4]))[0, 1, 0] == 1.5


def test_what_is_known_of_the_shape():
    for decays, impulses, expected in [
        ([1, None, 4], [2, 7, None], [2, 7, 4]),
        ([1, 1, 1], [None, 7, None], [None, 7, None]),
        ([None, 3], [5, None], [5, 3]),
        (None, [5, None], [5, None]),
        ([5, 1], None, [5, None]),
    ]:
        function = tf.function(lambda a, x: tf_plr.linear_recurrence(a, x))
        shapes = tf.TensorSpec(decays), tf.TensorSpec(impulses)
        assert function.get_concrete_function(*shapes).output_shapes.as_list() == expected


WRONG = {
    "impulses that broadcast": ([3, 4], [1, 4]),
    "other sizes": ([3, 4], [3, 5]),
    "fewer axes": ([4], [3, 4]),
    "more axes": ([1, 3, 4], [3, 4]),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shapes", WRONG.values(), ids=WRONG.keys())
def test_shapes_that_do_not_fit(shapes, algorithm, mode):
    message = (
        r"decays must have the shape of impulses, (or|\[\d(, ?|,)?\d*\], or) size 1 on axes where|"
        "decays_must_have_the_shape_of_impulses_or_size_1|decays must have as many axes as impulses"
    )
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        call(
            lambda a, x: tf_plr.linear_recurrence(a, x, algorithm=algorithm),
            [tf.ones(shape) for shape in shapes],
            mode,
        )


def test_too_many_axes_in_turns():
    shape = [2] * 17
    decays = tf.ones([2 if axis % 2 else 1 for axis in range(17)])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="more than 8 groups of neighbouring axes"
    ):
        tf_plr.linear_recurrence(decays, tf.ones(shape))


def test_bits_do_not_depend_on_timing(rng):
    arguments = broadcast_arguments(rng, (4, 3000, 70), (0, 0, 1), "float32")
    tensors = to_tensors(arguments, "float32")
    d_states = tf.ones([4, 3000, 70])
    first = gradients(tensors, d_states, axis=1)[0]
    for _ in range(5):
        assert np.array_equal(gradients(tensors, d_states, axis=1)[0], first)
