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
# chunks of one row, of many rows, and of unequal sizes.
SHAPES = [
    (3, 1), (2, 5, 5), (17, 33), (9, 7, 64), (600, 12), (40, 1024), (5, 1100), (3, 3000),
    (20, 4096), (18, 9001), (2, 20000), (9000, 6),
]  # fmt: skip


def draw(rng, shape):
    inputs = 2 * rng.normal(size=shape) + rng.normal(size=(*shape[:-1], 1))
    scale, bias = rng.uniform(0.5, 2, (2, *shape[-1:]))
    return inputs, scale, bias, rng.normal(size=shape)


def reference(inputs, scale, bias, d_outputs):
    """The outputs, and the gradients with respect to the other arguments, from the definition."""
    deviation = np.sqrt(inputs.var(-1, keepdims=True) + EPSILON)
    normalized = (inputs - inputs.mean(-1, keepdims=True)) / deviation
    g = d_outputs * scale
    mean_product = (g * normalized).mean(-1, keepdims=True)
    d_inputs = (g - g.mean(-1, keepdims=True) - normalized * mean_product) / deviation
    rows = tuple(range(inputs.ndim - 1))
    d_scale, d_bias = (d_outputs * normalized).sum(rows), d_outputs.sum(rows)
    return scale * normalized + bias, d_inputs, d_scale, d_bias


def run(inputs, scale, bias, d_outputs):
    given = [tensor for tensor in (inputs, scale, bias) if tensor is not None]
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs = layer_normalization(inputs, scale, bias, EPSILON)
    return outputs, *tape.gradient(outputs, given, d_outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients(rng, shape, dtype, with_bias):
    inputs, scale, bias, d_outputs = draw(rng, shape)
    x, dy = (tf.cast(a, dtype) for a in (inputs, d_outputs))
    scale, bias = (tf.constant(a, tf.float32) for a in (scale, with_bias * bias))
    actual = run(x, scale, bias if with_bias else None, dy)
    expected = reference(*(np.array(tf.cast(a, tf.float64)) for a in (x, scale, bias, dy)))
    # Sums of n terms of O(1) err by at most n roundings, and in practice by about sqrt(n); the
    # factors are O(1 / deviation), and the results are rounded once.
    features, rows = shape[-1], x.shape.num_elements() // shape[-1]
    single, stored = UNIT_ROUNDOFF["float32"], UNIT_ROUNDOFF[dtype]
    least = np.sqrt(np.array(tf.cast(x, tf.float64)).var(-1).min() + EPSILON)
    of_row = 64 * np.sqrt(features) * single / least
    bounds = {
        "outputs": of_row,
        "d_inputs": of_row / least,
        "d_scale": of_row * np.sqrt(rows) + 4 * rows * single,
        "d_bias": 4 * rows * single,
    }
    assert len(actual) == 3 + with_bias
    for (name, bound), a, e in zip(bounds.items(), actual, expected, strict=False):
        assert a.dtype == (dtype if name in ("outputs", "d_inputs") else "float32")
        np.testing.assert_allclose(
            tf.cast(a, tf.float64), e, rtol=2 * stored, atol=bound, err_msg=name
        )


def test_a_large_mean_does_not_cancel():
    """The variance is the mean of squares of differences, not a difference of squares."""
    inputs = 4096 + np.array([[-1.0, 1, -3, 3]])
    outputs = layer_normalization(tf.constant(inputs, tf.float32), tf.ones([4]), None, 0)
    np.testing.assert_allclose(outputs, (inputs - 4096) / np.sqrt(5), rtol=1e-6)


def test_constant_rows_and_one_feature(mode):
    for inputs in (7 * tf.ones([3, 5]), tf.constant([[2.0], [-3.0]])):
        arguments = [inputs, tf.ones(inputs.shape[-1:]), None, tf.ones_like(inputs)]
        results = call(run, arguments, mode)
        for result in results:
            np.testing.assert_array_equal(result, np.zeros(result.shape))


def test_inf_and_nan_stay_in_their_row():
    inputs = tf.constant([[1.0, 2, 4], [np.inf, 1, 2], [np.nan, 1, 2], [1, 2, 4]])
    outputs = layer_normalization(inputs, tf.ones([3]), None, EPSILON)
    assert np.isnan(outputs[1:3]).all()
    np.testing.assert_array_equal(outputs[0], outputs[3])
    assert np.isfinite(outputs[0]).all()


def derivatives(*given):
    """The outputs, and derivatives of the first and second order."""
    given = list(given)
    with tf.GradientTape() as outer:
        outer.watch(given)
        first = run(*given)
        loss = tf.add_n([tf.reduce_sum(tf.cast(tf.sin(v), tf.float32)) for v in first])
    return [*first, *outer.gradient(loss, given)]


def draw_tensors(rng, shape, dtype):
    inputs, *vectors, d_outputs = draw(rng, shape)
    return [
        tf.cast(inputs, dtype),
        *(tf.cast(v, "float32") for v in vectors),
        tf.cast(d_outputs, dtype),
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 9, 7), (3, 64)])
def test_modes_agree(rng, shape, dtype):
    arguments = draw_tensors(rng, shape, dtype)
    eager = call(derivatives, arguments, "eager")
    for mode in MODES[1:]:
        results = call(derivatives, arguments, mode)
        for value, expected in zip(results[:4], eager[:4], strict=True):
            np.testing.assert_array_equal(value, expected)
        for value, expected in zip(results[4:], eager[4:], strict=True):
            assert value.dtype == expected.dtype
            tolerance = {"float32": 1e-4, "bfloat16": 0.05}[dtype]
            value, expected = (tf.cast(a, tf.float64) for a in (value, expected))
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


def test_second_derivatives(rng):
    """Against central differences, in float64, of the gradients' definition."""
    arrays = draw(rng, (4, 6))
    arguments = [tf.constant(a, tf.float32) for a in arrays]
    second = derivatives(*arguments)[4:]

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
    inputs, *vectors, d_outputs = (tf.constant(a, tf.float32) for a in draw(rng, (5, 6, 33)))
    composed = composed_gradients(inputs, vectors[0], d_outputs, EPSILON)
    for actual, expected in zip(composed, run(inputs, *vectors, d_outputs)[1:], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("one_scale", [False, True])
def test_vectorized(rng, one_scale, dtype):
    inputs, scale, bias, d_outputs = draw_tensors(rng, (3, 5, 2, 8), dtype)
    scales, biases = tf.stack([scale, 2 * scale, scale - 1]), tf.stack([bias, -bias, 0 * bias])

    def one(elements):
        x, s, b, dy = elements
        return run(x, scale, None, dy) if one_scale else run(x, s, b, dy)

    elements = (inputs, scales, biases, d_outputs)
    actual = tf.vectorized_map(one, elements, fallback_to_while_loop=False)
    for i in range(3):
        expected = one([element[i] for element in elements])
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == e.dtype
            tolerance = 2 * UNIT_ROUNDOFF[e.dtype.name] + 1e-5
            each, e = (tf.cast(t, tf.float64) for t in (a[i], e))
            np.testing.assert_allclose(each, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 3)])
def test_no_rows(mode, shape):
    vector = tf.ones(shape[-1:])
    outputs, d_inputs, *sums = call(run, [tf.zeros(shape), vector, vector, tf.zeros(shape)], mode)
    assert outputs.shape == d_inputs.shape == shape
    for total in sums:
        np.testing.assert_array_equal(total, np.zeros(shape[-1]))


BAD = {
    "at least one feature": {"inputs": tf.zeros([2, 0]), "scale": tf.zeros([0])},
    "at least one feature, but have shape \\[\\]": {"inputs": tf.zeros([])},
    "scale must have shape": {"scale": tf.zeros([5])},
    "scale must have": {"scale": tf.zeros([1, 4])},
    "bias must have shape": {"bias": tf.zeros([5])},
    "epsilon must be finite and 0 or more, but is -1e-09": {"epsilon": -1e-9},
    "epsilon must be finite and 0 or more, but is nan": {"epsilon": float("nan")},
    "epsilon must be finite and 0 or more, but is inf": {"epsilon": float("inf")},
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, known):
    given = {
        "inputs": tf.zeros([2, 4]), "scale": tf.zeros([4]), "bias": tf.zeros([4]), "epsilon": 1e-3,
        **BAD[message],
    }  # fmt: skip
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
            gradient(rows, scale, statistics, d_outputs, num_biases=1, epsilon=1e-3)


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
