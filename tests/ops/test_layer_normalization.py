# SPDX-License-Identifier: MIT
"""Layer normalisation against float64, and its derivatives."""

import numpy as np
import pytest
import tensorflow as tf
from reference import UNIT_ROUNDOFF
from support import MODES, call

import tf_plr
from tf_plr._native.library import load_ops
from tf_plr._ops.arguments import GATED_DTYPES as DTYPES
from tf_plr._ops.layer_normalization import composed_gradients, layer_normalization

EPSILON = 1e-3
# One feature; teams of 1, 2 and 8 warps, with odd widths and aligned ones; rows in several parts;
# chunks of one row, of many rows, and of no equal sizes.
SHAPES = [
    (3, 1), (2, 5, 5), (17, 33), (9, 7, 64), (600, 12), (40, 1024), (5, 1100), (3, 3000),
    (20, 4096), (18, 9001), (2, 20000), (9000, 6),
]  # fmt: skip


def draw(rng, shape):
    inputs = 2 * rng.normal(size=shape) + rng.normal(size=(*shape[:-1], 1))
    scale = rng.uniform(0.5, 2, shape[-1:])
    return inputs, scale, rng.normal(size=shape)


def reference(inputs, scale, d_outputs):
    """The outputs and their gradients with respect to inputs and scale, from the definition."""
    deviation = np.sqrt(inputs.var(-1, keepdims=True) + EPSILON)
    normalized = (inputs - inputs.mean(-1, keepdims=True)) / deviation
    g = d_outputs * scale
    mean_product = (g * normalized).mean(-1, keepdims=True)
    d_inputs = (g - g.mean(-1, keepdims=True) - normalized * mean_product) / deviation
    rows = tuple(range(inputs.ndim - 1))
    return scale * normalized, d_inputs, (d_outputs * normalized).sum(rows)


def run(inputs, scale, d_outputs):
    with tf.GradientTape() as tape:
        tape.watch([inputs, scale])
        outputs = layer_normalization(inputs, scale, EPSILON)
    return outputs, *tape.gradient(outputs, [inputs, scale], d_outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(rng, shape, dtype):
    inputs, scale, d_outputs = draw(rng, shape)
    x, dy = (tf.cast(a, dtype) for a in (inputs, d_outputs))
    scale = tf.constant(scale, tf.float32)
    actual = run(x, scale, dy)
    expected = reference(*(np.array(tf.cast(a, tf.float64)) for a in (x, scale, dy)))
    # Sums of n terms of O(1) err by at most n roundings, and in practice by about sqrt(n); the
    # factors are O(1 / deviation), and the results are rounded once.
    features, rows = shape[-1], x.shape.num_elements() // shape[-1]
    single, stored = UNIT_ROUNDOFF["float32"], UNIT_ROUNDOFF[dtype]
    least = np.sqrt(np.array(tf.cast(x, tf.float64)).var(-1).min() + EPSILON)
    of_row = 64 * np.sqrt(features) * single / least
    for name, a, e, bound in zip(
        ("outputs", "d_inputs", "d_scale"),
        actual,
        expected,
        (
            of_row + 8 * stored,
            (of_row + 8 * stored) / least,
            of_row * np.sqrt(rows) + rows * single,
        ),
        strict=True,
    ):
        assert a.dtype == ("float32" if name == "d_scale" else dtype)
        np.testing.assert_allclose(
            tf.cast(a, tf.float64), e, rtol=2 * stored, atol=bound, err_msg=name
        )


def test_a_large_mean_does_not_cancel():
    """The variance is the mean of squares of differences, not a difference of squares."""
    inputs = 4096 + np.array([[-1.0, 1, -3, 3]])
    outputs = layer_normalization(tf.constant(inputs, tf.float32), tf.ones([4]), 0)
    np.testing.assert_allclose(outputs, (inputs - 4096) / np.sqrt(5), rtol=1e-6)


def test_constant_rows_and_one_feature(mode):
    for inputs in (7 * tf.ones([3, 5]), tf.constant([[2.0], [-3.0]])):
        results = call(run, [inputs, tf.ones(inputs.shape[-1:]), tf.ones_like(inputs)], mode)
        for result in results:
            np.testing.assert_array_equal(result, np.zeros(result.shape))


def test_inf_and_nan_stay_in_their_row():
    inputs = tf.constant([[1.0, 2, 4], [np.inf, 1, 2], [np.nan, 1, 2], [1, 2, 4]])
    outputs = layer_normalization(inputs, tf.ones([3]), EPSILON)
    assert np.isnan(outputs[1:3]).all()
    np.testing.assert_array_equal(outputs[0], outputs[3])
    assert np.isfinite(outputs[0]).all()


def derivatives(inputs, scale, d_outputs):
    """Derivatives of the first and second order."""
    given = [inputs, scale, d_outputs]
    with tf.GradientTape() as outer:
        outer.watch(given)
        first = run(*given)
        loss = tf.add_n([tf.reduce_sum(tf.cast(tf.sin(v), tf.float32)) for v in first])
    return [*first, *outer.gradient(loss, given)]


@pytest.mark.parametrize("shape", [(2, 9, 7), (3, 64)])
def test_modes_agree(rng, shape):
    arguments = [tf.constant(a, tf.float32) for a in draw(rng, shape)]
    eager = call(derivatives, arguments, "eager")
    for mode in MODES[1:]:
        results = call(derivatives, arguments, mode)
        for value, expected in zip(results[:3], eager[:3], strict=True):
            np.testing.assert_array_equal(value, expected)
        for value, expected in zip(results[3:], eager[3:], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_second_derivatives(rng):
    """Against central differences, in float64, of the gradients' definition."""
    arrays = draw(rng, (4, 6))
    arguments = [tf.constant(a, tf.float32) for a in arrays]
    second = derivatives(*arguments)[3:]

    def loss(*arrays):
        return sum(np.sin(value).sum() for value in reference(*arrays))

    step = 1e-5
    for which, actual in enumerate(second):
        for index in np.ndindex(arrays[which].shape):
            moved = [[a.copy() for a in arrays] for _ in range(2)]
            moved[0][which][index] += step
            moved[1][which][index] -= step
            slope = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
            np.testing.assert_allclose(actual[index], slope, rtol=1e-3, atol=1e-4)


def test_composed_gradients_are_those_of_the_op(rng):
    inputs, scale, d_outputs = (tf.constant(a, tf.float32) for a in draw(rng, (5, 6, 33)))
    composed = composed_gradients(inputs, scale, d_outputs, EPSILON)
    for actual, expected in zip(composed, run(inputs, scale, d_outputs)[1:], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("one_scale", [False, True])
def test_vectorized(rng, one_scale):
    inputs, scale, d_outputs = (tf.constant(a, tf.float32) for a in draw(rng, (3, 5, 2, 8)))
    scales = tf.stack([scale, 2 * scale, scale - 1])

    def one(elements):
        x, s, dy = elements
        return run(x, scale if one_scale else s, dy)

    actual = tf.vectorized_map(one, (inputs, scales, d_outputs), fallback_to_while_loop=False)
    for i in range(3):
        expected = run(inputs[i], scale if one_scale else scales[i], d_outputs[i])
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a[i], e, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 3)])
def test_no_rows(mode, shape):
    outputs, d_inputs, d_scale = call(
        run, [tf.zeros(shape), tf.ones(shape[-1:]), tf.zeros(shape)], mode
    )
    assert outputs.shape == d_inputs.shape == shape
    np.testing.assert_array_equal(d_scale, np.zeros(shape[-1]))


BAD = {
    "at least one feature": {"inputs": tf.zeros([2, 0]), "scale": tf.zeros([0])},
    "at least one feature, but have shape \\[\\]": {"inputs": tf.zeros([])},
    "scale must have shape": {"scale": tf.zeros([5])},
    "scale must have": {"scale": tf.zeros([1, 4])},
    "epsilon must be 0 or more, but is -1": {"epsilon": -1.0},
    "epsilon must be 0 or more, but is nan": {"epsilon": float("nan")},
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, known):
    given = {"inputs": tf.zeros([2, 4]), "scale": tf.zeros([4]), "epsilon": 1e-3, **BAD[message]}
    epsilon = given.pop("epsilon")

    def normalize(*tensors):
        return layer_normalization(*tensors, epsilon)

    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        if known:
            normalize(*given.values())
        else:
            signature = [tf.TensorSpec(None, t.dtype) for t in given.values()]
            tf.function(normalize, input_signature=signature)(*given.values())


def test_bad_gradients():
    gradient = load_ops().tf_plr_layer_normalization_grad
    rows, scale = tf.zeros([2, 4]), tf.zeros([4])
    for message, statistics, d_outputs in (
        ("statistics must have", tf.zeros([2, 4]), rows),
        ("d_outputs must have", tf.zeros([2, 2]), tf.zeros([4, 2])),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            gradient(rows, scale, statistics, d_outputs, epsilon=1e-3)


@pytest.mark.parametrize("layer", [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_normalised_layers_run_it(layer, dtype):
    layer = layer(6, layer_normalization=True, dtype=dtype)
    x = tf.ones([2, 7, 4])
    layer(x)
    counts = {}
    for name, options in {"native": {}, "composed": {"algorithm": "composed"}}.items():
        config = {**layer.get_config(), **options}
        made = type(layer).from_config(config)
        made(x)
        graph = tf.function(made).get_concrete_function(x).graph
        counts[name] = sum(op.type == "TfPlr>LayerNormalization" for op in graph.get_operations())
    normalizations = 2 if isinstance(layer, tf_plr.GILRLSTM) else 1
    assert counts == {"native": normalizations, "composed": 0}
