# SPDX-License-Identifier: MIT
"""Higher derivatives of the layers and sequences of few steps, in every mode."""

import numpy as np
import pytest
import tensorflow as tf
from support import call

import tf_plr

OPTIONS = {
    "default": {},
    "normalised": {"layer_normalization": True},
    "sigmoid": {"activation": "sigmoid"},
    "composed": {"algorithm": "composed"},
    "float64": {"dtype": "float64"},
}


def made(layer, x, **options):
    result = layer(3, bias_initializer="random_normal", forget_bias=1.0, **options)
    result.build(x.shape)
    if options.get("layer_normalization"):
        for weight in result.trainable_weights:
            if weight.name == "gamma":
                weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5, weight.dtype))
    return result


def loss(layer, x, **keywords):
    return tf.reduce_sum(tf.sin(layer(x, **keywords)))


@pytest.mark.parametrize("masked", [False, True])
def test_second_derivatives_with_layer_normalization(layer, masked, mode):
    """Compares them with central differences of first derivatives, in float64."""
    x = tf.random.normal([2, 5, 3], dtype=tf.float64)
    mask = tf.constant([[True] * 5, [True, True, False, True, False]]) if masked else None
    run = made(layer, x, layer_normalization=True, dtype="float64", return_sequences=True)
    variables = [*run.trainable_variables]
    directions = [tf.cos(tf.range(tf.size(v), dtype=v.dtype)) for v in [x, *variables]]
    directions = [tf.reshape(d, v.shape) for d, v in zip(directions, [x, *variables], strict=True)]

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(run, x, mask=mask)
        return tape.gradient(value, [x, *variables])

    def products(x):
        """The Hessian times the directions."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            along = sum(tf.reduce_sum(g * d) for g, d in zip(gradients(x), directions, strict=True))
        return tape.gradient(along, [x, *variables])

    step = 1e-5
    sides = []
    for sign in (1, -1):
        for variable, direction in zip(variables, directions[1:], strict=True):
            variable.assign_add(sign * step * direction)
        sides.append(gradients(x + sign * step * directions[0]))
        for variable, direction in zip(variables, directions[1:], strict=True):
            variable.assign_sub(sign * step * direction)
    for product, up, down in zip(call(products, [x], mode), *sides, strict=True):
        # The truncation is step^2 times a third derivative, the rounding 2^-53 / step.
        np.testing.assert_allclose(product, (up - down) / (2 * step), rtol=1e-6, atol=1e-7)


def scalar_of_order(order, run, x):
    """A scalar that depends on all derivatives up to `order`."""
    if order == 0:
        return loss(run, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = scalar_of_order(order - 1, run, x)
    return tf.reduce_sum(tf.square(tape.gradient(value, x)))


@pytest.mark.parametrize(("name", "steps"), [*((name, 1) for name in OPTIONS), ("default", 2)])
def test_derivatives_of_few_steps(layer, name, steps, mode):
    """XLA used to abort the process if a concatenation had an empty part."""
    options = OPTIONS[name]
    if layer is tf_plr.SRU and "activation" in options:
        options = {"activation": "tanh"}
    # Under XLA, concat has no third derivative: XlaDynamicUpdateSlice has no gradient.
    order = 2 if mode == "xla" else 3
    x = tf.random.normal([2, steps, 3], dtype=options.get("dtype", "float32"))
    run = made(layer, x, **options)

    def derivative(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = scalar_of_order(order - 1, run, x)
        return tape.gradient(value, x)

    exact = made(layer, x, **{**options, "dtype": "float64"})
    exact.set_weights(run.get_weights())
    expected = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        unit = np.zeros(x.shape)
        unit[index] = 1e-5
        up, down = (
            scalar_of_order(order - 1, exact, tf.constant(x.numpy() + side * unit))
            for side in (1, -1)
        )
        expected[index] = (up - down) / 2e-5
    scale = np.abs(expected).max()
    np.testing.assert_allclose(call(derivative, [x], mode), expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("known", ["nothing", "all but the features"])
def test_forward_mode_where_sizes_are_unknown(layer, known):
    x = tf.random.normal([2, 5, 3])
    run = made(layer, x)
    states = [tf.random.normal([2, size]) for size in run.cell.state_size]
    rows = None if known == "nothing" else 2
    x_shape = [2, 5, None] if known == "all but the features" else [None, None, 3]
    specs = [x_shape, *([rows, size] for size in run.cell.state_size)]

    @tf.function(input_signature=[tf.TensorSpec(shape) for shape in specs])
    def derivative(*arguments):
        with tf.autodiff.ForwardAccumulator(list(arguments), list(arguments)) as accumulator:
            value = loss(run, arguments[0], initial_state=list(arguments[1:]))
        return accumulator.jvp(value)

    with tf.GradientTape() as tape:
        tape.watch([x, states])
        value = loss(run, x, initial_state=states)
    gradients = tape.gradient(value, [x, *states])
    expected = sum(tf.reduce_sum(g * a) for g, a in zip(gradients, [x, *states], strict=True))
    np.testing.assert_allclose(derivative(x, *states), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"algorithm": "composed"}, {"dtype": "mixed_bfloat16"}])
def test_masked_nan_reaches_no_gradient(layer, options, mode):
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    mask = np.ones((2, 7), bool)
    mask[1, 4:] = mask[0, 2] = False
    run = layer(4, return_sequences=True, forget_bias=1.0, **options)
    run.build(x.shape)

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.square(tf.cast(run(x, mask=mask), tf.float32)))
        return tape.gradient(value, [x, *run.trainable_variables])

    narrow = options.get("dtype") == "mixed_bfloat16"
    clean = call(gradients, [tf.constant(np.where(mask[..., None], x, 0.0))], mode)
    for wrong in (np.nan, np.inf):
        dirty = tf.constant(np.where(mask[..., None], x, wrong).astype("float32"))
        for found, expected in zip(call(gradients, [dirty], mode), clean, strict=True):
            # Not bit for bit: XLA may take another product of matrices for another program.
            np.testing.assert_allclose(found, expected, rtol=1e-2 if narrow else 1e-5, atol=1e-5)
